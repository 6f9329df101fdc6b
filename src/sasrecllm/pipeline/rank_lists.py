"""Ranking of candidate lists: one liked item against fixed seeded others, and against all others.

Baselines and encoders rank the whole catalogue themselves.  A row that asks the language model is
ranked there by the two stages in which it is served (:mod:`sasrecllm.inference.rerank`), with
``rerank`` items from each channel; everything behind those keeps the encoder's order, so its metrics
stand beside the encoder's on the same lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sasrecllm.baselines.table import RANKED
from sasrecllm.data.candidates import Candidates, longest_lists, ranking_candidates
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import DataError
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.protocol import rank_positives
from sasrecllm.evaluation.ranking import gains, hits, metrics_of_ranks
from sasrecllm.inference.recommender import SASRecLLM
from sasrecllm.inference.rerank import TwoStage
from sasrecllm.runs.opening import Run
from sasrecllm.runs.system import System
from sasrecllm.stages.plan import planned
from sasrecllm.types import Scorer


def wants_ranking(run: Run, dataset: Dataset) -> bool:
    """Whether the run's table has ranking lists."""
    when = run.config.evaluation.ranking.when
    return when == "always" or (when == "auto" and dataset.implicit)


def rank(run: Run, dataset: Dataset, system: System) -> dict[str, Any]:
    """List kind -> rows (row -> metric -> [value, low, high]) on every liked row of the test split.

    ``reranked`` beside them says of which rows only that many of each channel's best were asked about.
    """
    c = run.config.evaluation.ranking
    out: dict[str, Any] = {}
    drawn = longest_lists(dataset, "test", c.negatives)
    liked = int((dataset.labels[dataset.rows("test")] == 1).sum())
    for negatives in dict.fromkeys((drawn or None, None)):
        kind = "whole catalogue" if negatives is None else f"1 + {negatives} items"
        try:
            lists = ranking_candidates(dataset, "test", negatives=negatives)
        except DataError as refusal:  # a metric that is undefined here is no reason to lose the others
            run.progress.warning(f"no ranking lists, {kind}: {refusal.what}")
            continue
        boot = UserBootstrap(lists.histories.users, run.config.evaluation.resamples, run.config.seed)
        rows, reranked = {}, {}
        for scorer in row_scorers(run, system, whole=negatives is None):
            run.progress.line(f"ranking, {kind}: {scorer.name}")
            rows[scorer.name] = _judged(scorer, lists, boot)
            if isinstance(scorer, TwoStage):
                reranked[scorer.name] = scorer.count
        left_out = liked - len(lists.rows)
        out[kind] = {"lists": len(lists.rows), "rows": rows, "reranked": reranked, "left_out": left_out}
    return out


def _judged(scorer: Scorer, lists: Candidates, boot: UserBootstrap) -> dict[str, Any]:
    ranks = rank_positives(scorer, lists.histories, lists.items)
    values = metrics_of_ranks(ranks, lists.items.shape[1], (10,))
    draws = {"hr@10": hits(ranks, 10), "ndcg@10": gains(ranks, 10), "mrr": 1 / ranks}
    return {k: interval(values[k], boot.row_mean(v)).to_list() for k, v in draws.items()}


def row_scorers(run: Run, system: System, *, whole: bool) -> Iterator[Scorer]:
    """Every row of the table, each with its parts as its own stage left them.

    Args:
        whole: for lists that hold the whole catalogue, which a served system answers in two stages.
    """
    c = run.config.evaluation
    for name in dict.fromkeys((*RANKED, *c.baselines)):
        yield system.component(name, "text")
    stages = planned(run.config)
    for folder, stage in run.folder.of_stages(stages):
        system.bring_in(run.folder.newest_parts(before=folder.number + 1))
        scorer = stage.kind.scorer(system, stage, stages)
        if not whole or stage.kind.ranks_catalogue:
            yield scorer
        elif count := c.ranking.rerank:
            yield SASRecLLM(system, scorer).by_score(count)
