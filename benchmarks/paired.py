"""Rows of finished runs beside each other on the same questions, with paired differences to the first.

    python -m benchmarks.paired "words=RUN:text-only LLM" "soft=OTHER:plug-and-play" [--without-repeats]

A row is named as in its run's own table.  The runs have the same prepared data, so the resamples of the
users are the same for all rows; what is printed is a study's page (values, slices, differences).
``--without-repeats`` leaves out the users of whom a liked question is about an item of their history:
drawn items never are, so such a like is told from them without any preference.

Legend: B test questions.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sasrecllm.errors import ConfigError, DataError, SasrecllmError
from sasrecllm.runs.scores import row_scores
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.studies.collect import judge_rows, seed_scores
from sasrecllm.studies.report import markdown
from sasrecllm.studies.summary import SeedScores
from sasrecllm.types import IntArray, Questions

RESAMPLES = 1000


def paired(named: Sequence[str], without_repeats: bool = False, resamples: int = RESAMPLES) -> str:
    """The page of the rows ``NAME=RUN:ROW``; see the module.

    Raises:
        ConfigError: something else than ``NAME=RUN:ROW``, or no such row in the run's table.
        DataError: runs of different data.
    """
    rows: dict[str, SeedScores] = {}
    first = None
    for text in named:
        name, _, where = text.partition("=")
        run, _, row = where.rpartition(":")
        if not run:
            raise ConfigError(f"{text!r} names no row of a run", "write NAME=RUN:ROW")
        folder = choose_run(Path(run))
        dataset = stored_data(folder)
        if first is None:
            first = dataset
        elif dataset.digest != first.digest:
            raise DataError(
                f"{run} has other data than the run of {next(iter(rows))}",
                "compare runs of one log, split and data.seed",
            )
        found = row_scores(folder)
        if row not in found:
            raise ConfigError(
                f"{run} has no row {row!r}; its table has {', '.join(found)}", "name one of its rows"
            )
        rows[name] = seed_scores(folder, row, found[row]["test"], stored_config(folder).seed)
    if first is None:
        raise ConfigError("no row was named", "write NAME=RUN:ROW")
    test = first.questions("test")
    kept = users_without_repeats(test) if without_repeats else np.arange(len(test))
    scores = {k: [SeedScores(s, a[kept], p[kept])] for k, (s, a, p) in rows.items()}
    judged = judge_rows(first, test.take(kept), scores, resamples)
    for row in judged["rows"].values():
        row["costs"] = {}
    return markdown({
        "name": "paired" + (", without users whose like is a repeat" if without_repeats else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "reference": next(iter(rows)),
        "resamples": resamples,
        "datasets": {first.name: judged | {"failures": [], "tuning": {}}},
    })  # fmt: skip


def users_without_repeats(test: Questions) -> IntArray:
    """Rows [B'] of the users none of whose liked questions is about an item of the history."""
    past = test.histories
    again = np.zeros(len(test), dtype=bool)
    again[past.owners[past.items == test.targets[past.owners]]] = True
    repeating = np.unique(past.users[again & (test.labels == 1)])
    return np.flatnonzero(~np.isin(past.users, repeating))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired")
    parser.add_argument("rows", nargs="+", metavar="NAME=RUN:ROW")
    parser.add_argument("--without-repeats", action="store_true")
    given = parser.parse_args()
    try:
        print(paired(given.rows, given.without_repeats))
    except SasrecllmError as error:
        raise SystemExit(str(error)) from None
