"""What an update changed: the run before and this one on the same rows, which neither has seen.

A run is judged as it is served: with items that it does not know by their words, and with what people
did since in their histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.checkpoint import write_json
from sasrecllm.data.candidates import servable_items, servable_likes
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.comparison import Judge
from sasrecllm.evaluation.intervals import interval
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.evaluation.served_lists import Asked, ListTable, spread_over_users
from sasrecllm.inference.recommender import Recommender
from sasrecllm.inference.requests import NewItem
from sasrecllm.machine.progress import Progress
from sasrecllm.reports.write import write_report
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.seal import resealed
from sasrecllm.seeds import SERVED_LISTS
from sasrecllm.stages.list_budget import lists_per_row
from sasrecllm.stages.stored_scores import stage_scores
from sasrecllm.stages.strategies import planned
from sasrecllm.types import (
    UNKNOWN,
    FloatArray,
    Histories,
    IntArray,
    Scorer,
    asks_by_prompts,
    prompts_of_list,
)

BEFORE, AFTER = "before", "after"
DECIDES = ("auc", "hr@10")
"""Surely worse by one of these is surely worse."""


class Elsewhere:
    """A scorer that is asked in the indices of another catalogue.

    Args:
        items, users: index of the scorer for each index here; users UNKNOWN where it knows none.
    """

    def __init__(self, name: str, scorer: Scorer, items: IntArray, users: IntArray) -> None:
        self.name, self.scorer, self.items, self.users = name, scorer, items, users
        self.asks_language_model = asks_by_prompts(scorer)
        self.prompts = prompts_of_list(scorer)

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


class Served:
    """A system as it would be served to the users and items of ``catalog``.

    Args:
        name: of its rows.
    """

    def __init__(self, name: str, system: Recommender, catalog: Catalog) -> None:
        self.name = name
        self.items = system.catalog.item_index(catalog.item_ids)
        self.users = system.dataset.catalog.user_index(catalog.user_ids)
        fresh = np.flatnonzero(self.items == UNKNOWN)
        self.items[fresh] = system.catalog.n_items + np.arange(len(fresh))
        new = [
            NewItem(
                catalog.item_id(i),
                catalog.title(i),
                {key: values[i] for key, values in catalog.attributes.items()},
            )
            for i in fresh.tolist()
        ]
        self.system = system.with_items(new) if new else system

    def scorer(self) -> Elsewhere:
        """Its P(like)."""
        return Elsewhere(self.name, self.system, self.items, self.users)

    def lists(self, count: int) -> Elsewhere:
        """Its lists."""
        return Elsewhere(self.name, self.system.two_stage(count), self.items, self.users)


def judged(
    systems: Mapping[str, Recommender],
    dataset: Dataset,
    *,
    resamples: int,
    seed: int,
    lists: int,
    progress: Progress,
    known: Mapping[str, FloatArray] | None = None,
) -> dict[str, Any]:
    """All ``systems`` on the test split of ``dataset``, the differences paired.

    Args:
        systems: name -> system; the difference of each to the one before it is taken.
        lists: how many of the test's likes are asked for; 0 for none.
        known: name -> scores of the test by a system that has given them already.

    Returns:
        ``rows``; ``lists``, how many there are; ``metrics``: metric -> row -> [value, low, high], and
        under ``differences`` of it ``b minus a`` likewise.
    """
    test = dataset.questions("test")
    served = [Served(name, system, dataset.catalog) for name, system in systems.items()]
    judge = Judge(test, {}, resamples, seed)
    for one in served:
        bar = progress.bar(f"P(like), {one.name}")
        scores = (known or {}).get(one.name)
        if scores is None:
            scores = score_questions(one.scorer(), test, progress=bar)
        judge.evaluation(one.name, scores, one.system.calibration)
    metrics = {
        metric: _paired(
            {name: interval(*judge.draws[name][metric]).to_list() for name in systems},
            metric,
            judge.differences,
        )
        for metric in ("auc", "uauc", "log_loss")
    }
    rows, rng = servable_likes(dataset, "test"), np.random.default_rng([seed, SERVED_LISTS])
    drawn = rows[spread_over_users(dataset.users[rows], lists, rng)]
    if len(drawn):
        asked = Asked(dataset.histories(drawn), dataset.items[drawn], servable_items(dataset))
        counts = dataset.train_counts.astype(np.float64)
        metrics |= _of_lists(served, ListTable(asked, counts, resamples=resamples, seed=seed), progress)
    return {"rows": len(test), "lists": len(drawn), "metrics": metrics}


def _of_lists(served: Sequence[Served], table: ListTable, progress: Progress) -> dict[str, Any]:
    """Metric of lists -> row -> [value, low, high], and the differences."""
    rows = {
        one.name: table.add(one.lists(100), progress=progress.bar(f"lists, {one.name}"))
        for one in served
    }
    return {
        metric: _paired({name: row[metric] for name, row in rows.items()}, metric, table.difference)
        for metric in ("hr@10", "ndcg@10")
    }


def _paired(
    rows: Mapping[str, Any], metric: str, differences: Callable[[str, str], Mapping[str, Any]]
) -> dict[str, Any]:
    """``rows`` (name -> value), with the difference of each to the one before it."""
    changes = {f"{b} minus {a}": differences(b, a)[metric] for a, b in pairwise(rows)}
    return {**rows, "differences": changes}


def before_after(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Both runs on the rows that an update holds out, kept as ``update.json`` and in the report.

    Returns:
        What :func:`judged` says, ``of``, the run before, and ``worse``: those of ``DECIDES`` that are
        surely worse.
    """
    there, c = RunFolder(Path(run.config.update.of)), run.config.evaluation
    old, new = (Recommender.of_run(folder, run.config.device) for folder in (there, run.folder))
    stages = planned(run.config)
    last, final = list(run.folder.of_stages(stages))[-1]
    found = judged(
        {BEFORE: old, AFTER: new},
        dataset,
        resamples=c.resamples,
        seed=run.config.seed,
        lists=0 if c.ranking.when == "never" else _affordable(run, dataset, new),
        progress=run.progress,
        known={AFTER: stage_scores(run, dataset, stages, last, final)["test"]},
    )
    changes = {
        metric: values["differences"][f"{AFTER} minus {BEFORE}"]
        for metric, values in found["metrics"].items()
    }
    worse = [m for m in DECIDES if m in changes and (changes[m][2] or 0.0) < 0]
    out = found | {"of": str(there), "worse": worse}
    with resealed(run.folder):
        write_json(run.folder.update, out)
        write_report(run, dataset, redraw=False)  # with the table of both
    return out


def _affordable(run: Run, dataset: Dataset, system: Recommender) -> int:
    """How many lists are asked for: all, or those that the language model may cost."""
    fusion = system.fusion
    fused = 0 if fusion is None else fusion.rerank_prompts
    if not system.asks_language_model or (fusion is not None and not fused):
        return run.config.evaluation.ranking.users
    return lists_per_row(run.config, dataset, planned(run.config), fused).served
