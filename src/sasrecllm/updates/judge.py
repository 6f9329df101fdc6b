"""What an update changed: the run before and this one on the same rows, which neither has seen.

The run before is judged as it would be served: with the new items by their words, and with what people
did since in their histories.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.checkpoint import write_json
from sasrecllm.data.candidates import servable_likes
from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.comparison import Judge
from sasrecllm.evaluation.intervals import interval
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.evaluation.served_lists import Asked, ListTable, spread_over_users
from sasrecllm.inference.recommender import SASRecLLM
from sasrecllm.inference.requests import NewItem
from sasrecllm.inference.rerank import free_items
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.seal import resealed
from sasrecllm.seeds import SERVED_LISTS
from sasrecllm.stages.list_budget import lists_per_row
from sasrecllm.stages.strategies import planned
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, Scorer

BEFORE, AFTER = "before", "after"
DECIDES = ("auc", "hr@10")
"""Surely worse by one of these is surely worse."""


class Seen:
    """A scorer of the run before, asked in the indices of the run after it.

    Args:
        items, users: index there of each index here; users UNKNOWN where they are new.
    """

    def __init__(self, name: str, scorer: Scorer, items: IntArray, users: IntArray) -> None:
        self.name, self.scorer, self.items, self.users = name, scorer, items, users
        self.asks_language_model = bool(getattr(scorer, "asks_language_model", False))
        self.prompts = int(getattr(scorer, "prompts", 0))

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """See :class:`~sasrecllm.types.Scorer`."""
        asked = Histories(
            self.users[histories.users],
            self.items[histories.items],
            histories.labels,
            histories.times,
            histories.offsets,
            histories.asked_at,
        )
        known = np.where(candidates == UNKNOWN, UNKNOWN, self.items[np.maximum(candidates, 0)])
        return self.scorer.score(asked, known)


class Named:
    """A scorer under another name."""

    def __init__(self, name: str, scorer: Scorer) -> None:
        self.name, self.score = name, scorer.score
        self.asks_language_model = bool(getattr(scorer, "asks_language_model", False))
        self.prompts = int(getattr(scorer, "prompts", 0))


def asked_before(old: SASRecLLM, dataset: Dataset) -> Seen:
    """The run before as a scorer of an update's rows: served with the new items, as it would be."""
    assert dataset.former is not None
    grown, items = _with_new_items(old, dataset)
    return Seen(BEFORE, grown, items, dataset.former.users)


def before_after(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Metrics of both runs and their paired differences, kept as ``update.json``.

    Returns:
        ``rows``, ``lists`` (how many are judged), ``metrics`` (name -> before, after, and after minus
        before, each [value, low, high]), ``worse``: those of ``DECIDES`` that are surely worse.
    """
    assert dataset.former is not None
    there = RunFolder(Path(run.config.update.of))
    old, new = SASRecLLM.load(there, run.config.device), SASRecLLM.load(run.folder, run.config.device)
    old, items = _with_new_items(old, dataset)
    users = dataset.former.users
    test, c = dataset.questions("test"), run.config.evaluation
    judge = Judge(test, {}, c.resamples, run.config.seed)
    for name, system, scorer in (
        (BEFORE, old, Seen(BEFORE, old, items, users)),
        (AFTER, new, Named(AFTER, new)),
    ):
        bar = run.progress.bar(f"scoring the run {name}")
        scores = score_questions(scorer, test, progress=bar)
        judge.evaluation(name, scores, system.calibration)
    found = {BEFORE: _intervals(judge, BEFORE), AFTER: _intervals(judge, AFTER)}
    changed = judge.differences(AFTER, BEFORE)
    metrics = {
        m: {BEFORE: found[BEFORE][m], AFTER: found[AFTER][m], "difference": changed[m]}
        for m in ("auc", "uauc", "log_loss")
    }
    lists = _lists(run, dataset, (old, items, users), new)
    metrics |= lists.pop("metrics")
    worse = [m for m in DECIDES if m in metrics and (metrics[m]["difference"][2] or 0.0) < 0]
    out = {"of": str(there), "rows": len(test), **lists, "metrics": metrics, "worse": worse}
    with resealed(run.folder):
        write_json(run.folder.update, out)
    return out


def _intervals(judge: Judge, name: str) -> dict[str, list[float | None]]:
    return {k: interval(*found).to_list() for k, found in judge.draws[name].items()}


def _with_new_items(old: SASRecLLM, dataset: Dataset) -> tuple[SASRecLLM, IntArray]:
    """The run before with the items that it did not know at its end, and each item's index there."""
    assert dataset.former is not None
    catalog, items = dataset.catalog, dataset.former.items.copy()
    fresh = np.flatnonzero(items == UNKNOWN)
    items[fresh] = old.catalog.n_items + np.arange(len(fresh))
    if not len(fresh):
        return old, items
    columns = catalog.attributes
    told = [
        NewItem(catalog.item_id(i), catalog.title(i), {k: v[i] for k, v in columns.items()})
        for i in fresh.tolist()
    ]
    return old.with_items(told), items


def _lists(
    run: Run, dataset: Dataset, before: tuple[SASRecLLM, IntArray, IntArray], new: SASRecLLM
) -> dict[str, Any]:
    """Hits of both runs' lists on the same seeded likes of the test."""
    c, (old, items, users) = run.config.evaluation, before
    rows = servable_likes(dataset, "test")
    fusion = new.parts.list_fusion
    fused = 0 if fusion is None or fusion.rerank is None else fusion.rerank.prompts
    most = c.ranking.users
    if new.asks_language_model and (fusion is None or fused):
        most = lists_per_row(run.config, dataset, planned(run.config), fused).served
    rng = np.random.default_rng([run.config.seed, SERVED_LISTS])
    drawn = rows[spread_over_users(dataset.users[rows], most, rng)]
    if c.ranking.when == "never" or not len(drawn):
        return {"lists": 0, "metrics": {}}

    def free(known: Histories) -> BoolArray:
        return free_items(known, np.ones(dataset.n_items, dtype=bool), seen=dataset.allow_seen)

    table = ListTable(
        Asked(dataset.histories(drawn), dataset.items[drawn], free),
        dataset.train_counts.astype(np.float64),
        resamples=c.resamples,
        seed=run.config.seed,
    )
    count = c.ranking.rerank or 1
    found = {}
    for served in (
        Seen(BEFORE, old.two_stage(count), items, users),
        Named(AFTER, new.two_stage(count)),
    ):
        bar = run.progress.bar(f"lists of the run {served.name}")
        found[served.name] = table.add(served, progress=bar)
    changed = table.difference(AFTER, BEFORE)
    return {
        "lists": len(drawn),
        "metrics": {
            m: {BEFORE: found[BEFORE][m], AFTER: found[AFTER][m], "difference": changed[m]}
            for m in changed
        },
    }
