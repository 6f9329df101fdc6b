"""The lists of a run: what every row would serve, and one liked item against fixed seeded others.

Baselines and encoders order the whole catalogue themselves.  A row that asks the language model is
judged by the two stages in which it is served (:mod:`sasrecllm.inference.rerank`), with ``rerank``
items from each channel; everything behind those keeps the encoder's order, so its metrics stand beside
the encoder's on the same lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sasrecllm.baselines.table import LISTED
from sasrecllm.data.candidates import (
    Candidates,
    longest_lists,
    ranking_candidates,
    servable_items,
    servable_rows,
)
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import DataError
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.protocol import rank_positives
from sasrecllm.evaluation.ranking import gains, hits, metrics_of_ranks
from sasrecllm.evaluation.served_lists import Asked, ListTable, spread_over_users
from sasrecllm.inference.recommender import Recommender
from sasrecllm.machine.progress import Tell
from sasrecllm.runs.opening import Run
from sasrecllm.runs.scorers import best_channel, component
from sasrecllm.runs.system import System
from sasrecllm.seeds import SERVED_LISTS
from sasrecllm.stages.fuse_lists import said
from sasrecllm.stages.list_budget import lists_of_row
from sasrecllm.stages.strategies import planned
from sasrecllm.types import IntArray, Scorer

WHOLE = "whole catalogue"
"""The kind of list that is served."""
REFERENCE = "popularity"
"""The row that every other row of lists is compared with."""


def rank(run: Run, dataset: Dataset, system: System) -> dict[str, Any]:
    """List kind -> rows (row -> metric -> value or [value, low, high]) on liked rows of the test split.

    ``reranked`` beside them says of which rows only that many of each channel's best were asked about.
    """
    when = run.config.evaluation.ranking.when
    if when == "auto" and run.config.update.of:
        return {}  # an update is judged beside the run before it, which takes a fraction of the time
    out: dict[str, Any] = {}
    if when == "always" or (when == "auto" and dataset.implicit):
        out |= _among_drawn(run, dataset, system)
    if when != "never":
        out |= _served(run, dataset, system)
    return out


def _served(run: Run, dataset: Dataset, system: System) -> dict[str, Any]:
    """The table of lists over the whole catalogue."""
    c = run.config.evaluation
    rows, liked = servable_rows(dataset, "test")
    if not len(rows):
        run.progress.warning(
            f"no lists, {WHOLE}: no test row is a like of an item that may be recommended"
        )
        return {}
    rng = np.random.default_rng([run.config.seed, SERVED_LISTS])
    drawn = rows[spread_over_users(dataset.users[rows], c.ranking.users, rng)]
    table = _table_of(run, dataset, system, drawn)
    fusion, stages = system.list_fusion, planned(run.config)
    lists_of = lists_of_row(run.config, dataset, stages, fusion)
    found: dict[str, Any] = {}
    name, reranked, left = "", {}, []
    for scorer in row_scorers(run, system, whole=True):
        name = scorer.name
        count = lists_of(scorer)
        if not count:
            left.append(name)
            continue
        run.progress.line(f"lists, {WHOLE}: {name}")
        found[name] = table.add(scorer, count, run.progress.bar(f"lists, {name}"))
        if some := getattr(scorer, "reranked", 0):
            reranked[name] = some
    for row, got in found.items():
        got["minus popularity"] = table.difference(row, REFERENCE) if row != REFERENCE else {}
        got["served minus it"] = table.difference(name, row) if name in found and row != name else {}
    if left:
        run.progress.line(
            f"no lists of {', '.join(left)}: the language model would take more than a tenth of the run"
            " for them (evaluation.ranking.when=always)"
        )
    return {
        WHOLE: {
            "lists": len(drawn),
            "users": len(np.unique(dataset.users[drawn])),
            "of_users": len(np.unique(dataset.users[rows])),
            "of_lists": len(rows),
            "reference": REFERENCE,
            "served": name if name in found else None,
            "fusion": None if fusion is None else said(fusion),
            "rows": found,
            "reranked": reranked,
            "left_out": liked - len(rows),
        }
    }


def _table_of(run: Run, dataset: Dataset, system: System, drawn: IntArray) -> ListTable:
    """The table, still without rows, of the lists that the rows ``drawn`` ask for."""
    train = dataset.rows("train")
    likes = train[dataset.labels[train] == 1]
    return ListTable(
        Asked(dataset.histories(drawn), dataset.items[drawn], servable_items(dataset)),
        np.bincount(dataset.items[likes], minlength=dataset.n_items).astype(np.float64),
        vectors_ID=np.hstack(system.item_features) if system.item_features else None,
        resamples=run.config.evaluation.resamples,
        seed=run.config.seed,
    )


def _among_drawn(run: Run, dataset: Dataset, system: System) -> dict[str, Any]:
    """Lists of every liked test row and fixed seeded others."""
    c = run.config.evaluation
    drawn = longest_lists(dataset, "test", c.ranking.negatives)
    if not drawn:
        return {}
    kind = f"1 + {drawn} items"
    try:
        lists = ranking_candidates(dataset, "test", negatives=drawn)
    except DataError as refusal:  # a metric that is undefined here is no reason to lose the others
        run.progress.warning(f"no ranking lists, {kind}: {refusal.what}")
        return {}
    boot = UserBootstrap(lists.histories.users, c.resamples, run.config.seed)
    rows = {}
    for scorer in row_scorers(run, system, whole=False):
        run.progress.line(f"ranking, {kind}: {scorer.name}")
        rows[scorer.name] = _judged(scorer, lists, boot, run.progress.bar(f"{kind}, {scorer.name}"))
    left_out = servable_rows(dataset, "test")[1] - len(lists.rows)
    return {kind: {"lists": len(lists.rows), "rows": rows, "reranked": {}, "left_out": left_out}}


def _judged(scorer: Scorer, lists: Candidates, boot: UserBootstrap, progress: Tell) -> dict[str, Any]:
    ranks = rank_positives(scorer, lists.histories, lists.items, progress=progress)
    values = metrics_of_ranks(ranks, lists.items.shape[1], (10,))
    draws = {"hr@10": hits(ranks, 10), "ndcg@10": gains(ranks, 10), "mrr": 1 / ranks}
    return {k: interval(values[k], boot.row_mean(v)).to_list() for k, v in draws.items()}


def row_scorers(run: Run, system: System, *, whole: bool) -> Iterator[Scorer]:
    """Every row of the table, each with its parts as its own stage left them; the served one last.

    Args:
        whole: for lists that hold the whole catalogue, which a served system answers in two stages.
            Before what is served then stands its best channel alone, by the validation likes.
    """
    c = run.config.evaluation
    baselines = tuple(dict.fromkeys((*LISTED, *c.baselines)))
    for name in baselines:
        yield component(system, name, "text")
    stages = planned(run.config)
    final = list(stages)[-1]
    for folder, stage in run.folder.of_stages(stages):
        system.bring_in(run.folder.newest_parts(before=folder.number + 1))
        scorer = stage.kind.scorer(system, stage, stages)
        if not whole or (stage.kind.ranks_catalogue and stage.name != final):
            yield scorer
        elif count := c.ranking.rerank:
            yield (own := Recommender(system, scorer)).maker.by_score(own, count)
        elif stage.kind.ranks_catalogue:
            yield scorer
    if whole and system.list_fusion is not None:  # what orders the served lists, then
        yield from best_channel(system, baselines)
        yield Recommender(system, scorer).two_stage(c.ranking.rerank or 1)
