"""One table on one set of rows: intervals that are true, paired differences, nothing left out."""

import time

import numpy as np
import pytest

from sasrecllm.errors import DivergedError
from sasrecllm.evaluation.ablations import ShuffledHistory
from sasrecllm.evaluation.calibration import fit_calibration
from sasrecllm.evaluation.intervals import UserBootstrap
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.evaluation.protocol import compare, score_questions
from sasrecllm.evaluation.report import ReportInputs, html_report, markdown_table, surely
from sasrecllm.evaluation.slices import slices_by_cause
from sasrecllm.types import Histories, Questions

RNG = np.random.default_rng(0)


def questions(n=400, users=30):
    lengths = RNG.integers(0, 12, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    size = int(offsets[-1])
    histories = Histories(
        RNG.integers(0, users, n), RNG.integers(0, 20, size), RNG.integers(0, 2, size).astype(np.int8),
        np.arange(size), offsets, np.full(n, 10**6),
    )  # fmt: skip
    labels = RNG.integers(0, 2, n).astype(np.int8)
    return Questions(histories, RNG.integers(0, 20, n), labels, np.arange(n))


ASKED = questions()
GOOD, POOR = ASKED.labels + RNG.normal(size=400), ASKED.labels * 0.2 + RNG.normal(size=400)


def table(scores, asked=ASKED):
    slices = slices_by_cause(
        asked,
        seen_users=np.arange(30) < 25,
        seen_items=np.arange(20) < 15,
        train_counts=np.arange(20),
    )
    return compare(
        scores,
        asked,
        validation_scores=scores,
        validation_labels=asked.labels,
        slices=slices,
        resamples=200,
    )


def test_a_resample_is_the_metric_of_the_resampled_rows():
    boot = UserBootstrap(ASKED.histories.users, 50, seed=1)
    by_auc, by_uauc = boot.auc(GOOD, ASKED.labels), boot.uauc(GOOD, ASKED.labels)
    users = np.unique(ASKED.histories.users)
    for draw in range(50):
        counts = boot.counts_RU[draw].astype(int)
        rows, names = [], []
        for place, (user, count) in enumerate(zip(users, counts, strict=True)):
            own = np.flatnonzero(ASKED.histories.users == user)
            rows += [own] * count
            names += [np.full(len(own), place * 1000 + c) for c in range(count)]
        picked, name = np.concatenate(rows), np.concatenate(names)
        assert by_auc[draw] == pytest.approx(auc(GOOD[picked], ASKED.labels[picked]), abs=1e-9)
        assert by_uauc[draw] == pytest.approx(
            uauc(GOOD[picked], ASKED.labels[picked], name).value, abs=1e-9
        )


def test_paired_differences_are_antisymmetric_and_see_what_is_there():
    got = table({"poor": POOR, "good": GOOD, "twin": GOOD})
    ahead, behind = got["good"].differences["poor"]["auc"], got["poor"].differences["good"]["auc"]
    assert ahead == pytest.approx([-behind[0], -behind[2], -behind[1]])
    assert surely(ahead) and got["good"].differences["twin"]["auc"] == [0.0, 0.0, 0.0]


def test_slices_partition_the_rows():
    slices = table({"good": GOOD})["good"].slices
    rows = {k: v["rows"] for k, v in slices.items()}
    warm, cold = rows["warm (user and item in train)"], rows["cold (user or item not in train)"]
    assert warm + cold == rows["overall"] == 400
    assert rows["new user"] + rows["new item"] + rows["new user and new item"] == cold
    history = ("no liked history", "1-4 liked", "5-9 liked", "10 or more liked")
    assert sum(rows[k] for k in history) == 400


def test_calibration_turns_any_scale_into_probabilities_and_keeps_the_order():
    p = 1 / (1 + np.exp(-RNG.normal(size=5000)))
    labels = (RNG.random(5000) < p).astype(np.int8)
    scores = 7 * np.log(p / (1 - p)) + 30
    fitted = fit_calibration(scores, labels)
    assert np.abs(fitted.probabilities(scores) - p).max() < 0.05
    assert fit_calibration(-scores, labels).slope > 0
    assert fit_calibration(np.zeros(10), np.ones(10, dtype=np.int8)).probabilities(np.zeros(1))[0] > 0.9


class Stub:
    name = "stub"

    def __init__(self, value=1.0):
        self.asked, self.value = 0, value

    def score(self, histories, candidates):
        self.asked += len(histories)
        return np.full(candidates.shape, self.value)


def test_every_row_is_asked_once_and_a_nan_is_refused():
    stub = Stub()
    assert score_questions(stub, ASKED, chunk=7).shape == (400,) and stub.asked == 400
    with pytest.raises(DivergedError, match="not finite"):
        score_questions(Stub(float("nan")), ASKED)


def test_shuffled_histories_keep_their_entries_and_do_not_depend_on_the_batch():
    shuffled = ShuffledHistory(Stub(), seed=3)
    whole = shuffled.shuffled(ASKED.histories)
    for row in (0, 5, 17):
        alone = shuffled.shuffled(ASKED.histories.take(np.array([row])))
        part = slice(whole.offsets[row], whole.offsets[row + 1])
        assert list(alone.items) == list(whole.items[part])
        assert sorted(whole.items[part]) == sorted(ASKED.histories.items[part])
    assert list(whole.items) != list(ASKED.histories.items)


def test_the_size_of_ml_1m_takes_seconds():
    n = 7331
    users, scores = RNG.integers(0, 320, n), RNG.normal(size=n)
    started = time.process_time()
    UserBootstrap(users, 1000).auc(scores, RNG.integers(0, 2, n).astype(np.int8))
    assert time.process_time() - started < 20


def test_hostile_titles_stay_text_in_the_report():
    rows = {k: v.to_dict() for k, v in table({"poor": POOR, "good": GOOD}).items()}
    evil = "<img src=x onerror=alert(1)></script>"
    html = html_report(
        ReportInputs(
            title=evil,
            command="x",
            seed=0,
            final="good",
            trivial=["poor"],
            rows=rows,
            recommendations={
                evil: [{"rank": 1, "item_id": evil, "title": evil, "probability": 0.5, "flags": []}]
            },
        )
    )
    assert "<img" not in html and "&lt;img" in html and "surely better than" in html
    assert markdown_table(rows, "good").count("\n") == 3
