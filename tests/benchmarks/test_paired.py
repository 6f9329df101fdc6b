"""Rows of finished runs side by side: the values of their own tables, and differences to the first."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.paired import paired, users_without_repeats
from sasrecllm.checkpoint import read_json
from sasrecllm.errors import ConfigError
from sasrecllm.reports.wording import number
from sasrecllm.types import Histories, Questions


def test_rows_have_their_tables_values_and_differ_by_their_difference(run):
    own = read_json(run / "results.json")["rows"]
    first, *_, last = own
    page = paired([f"a={run}:{first}", f"b={run}:{last}"], resamples=20)
    table = page.split("AUC / UAUC by slice")[0].split("\n")
    lines = {name: next(line for line in table if line.startswith(f"| {name} |")) for name in "ab"}
    values = {name: own[row]["metrics"]["auc"] for name, row in (("a", first), ("b", last))}
    for name, value in values.items():
        assert number(value) in lines[name]
    assert number(values["b"] - values["a"], sign=True) in lines["b"]
    assert "ΔUAUC to a by slice" in page


@pytest.mark.parametrize(
    "wrong, said",
    [("no run", "names no row"), ("a={run}:nobody", "has no row 'nobody'; its table has item mean")],
)
def test_what_is_no_row_of_a_run_is_refused(run, wrong, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        paired([wrong.format(run=run)])


def test_users_whose_like_is_a_repeat_are_left_out_whole():
    # Users 0, 0, 1, 1, 2 with histories of items; 0's like repeats, 1's dislike does, 2 has none.
    items = np.array([5, 6, 5, 6, 7, 7])
    histories = Histories(
        np.array([0, 0, 1, 1, 2]), items, np.ones(6, np.int8), np.arange(6),
        np.array([0, 2, 4, 5, 6, 6]), np.full(5, 99),
    )  # fmt: skip
    targets, labels = np.array([6, 9, 7, 8, 3]), np.array([1, 0, 0, 1, 1], np.int8)
    kept = users_without_repeats(Questions(histories, targets, labels, np.arange(5)))
    assert kept.tolist() == [2, 3, 4]
