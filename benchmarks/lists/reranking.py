"""What a row's P(like) could add to the order of the list fusion, in a finished run.

A reranker sees the best items of the fusion and no others.  So of a seeded sample of test likes, over
as many users as possible:

* *found*: how often the like is among them at all, which no order of them can better,
* *above*: where it is, the share of the others that a score puts below it (ties half); .5 is chance,
* *in hindsight*: NDCG@10 of the fusion's order with the score added at the weight that is best on
  these very likes, beside NDCG@10 without it.  The weight is chosen on what it is judged by, so this
  is more than any weight can be relied on to give.

Legend: Q likes.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.checkpoint import read_json
from sasrecllm.data.candidates import servable_items, servable_likes
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.served_lists import spread_over_users
from sasrecllm.fusion.contests import PLACES, Contests
from sasrecllm.fusion.list_rerank import reranked_contests
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System
from sasrecllm.seeds import RERANKED_LIKES
from sasrecllm.settings import Config
from sasrecllm.stages.strategies import planned
from sasrecllm.types import FloatArray, IntArray, Scorer

WEIGHTS = (0.0, *np.geomspace(0.03, 30.0, 31))
"""Standardised scores, as the fusion weighs its channels: from nothing to the score alone."""
FUSION = "list fusion"


def reranking(
    run: Path, names: Sequence[str], most: int, progress: Progress | None = None
) -> dict[str, Any]:
    """The table of one finished run; see the module.

    Args:
        names: rows of its table; all of them where there are none.
        most: likes that are asked about, at most.

    Raises:
        ConfigError: the run has no list fusion, or no such row.
        DataError: no test like of it may be served.
    """
    folder, progress = RunFolder(run), progress or Progress(quiet=True)
    config, dataset = stored_config(folder), stored_data(folder)
    system = System.load(folder, "cpu", config, dataset)
    fusion = system.list_fusion
    if fusion is None:
        raise ConfigError(f"{run} has no list fusion", "train it with lists.enabled=true")
    rows = sample_of(dataset, most, config.seed)
    best = min(config.lists.best, dataset.n_items)
    out: dict[str, Any] = {}
    for scorer in scorers_of(folder, system, config, names):
        found, scale = reranked_contests(
            scorer,
            fusion.scores,
            dataset.histories(rows),
            dataset.items[rows],
            free=servable_items(dataset),
            n_items=dataset.n_items,
            best=best,
            progress=progress.bar(f"P(like) of {scorer.name}"),
        )
        judged = judged_order(found, dataset.users[rows], config.seed)
        out.setdefault(FUSION, judged.pop(FUSION))
        out[scorer.name] = judged | {"scale": scale}
    return {
        "data": dataset.name,
        "likes": len(rows),
        "best": best,
        "rows": out,
        "seed": config.seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": read_json(folder.environment)["git"],
    }


def sample_of(dataset: Dataset, most: int, seed: int) -> IntArray:
    """Rows of the test likes that are asked about, in the order of the rows.

    Raises:
        DataError: there is none whose item may be served.
    """
    likes = servable_likes(dataset, "test")
    if not len(likes):
        raise DataError(
            "no test like of this run may be served", "choose a split with likes (data.split)"
        )
    rng = np.random.default_rng([seed, RERANKED_LIKES])
    return likes[np.sort(spread_over_users(dataset.users[likes], most, rng))]


def scorers_of(
    folder: RunFolder, system: System, config: Config, names: Sequence[str]
) -> Iterator[Scorer]:
    """The rows ``names`` of the run's table, each with its parts as its own stage left them.

    Raises:
        ConfigError: a name that is none of the run's rows.
    """
    stages = planned(config)
    rows = [stage.row for stage in stages.values() if stage.kind.has_row]
    if unknown := [name for name in names if name not in rows]:
        raise ConfigError(f"no row {unknown[0]!r}; the run has {', '.join(rows)}", "name one of these")
    for stored, stage in folder.of_stages(stages):
        if stage.kind.has_row and (not names or stage.row in names):
            system.bring_in(folder.newest_parts(before=stored.number + 1))
            yield stage.kind.scorer(system, stage, stages)


def judged_order(contests: Contests, users: IntArray, seed: int) -> dict[str, Any]:
    """What the second of two scores is worth beside the first; see the module.

    Args:
        contests: standardised scores of the fusion and of the row.
        users: [Q] whose like each is.
    """
    draws = UserBootstrap(users, seed=seed)
    gains = np.stack([contests.gains(np.array([1.0, weight])) for weight in WEIGHTS])
    highest = int(np.argmax(gains.mean(1)))
    more = gains[highest] - gains[0]
    there = np.flatnonzero(contests.liked >= 0)
    found = (contests.liked >= 0).astype(np.float64)

    def mean(values: FloatArray, boot: UserBootstrap = draws) -> list[float | None]:
        value = float(values.mean()) if len(values) else None
        return interval(value, boot.row_mean(values)).to_list()

    among = UserBootstrap(users[there], seed=seed)
    return {
        FUSION: {
            "found": mean(found),
            f"ndcg@{PLACES}": mean(gains[0]),
            "above": mean(share_below(contests, 0)[there], among),
        },
        "above": mean(share_below(contests, 1)[there], among),
        "in hindsight": {
            "weight": float(WEIGHTS[highest]),
            f"ndcg@{PLACES}": mean(gains[highest]),
            "gain": mean(more),
        },
    }


def share_below(contests: Contests, feature: int) -> FloatArray:
    """Share of the others of each contest that score below its like, ties half, [Q]; NaN without it."""
    out = np.full(len(contests.liked), np.nan)
    for place in np.flatnonzero(contests.liked >= 0):
        part = contests.features[contests.offsets[place] : contests.offsets[place + 1], feature]
        own, others = contests.features[contests.liked[place], feature], len(part) - 1
        if others:
            out[place] = ((part < own).sum() + 0.5 * ((part == own).sum() - 1)) / others
    return out
