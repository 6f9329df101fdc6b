"""A study's table: means over seeds, one set of resamples, differences that are paired."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sasrecllm.evaluation.comparison import Judge
from sasrecllm.reports.wording import number, span
from sasrecllm.studies.report import html, markdown
from sasrecllm.studies.summary import SeedScores, summarise
from sasrecllm.types import Histories, Questions

N, USERS = 400, 40


def questions() -> Questions:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(USERS), N // USERS)
    nothing = np.empty(0, dtype=np.int64)
    histories = Histories(
        users, nothing, nothing.astype(np.int8), nothing, np.zeros(N + 1, np.int64), users
    )
    return Questions(
        histories, np.zeros(N, np.int64), rng.integers(0, 2, N).astype(np.int8), np.arange(N)
    )


def seeds(noise: float, count: int, asked: Questions) -> list[SeedScores]:
    out = []
    for seed in range(count):
        scores = asked.labels + noise * np.random.default_rng([seed, 5]).normal(size=N)
        out.append(SeedScores(seed, scores, 1 / (1 + np.exp(-scores))))
    return out


@pytest.fixture(scope="module")
def table():
    asked = questions()
    late = np.arange(N) >= N // 2
    judge = Judge(asked, {"overall": ~(late & ~late), "late": late}, 200, 0, ["late"])
    rows = {"good": seeds(1.0, 3, asked), "bad": seeds(4.0, 3, asked), "one": seeds(2.0, 1, asked)}
    return asked, rows, summarise(judge, rows)


def test_a_row_is_the_mean_over_its_seeds_and_the_spread_stands_beside_it(table):
    asked, rows, got = table
    each = [roc_auc_score(asked.labels, s.scores) for s in rows["good"]]
    assert got["good"]["intervals"]["auc"][0] == pytest.approx(np.mean(each))
    assert got["good"]["spread"]["auc"] == pytest.approx(np.std(each, ddof=1))
    assert got["one"]["spread"]["auc"] is None and got["good"]["seeds"] == [0, 1, 2]
    late = [roc_auc_score(asked.labels[N // 2 :], s.scores[N // 2 :]) for s in rows["good"]]
    assert got["good"]["intervals"]["auc on late"][0] == pytest.approx(np.mean(late))


def test_differences_are_paired_and_mirror_each_other(table):
    _, _, got = table
    value, low, high = got["good"]["differences"]["bad"]["auc"]
    assert 0 < low < value < high
    assert got["bad"]["differences"]["good"]["auc"] == pytest.approx([-value, -high, -low])
    assert "good" not in got["good"]["differences"]


def test_the_pages_name_failures_and_escape_what_comes_from_settings(table):
    _, _, rows = table
    evil = "<script>x</script>"
    for row in rows.values():
        row["costs"] = {"train_seconds": 1.0}
    results = {
        "name": "n", "date": "d", "reference": "bad", "resamples": 200, "versions": {},
        "datasets": {
            "a": {"rows": {evil: rows["good"], "bad": rows["bad"]}, "test_rows": N, "users": USERS,
                  "slices": {"overall": N, "late": N // 2}, "trivial": ["bad"], "tuning": {},
                  "failures": [{"row": "lost", "seed": 3, "exit": 7, "reason": "nan | at step 8"}]},
            "nothing yet": {"rows": {}, "slices": {}, "test_rows": 0, "users": 0, "trivial": [],
                            "failures": [], "tuning": {}},
        },
    }  # fmt: skip
    page, text = html(results), markdown(results)
    assert evil not in page and "lost" in page and "No run has finished yet" in page
    assert "**Failed:** lost, seed 3, exit 7: nan \\| at step 8" in text
    assert page.count("<svg") == 5


def test_a_row_is_compared_with_the_reference_on_every_slice_too(table):
    _, _, rows = table
    for row in rows.values():
        row["costs"] = {}
    data = {"rows": rows, "test_rows": N, "users": USERS, "trivial": [], "tuning": {}, "failures": [],
            "slices": {"overall": N, "late": N // 2, "empty": 0}}  # fmt: skip
    results = {"name": "n", "date": "d", "reference": "bad", "resamples": 200, "versions": {},
               "datasets": {"a": data}}  # fmt: skip
    for metric in ("auc", "uauc"):
        gain = rows["good"]["differences"]["bad"][f"{metric} on late"]
        assert gain[0] > 0
        section = markdown(results).split(f"Δ{metric.upper()} to bad by slice:")[1]
        lines = section.strip().split("\n")[:4]
        assert lines[0] == f"| row | late ({N // 2:,} rows) |"
        assert lines[2] == f"| good | {span(gain, True)} |" and lines[3].startswith("| one |")
        part = html(results).split(f"<h3>Δ{metric.upper()} to bad</h3>")[1].split("</table>")[0]
        assert f"<b>{number(gain[0], sign=True)}</b>" in part and f"late<br>{N // 2}" in part
        assert "empty" not in section and "empty" not in part
