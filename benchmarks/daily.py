"""Logs played day by day: every day an update, a training anew, and the model of the first day.

    python -m benchmarks.daily configs/studies/daily.yaml OUT [--parts 10] [--only NAME] [KEY=VALUE ...]

The first half of a log (by time) trains the first run; the rest comes in ten equal parts.  After each
part ``update`` goes on from yesterday's, ``retrain`` is a new run over the very rows, divided alike,
and ``never`` the first run.  All are judged on the next part, which none has seen.  A second call goes
on where the first was stopped, and the page of all data sets, OUT/daily.md, has what stands so far
(``--only none`` writes that alone).  Costs are CPU seconds of this process, so that other work on the
machine counts only as far as it slows memory down.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import sasrecllm
from sasrecllm import SASRecLLM
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.feedback import Feedback
from sasrecllm.data.ingest.frames import lent
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.splits import CONTEXT, NAMES, TEST
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.machine.progress import Progress
from sasrecllm.reports.wording import number, span
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data
from sasrecllm.settings import Config
from sasrecllm.studies.plan import Plan, cells_of, load_plan, settings_of
from sasrecllm.types import FloatArray
from sasrecllm.updates.judge import Served, judged

WAYS = ("never", "update", "retrain")
ALL, FIRST = "all", "of the first day"
METRICS = {"auc": "AUC", "hr@10": "HR@10"}
SPLITS = {code: name for name, code in NAMES.items()}


def rows_of(data: Dataset) -> pl.DataFrame:
    """Every row in raw ids, in the order of time."""
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(data.catalog.user_ids, dtype=pl.String).gather(data.users),
            "item_id": pl.Series(data.catalog.item_ids, dtype=pl.String).gather(data.items),
            "label": data.labels,
            "timestamp": data.times,
            "split": [SPLITS.get(int(code), "train") for code in data.splits],
        }
    )
    return frame.sort("timestamp", maintain_order=True)


def items_of(data: Dataset) -> pl.DataFrame:
    """The catalogue as a table."""
    columns = {"item_id": data.catalog.item_ids, "title": data.catalog.titles}
    return pl.DataFrame({**columns, **data.catalog.attributes})


def whole_log(config: Config) -> Dataset:
    """All rows of a run's source."""
    c = config.data
    where = {"path": c.path, "items_path": c.items_path, "columns": c.columns, "order": c.order}
    tables = load_tables(c.source, **where, seed=config.seed, world=c.world)
    return prepare(tables, feedback=c.feedback, threshold=c.threshold, split="global-time")


def asked_about(
    known: pl.DataFrame, day: pl.DataFrame, items: pl.DataFrame, feedback: Feedback
) -> Dataset:
    """A data set in which ``day`` is the test, and all before it stands in histories."""
    before = known.with_columns(pl.lit("train").alias("split"))
    before[-1, "split"] = "valid"  # a split of each kind is wanted; it is not asked about
    rows = pl.concat([before, day.with_columns(pl.lit("test").alias("split"))])
    shelf = items.join(rows, on="item_id", how="semi")
    with lent(rows, shelf) as data:
        path, items_path = data["path"], data["items_path"]
        tables = load_tables(data["source"], path=path, items_path=items_path, order="time")
        return prepare(tables, feedback=feedback, split="given")


def timed(work: Callable[[], SASRecLLM], place: Path) -> tuple[SASRecLLM, float]:
    """What ``work`` trains and the CPU seconds that it took, kept so that a second call knows them."""
    kept = place.with_suffix(".seconds")
    if kept.is_file() and RunFolder(place).is_sealed():
        return SASRecLLM.from_pretrained(place), float(kept.read_text())
    started = time.process_time()
    system = work()
    spent = time.process_time() - started
    kept.write_text(str(spent))
    return system, spent


