"""From the finished runs of a study to its table, its pages and its pictures."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.baselines.table import LISTED
from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import DataError
from sasrecllm.evaluation.comparison import Judge
from sasrecllm.evaluation.slices import slices_by_cause
from sasrecllm.machine.environment import versions
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.scores import row_scores, stage_rows
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stored_calibration, stored_config, stored_data
from sasrecllm.studies import report
from sasrecllm.studies.plan import Cell, cells_of
from sasrecllm.studies.run import Study, failures, tuning_of
from sasrecllm.studies.summary import SeedScores, summarise
from sasrecllm.types import FloatArray, Questions


def write_study(study: Study) -> dict[str, Any]:
    """``study.json``, ``study.md``, ``study.html`` and the pictures, of the cells finished so far."""
    failed, tuned = failures(study), tuning_of(study)
    results: dict[str, Any] = {
        "name": study.plan.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "reference": study.plan.reference,
        "resamples": study.plan.resamples,
        "versions": versions(),
        "datasets": {
            name: judge_dataset(study, name)
            | {"failures": failed.get(name, []), "tuning": tuned.get(name, {})}
            for name in study.plan.datasets
        },
    }
    study.out.mkdir(parents=True, exist_ok=True)
    write_json(study.out / "study.json", results)
    write_text(study.out / "study.md", report.markdown(results))
    write_text(study.out / "study.html", report.html(results))
    return results


def judge_dataset(study: Study, name: str) -> dict[str, Any]:
    """Every row of one data set over its seeds, with costs; empty before a run has finished."""
    runs = {
        cell: _reopened(cell.folder(study.out))
        for cell in cells_of(study.plan)
        if cell.dataset == name and RunFolder(cell.folder(study.out)).summary.is_file()
    }
    if not runs:
        return {"rows": {}, "slices": {}, "test_rows": 0, "users": 0, "trivial": [], "ranking": {}}
    dataset = stored_data(next(iter(runs.values())).folder)
    _refuse_other_data(runs, dataset)
    scores, costs, trivial = _collect(study, runs)
    judged = judge_rows(dataset, dataset.questions("test"), scores, study.plan.resamples)
    for row, found in costs.items():
        judged["rows"][row]["costs"] = {k: _mean([c.get(k) for c in found]) for k in found[0]}
    return judged | {"trivial": trivial, "ranking": _ranking(study, runs)}


def judge_rows(
    dataset: Dataset, asked: Questions, scores: Mapping[str, Sequence[SeedScores]], resamples: int
) -> dict[str, Any]:
    """``rows`` (:func:`~.summary.summarise`), ``slices`` with their sizes, ``test_rows``, ``users``.

    Args:
        asked: questions [B] of the data set.
        scores: row -> its seeds' scores of them.
    """
    slices = slices_by_cause(
        asked,
        seen_users=dataset.seen_users,
        seen_items=dataset.seen_items,
        train_counts=dataset.train_counts,
    )
    judge = Judge(asked, slices, resamples, 0, [k for k in slices if k != "overall"])
    return {
        "rows": summarise(judge, scores),
        "slices": {k: int(m.sum()) for k, m in slices.items()},
        "test_rows": len(asked),
        "users": len(np.unique(asked.histories.users)),
    }


def seed_scores(folder: RunFolder, row: str, test: FloatArray, seed: int) -> SeedScores:
    """The scores of a run's row with the probabilities that its calibration makes of them."""
    return SeedScores(seed, test, stored_calibration(folder, row).probabilities(test))


def _reopened(folder: Path) -> Run:
    """A finished cell, checked whole."""
    run = choose_run(folder)
    return Run(run, stored_config(run, None), "", Progress(quiet=True))


def _collect(
    study: Study, runs: Mapping[Cell, Run]
) -> tuple[dict[str, list[SeedScores]], dict[str, list[dict[str, float | None]]], list[str]]:
    """Scores and costs of every table row by seed, and the names of the trivial rows."""
    scores: dict[str, list[SeedScores]] = {}
    costs: dict[str, list[dict[str, float | None]]] = {}
    trivial: list[str] = []
    first = next(iter(runs)).row
    for cell, run in runs.items():
        results, about = read_json(run.folder.results), read_json(run.folder.summary)
        trained = stage_rows(run.folder)
        shown = study.plan.rows[cell.row].show or {results["final"]: cell.row}
        if cell.row == first:
            trivial = results["trivial"]
            shown = {r: r for r in results["rows"] if r not in trained} | shown
        found = row_scores(run.folder)
        for inside, outside in shown.items():
            if inside not in found:
                raise DataError(
                    f"rows.{cell.row}.show names {inside!r}; that run's table has {', '.join(found)}",
                    "name one of its rows",
                )
            one = seed_scores(run.folder, inside, found[inside]["test"], cell.seed)
            scores.setdefault(outside, []).append(one)
            cost = dict(about["costs"][inside]) | {"peak_megabytes": about["peak_megabytes"]}
            costs.setdefault(outside, []).append(cost)
    return scores, costs, trivial


def _ranking(study: Study, runs: Mapping[Cell, Run]) -> dict[str, Any]:
    """Kind of list -> row -> metric -> [value, low, high], each the mean over seeds.

    The interval of a mean is the mean of the intervals' ends: no narrower than the truth, since all
    seeds are judged on the same users.
    """
    found: dict[str, dict[str, Any]] = {}
    first = next(iter(runs)).row
    for cell, run in runs.items():
        results = read_json(run.folder.results)
        trained = stage_rows(run.folder)
        shown = study.plan.rows[cell.row].show or {results["final"]: cell.row}
        if cell.row == first:  # whose baselines stand for all
            shown = {r: r for r in (*LISTED, *results["rows"]) if r not in trained} | shown
        for kind, lists in results.get("ranking", {}).items():
            about = {k: v for k, v in lists.items() if k not in ("rows", "reranked", "served")}
            into = found.setdefault(kind, about | {"rows": {}, "reranked": {}})
            for inside, got in lists["rows"].items():
                if inside not in shown:
                    continue
                into["rows"].setdefault(shown[inside], []).append(got)
                if inside in lists["reranked"]:
                    into["reranked"][shown[inside]] = lists["reranked"][inside]
    for lists in found.values():
        lists["rows"] = {row: mean_of_seeds(seeds) for row, seeds in lists["rows"].items()}
    return found


def mean_of_seeds(seeds: Sequence[Any]) -> Any:
    """The mean of values of one shape: numbers, and numbers in lists and mappings; else the first's.

    A number that a seed does not have is None.
    """
    first = seeds[0]
    if isinstance(first, Mapping):
        return {k: mean_of_seeds([s[k] for s in seeds]) for k in first if all(k in s for s in seeds)}
    if isinstance(first, list):
        return [mean_of_seeds(list(each)) for each in zip(*seeds, strict=False)]
    if isinstance(first, str):
        return first
    return None if any(s is None for s in seeds) else type(first)(np.mean(seeds))


def _refuse_other_data(runs: Mapping[Cell, Run], dataset: Dataset) -> None:
    for cell, run in runs.items():
        got = read_json(run.folder.summary)["data"]
        if got != dataset.digest:
            raise DataError(
                f"{run.folder} has other data than the first run of {cell.dataset}"
                f" ({got[:12]}; {dataset.digest[:12]})",
                "give rows and seeds of one data set the same data settings (data.seed fixes sampling)",
            )


def _mean(values: list[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None
