"""One table over everything that filled lists: our channels, what is served, and the rivals.

A channel stands alone as it stands in the fusion: made of training and validation rows (the network
keeps its weights and reads the validation like).  The best single channel is chosen twice: by NDCG@10
on validation, as somebody would who had to choose, and by NDCG@10 on the test, in hindsight.  On
validation, items without a training like compete where a channel knows them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.lists.questions import answers, asked_of, served_by
from sasrecllm import SASRecLLM
from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.checkpoint import read_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import DataError
from sasrecllm.evaluation.intervals import UserBootstrap
from sasrecllm.evaluation.metrics import auc
from sasrecllm.evaluation.ranking import gains
from sasrecllm.evaluation.served_lists import PLACES, ListTable, serve
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.runs.channels import CHANNEL_SPLITS, make_channels, usable
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.scores import row_scores
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System
from sasrecllm.stages.fuse_lists import said
from sasrecllm.stages.list_parts import WITHOUT_OFFSET
from sasrecllm.types import FloatArray, Histories, IntArray, Questions

OURS = "ours"
POPULARITY = "popularity"
METRICS = (f"hr@{PLACES}", f"ndcg@{PLACES}")


class Alone(NamedTuple):
    """A channel as a row of the table, whatever else it is."""

    name: str
    channel: ListChannel

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Read out of the scores of all items; no item has 0."""
        scores_BI = np.asarray(self.channel.scores(histories), dtype=np.float64)
        inside = candidates >= 0
        found = np.take_along_axis(scores_BI, np.where(inside, candidates, 0), axis=1)
        return np.where(inside, found, 0.0)


def channels_alone(system: System) -> Iterator[ListChannel]:
    """Every channel that this data can have, as it is served."""
    names, _ = usable(system.config.lists.channels, system)
    yield from make_channels(names, system, system.interactions(CHANNEL_SPLITS))


def judge(run: Path, rivals: Path) -> dict[str, Any]:
    """The table of one data set.

    Args:
        run: finished, with a fusion of lists.
        rivals: folder of their answers; may be empty.

    Raises:
        DataError: the run has no fusion of lists, or a rival's lists are not what was asked.
    """
    folder = RunFolder(run)
    config, dataset = stored_config(folder), stored_data(folder)
    system = System.load(folder, "cpu", config, dataset)
    fusion = system.list_fusion
    if fusion is None:
        raise DataError(f"{run} has no fusion of lists", "train it with lists.enabled=true")
    lists = SASRecLLM.of_run(folder, "cpu", config).two_stage()  # what `recommend` orders by
    asked = asked_of(dataset, "test")
    train = dataset.rows("train")
    likes = dataset.items[train[dataset.labels[train] == 1]]
    counts_I = np.bincount(likes, minlength=dataset.n_items).astype(np.float64)
    table = ListTable(asked, counts_I, resamples=config.evaluation.resamples, seed=config.seed)
    rows: dict[str, dict[str, Any]] = {}
    for channel in channels_alone(system):
        found = table.judge(channel.name, serve(Alone(channel.name, channel), asked, dataset.n_items))
        valid = fusion.whole.get(channel.name, fusion.judged.get(channel.name))
        rows[channel.name] = found | {"of": OURS, "valid": valid}
    served = table.judge(fusion.name, serve(lists, asked, dataset.n_items))
    rows[fusion.name] = served | {"of": OURS, "valid": _valid_of_served(fusion)}
    valid_asked = asked_of(dataset, "valid")
    for got in answers(rivals):
        found = table.judge(got.name, served_by(got.name, got.test, asked, dataset.n_items))
        ranks = served_by(got.name, got.valid, valid_asked, dataset.n_items).ranks
        valid = float(gains(ranks, PLACES).mean())
        rows[got.name] = found | {"of": got.name.split()[0], "valid": valid, "about": got.about}
    for name, row in rows.items():
        row["minus popularity"] = table.difference(name, POPULARITY)
        row["fusion minus it"] = table.difference(fusion.name, name)
    return {
        "data": _about(dataset),
        "served": fusion.name,
        "rows": rows,
        "best": _best(rows, fusion.name),
        "weights": {c.name: float(w) for c, w in zip(fusion.channels, fusion.weights, strict=True)},
        "ridge": fusion.ridge,
        "said": said(fusion),
        "lists": len(asked.targets),
        "seed": config.seed,
        "resamples": config.evaluation.resamples,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": read_json(folder.environment)["git"],
        "versions": read_json(folder.environment),
    }