def play(config: Config, out: Path, parts: int, progress: Progress) -> None:
    """One data set, day by day; the days so far stand in ``days.json``."""
    data = whole_log(config)
    feedback: Feedback = "implicit" if data.implicit else "labels"
    rows, items = rows_of(data).drop("split"), items_of(data)
    rows = rows.drop("label") if data.implicit else rows
    cuts = [int(share * rows.height) for share in np.linspace(0.5, 1.0, parts + 1)]
    days = [rows[a:b] for a, b in pairwise(cuts)]
    base = config.model_dump(exclude={"data", "name", "chosen"}, exclude_unset=True)
    lists = config.evaluation.ranking.users

    def trained(table: pl.DataFrame, folder: Path, split: str) -> tuple[SASRecLLM, float]:
        shelf = items.join(table, on="item_id", how="semi")
        how = base | {"data": {"feedback": feedback, "order": "time", "split": split}}
        return timed(lambda: sasrecllm.fit(table, shelf, out=folder, config=how, quiet=True), folder)

    def gone_on(run: Path, day: pl.DataFrame, folder: Path) -> tuple[SASRecLLM, float]:
        shelf = items.join(day, on="item_id", how="semi")
        return timed(lambda: sasrecllm.update(run, day, shelf, out=folder, quiet=True), folder)

    known, yesterday = rows[: cuts[0]], out / "day-0"
    never, cost = trained(known, yesterday, "global-time")
    at_first = never.dataset.catalog.user_ids
    found = []
    for at, (day, next_day) in enumerate(pairwise(days), 1):
        known = pl.concat([known, day])
        folder = out / f"update-{at}"
        updated, update_cost = gone_on(yesterday, day, folder)
        divided = rows_of(stored_data(RunFolder(folder)))
        divided = divided.drop("label") if data.implicit else divided
        retrained, retrain_cost = trained(divided, out / f"retrain-{at}", "given")
        yesterday = folder
        tomorrow = asked_about(known, next_day, items, feedback)
        old = np.isin(tomorrow.users, tomorrow.catalog.user_index(at_first))
        theirs = np.where((tomorrow.splits == TEST) & ~old, CONTEXT, tomorrow.splits).astype(np.int8)
        systems = dict(zip(WAYS, (never, updated, retrained), strict=True))
        asked = {ALL: tomorrow}
        if (theirs == TEST).any():
            asked[FIRST] = replace(tomorrow, splits=theirs)
        scores = {way: scores_of(way, system, tomorrow) for way, system in systems.items()}
        how: Any = {"resamples": 1000, "seed": 0, "lists": lists, "progress": progress}
        got = {}
        for who, there in asked.items():
            kept = np.isin(tomorrow.rows("test"), there.rows("test"))
            # Items drawn beside likes are others where fewer likes are asked about.
            same = None if data.implicit else {way: some[kept] for way, some in scores.items()}
            got[who] = judged(systems, there, known=same, **how)
        seconds = {"update": update_cost, "retrain": retrain_cost}
        found.append({"day": at, "seconds": seconds, "judged": got})
        (out / "days.json").write_text(json.dumps({"first": cost, "days": found}, indent=1))
        print(days_table(found[-1:])[-1], flush=True)


def scores_of(name: str, system: SASRecLLM, asked: Dataset) -> FloatArray:
    """What a system says of every row of the test, [B]."""
    return score_questions(Served(name, system, asked.catalog).scorer(), asked.questions("test"))


def page(names: dict[str, Path]) -> str:
    """What was played as Markdown: one line for each data set, then its days.

    Args:
        names: of each data set, with its folder.
    """
    kept = {name: place / "days.json" for name, place in names.items()}
    found = {name: json.loads(p.read_text())["days"] for name, p in kept.items() if p.is_file()}
    head = ["log", "days", "CPU seconds, update of retrain", "metric", *SURE]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, days in found.items():
        update, retrain = (sum(day["seconds"][way] for day in days) for way in ("update", "retrain"))
        cost = f"{update:.0f} of {retrain:.0f} ({update / retrain:.0%})"
        for key, shown in METRICS.items():
            cells = [name, len(days), cost, shown, *(sure(days, key, *SURE[what]) for what in SURE)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    for name, days in found.items():
        lines += ["", f"## {name}", "", *days_table(days)]
    return "\n".join(lines) + "\n"


SURE = {
    "update surely above never": ("update minus never", 1, ALL),
    "surely below": ("update minus never", -1, ALL),
    "retrain surely above update": ("retrain minus update", 1, ALL),
    "surely below it": ("retrain minus update", -1, ALL),
    "first day's users: update surely below never": ("update minus never", -1, FIRST),
}
"""Column -> whose difference, its sign, and of which users."""


def sure(days: list[dict[str, Any]], key: str, pair: str, sign: int, who: str) -> str:
    """On how many days the interval of a difference lies on that side of zero."""
    metrics = [day["judged"][who]["metrics"] for day in days if who in day["judged"]]
    spans = [found[key]["differences"][pair] for found in metrics if key in found]
    count = sum(low > 0 if sign > 0 else high < 0 for _, low, high in spans if low is not None)
    return f"{count} of {len(spans)}"


def days_table(found: list[dict[str, Any]]) -> list[str]:
    """The days of a data set as lines of a table."""
    pairs = ["update minus never", "retrain minus update"]
    head = ["day", "rows", "users", "metric", *WAYS, *pairs, "CPU seconds, update of retrain"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for day in found:
        update, retrain = day["seconds"]["update"], day["seconds"]["retrain"]
        cost = f"{update:.0f} of {retrain:.0f} ({update / retrain:.0%})"
        for who, judged_rows in day["judged"].items():
            for key, shown in METRICS.items():
                if (got := judged_rows["metrics"].get(key)) is None:
                    continue
                values = [number(got[way][0]) for way in WAYS]
                changes = [span(got["differences"][pair], True) for pair in pairs]
                cells = [day["day"], judged_rows["rows"], who, shown, *values, *changes, cost]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("settings", nargs="*")
    asked = parser.parse_intermixed_args()
    plan: Plan = load_plan(asked.plan, asked.settings)
    cells = {f"{cell.dataset}, {cell.row}": cell for cell in cells_of(plan)}
    places = {name: cell.folder(asked.out) for name, cell in cells.items()}
    for name, cell in cells.items():
        if asked.only in ("", name, cell.dataset):
            places[name].mkdir(parents=True, exist_ok=True)
            config = settings_of(plan, cell, asked.plan.parent, asked.out)
            play(config, places[name], asked.parts, Progress(quiet=True))
    (asked.out / "daily.md").write_text(page(places))


if __name__ == "__main__":
    main()
