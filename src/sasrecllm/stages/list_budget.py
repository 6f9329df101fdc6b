"""How many lists of a row that asks the language model are judged: under a tenth of the run's time.

Time is counted in prompts, not in seconds, so that the same settings and data judge the same lists on
every machine: a training step takes as long as three prompts without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.splits import TEST, TRAIN, VALID
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.runs.language_model import is_own
from sasrecllm.settings import Config
from sasrecllm.stages.kind import Stages
from sasrecllm.stages.replay import rows_to_learn, steps_of_update
from sasrecllm.types import Scorer, prompts_of_list

SHARE = 0.1
STEP = 3
"""A prompt forwards and backwards, in prompts forwards."""
FEWEST_LISTS = 20
"""Of fewer lists than this nothing can be said."""
ENOUGH = 100
"""Lists of every row before any but the served one has some."""
OWN = 5_000
"""Prompts that a run's own small model reads in a few seconds, in however small a run."""


class ListsPerRow(NamedTuple):
    """How many lists are judged of the rows that ask the language model."""

    earlier: int
    served: int


def prompt_budget(config: Config, dataset: Dataset, stages: Stages) -> int:
    """Prompts that the lists of a run of ``stages`` may cost."""
    budget = SHARE * prompts_of(config, dataset, stages)
    return int(max(budget, OWN) if is_own(config) else budget)


def lists_per_row(config: Config, dataset: Dataset, stages: Stages, fused: int = 0) -> ListsPerRow:
    """The served row goes first; 0 where lists would be fewer than ``FEWEST_LISTS``.

    ``evaluation.ranking.when=always`` judges as many as of the other rows.

    Args:
        stages: those that end with a row of the table.
        fused: prompts of a list of the list fusion; where it needs none, the run's last row goes first.
    """
    ranking = config.evaluation.ranking
    if ranking.when == "always":
        return ListsPerRow(ranking.users, ranking.users)
    asking = [s for s in stages.values() if s.kind.prompt(s, stages, config) is not None]
    # Two channels name candidates: the encoder, and the words of the items without a vector.
    prompts = max(1, min(2 * ranking.rerank, dataset.n_items))
    budget = prompt_budget(config, dataset, stages)
    each = min(ranking.users, budget // (prompts * max(1, len(asking)) + fused))
    if each >= min(ENOUGH, ranking.users):
        return ListsPerRow(each, each)
    alone = min(ranking.users, budget // (fused or prompts))
    return ListsPerRow(0, alone if alone >= min(FEWEST_LISTS, ranking.users) else 0)


def lists_of_row(
    config: Config, dataset: Dataset, stages: Stages, fusion: ListFusion | None
) -> Callable[[Scorer], int]:
    """How many lists are judged of a row, by its scorer: fewer where each asks the language model.

    Args:
        stages: those that end with a row of the table.
        fusion: the run's list fusion, if any.
    """
    fused = 0 if fusion is None else fusion.rerank_prompts
    most = lists_per_row(config, dataset, stages, fused)
    first = fusion.name if fusion is not None and fused else list(stages.values())[-1].row

    def lists_of(scorer: Scorer) -> int:
        if not prompts_of_list(scorer):
            return config.evaluation.ranking.users
        return most.served if scorer.name == first else most.earlier

    return lists_of


def prompts_of(config: Config, dataset: Dataset, stages: Stages) -> int:
    """Prompts that the language model reads in the whole run, but for lists."""
    c = config.llm
    each = 1 + dataset.negatives if dataset.implicit else 1
    asked = each * sum(map(dataset.tally.rows, (VALID, TEST)))
    train, most = each * dataset.tally.rows(TRAIN), None
    if dataset.former is not None:
        train, most = each * len(rows_to_learn(dataset, config)), config.update.epochs
    total = 0
    for stage in stages.values():
        if stage.kind.asks_language_model:
            epochs = int((stage.loop or {}).get("epochs", c.loop.epochs))
            learnt = train * min(epochs, most or epochs) if stage.train else 0
            if steps := int((stage.loop or {}).get("max_steps", c.loop.max_steps)):
                steps = steps if most is None else steps_of_update(dataset, config, steps)
                learnt = min(learnt, steps * c.loop.batch_size)
            total += STEP * learnt + asked
    if total and is_own(config) and dataset.former is None:  # an update has that of the run before
        own = c.offline
        total += STEP * own.documents * (own.titles_loop.epochs + own.answers_loop.epochs)
    return total