def _valid_of_served(fusion: ListFusion) -> float | None:
    """NDCG@10 on validation of what is served: another way may have more, and not surely."""
    alone = fusion.channels[0].name if len(fusion.channels) == 1 else ""
    if alone in fusion.whole:
        return fusion.whole[alone]
    mixtures = [fusion.whole[n] for n in (fusion.name, WITHOUT_OFFSET) if n in fusion.whole]
    return max(mixtures, default=fusion.judged.get("served"))


def compare(run: Path, other: Path) -> dict[str, Any]:
    """Two runs over the same rows: what each serves, and ``run`` minus ``other``, paired.

    Beside it AUC of the rows of P(like) that both have, whole and on items without a training row.

    Raises:
        DataError: the rows are not the same.
    """
    table, asked, fused = None, None, {}
    for path in (run, other):
        folder = RunFolder(path)
        config, dataset = stored_config(folder), stored_data(folder)
        if asked is None or table is None:
            asked = asked_of(dataset, "test")
            digest, counts_I = dataset.digest, np.zeros(dataset.n_items)
            table = ListTable(asked, counts_I, resamples=config.evaluation.resamples, seed=config.seed)
        if dataset.digest != digest:
            raise DataError(f"{run} and {other} are of different rows", "prepare both alike")
        lists = SASRecLLM.of_run(folder, "cpu", config).two_stage()
        found = table.judge(str(path), serve(lists, asked, dataset.n_items))
        fused[str(path)] = {k: found[k] for k in METRICS}
    assert table is not None
    return {
        "lists": fused,
        "difference": table.difference(str(run), str(other)),
        "P(like)": _compared_scores(RunFolder(run), RunFolder(other)),
    }


def _compared_scores(run: RunFolder, other: RunFolder) -> dict[str, dict[str, list[float]]]:
    """Row -> AUC of both and their difference with its interval, whole and on new items."""
    dataset, mine, theirs = stored_data(run), row_scores(run), row_scores(other)
    asked = dataset.questions("test")
    out: dict[str, dict[str, list[float]]] = {}
    new = ~dataset.seen_items[asked.targets]
    for name in (name for name in mine if name in theirs and "test" in mine[name]):
        out[name] = {
            part: _difference(mine[name]["test"][rows], theirs[name]["test"][rows], asked.take(rows))
            for part, rows in (("all", np.arange(len(new))), ("new items", np.flatnonzero(new)))
            if len(rows)
        }
    return out


def _difference(mine: FloatArray, theirs: FloatArray, asked: Questions) -> list[float]:
    draws = UserBootstrap(asked.histories.users)
    apart = draws.auc(mine, asked.labels) - draws.auc(theirs, asked.labels)
    both = [auc(scores, asked.labels) or np.nan for scores in (mine, theirs)]
    return [*both, *np.nanpercentile(apart, [2.5, 97.5]).tolist()]


def _best(rows: Mapping[str, Mapping[str, Any]], served: str) -> dict[str, dict[str, str]]:
    """Of ours and of each rival: the best single row on validation, and on the test."""
    out: dict[str, dict[str, str]] = {}
    for of in dict.fromkeys(row["of"] for row in rows.values()):
        mine = {n: row for n, row in rows.items() if row["of"] == of and n != served}
        known = {n: row["valid"] for n, row in mine.items() if row["valid"] is not None}
        test = {n: row[METRICS[1]][0] for n, row in mine.items()}
        out[of] = {"test": max(test, key=lambda n: test[n])}
        if known:
            out[of]["validation"] = max(known, key=lambda n: known[n])
    return out


def _about(dataset: Dataset) -> dict[str, Any]:
    liked = {s: int((dataset.labels[dataset.rows(s)] == 1).sum()) for s in ("train", "valid", "test")}
    return {
        "name": dataset.name,
        "rows": {split: len(dataset.rows(split)) for split in liked},
        "likes": liked,
        "users": len(np.unique(dataset.users)),
        "items": dataset.n_items,
        "seen may be served": dataset.allow_seen,
        "digest": dataset.digest,
    }
