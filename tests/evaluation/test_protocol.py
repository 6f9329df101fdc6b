"""One table on one set of rows: intervals that are true, paired differences, nothing left out."""

import numpy as np
import pytest

from sasrecllm.errors import ConfigError, DivergedError
from sasrecllm.evaluation.ablated_scorers import ShuffledHistory
from sasrecllm.evaluation.calibration import fit_calibration
from sasrecllm.evaluation.intervals import UserBootstrap
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.evaluation.protocol import (
    compare,
    evaluate,
    evaluate_ranking,
    rank_positives,
    score_questions,
)
from sasrecllm.evaluation.slices import slices_by_cause
from sasrecllm.reports.run_report import surely
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


def test_log_loss_differences_are_paired_too():
    got = table({"poor": POOR, "good": GOOD})
    value, low, high = got["good"].differences["poor"]["log_loss"]
    assert low < value < high < 0  # lower is better
    losses = [got[k].metrics["log_loss"] for k in ("good", "poor")]
    assert value == pytest.approx(losses[0] - losses[1])
    assert got["good"].intervals["log_loss"][0] == losses[0]


def test_the_size_of_a_chunk_changes_nothing():
    class Mean:
        name = "mean"

        def score(self, histories, candidates):
            sums = np.bincount(histories.owners, histories.labels, minlength=len(histories))
            return sums[:, None] + candidates

    one, whole = (score_questions(Mean(), ASKED, chunk=c) for c in (1, 10**6))
    assert (one == whole).all()
    evaluation = evaluate(Mean(), ASKED, resamples=20)
    assert evaluation.rows == 400 and evaluation.metrics["auc"] == auc(whole, ASKED.labels)


def test_a_table_with_holes_is_refused():
    holed = GOOD.copy()
    holed[3] = np.nan
    for scores in (holed, GOOD[:50]):
        with pytest.raises(ConfigError, match=r"'holed'.*400 rows of the (judged|validation) split"):
            table({"holed": scores})
    with pytest.raises(ConfigError, match="'good' has test scores but no validation scores"):
        compare({"good": GOOD}, ASKED, validation_scores={}, validation_labels=ASKED.labels)


def test_nameless_users_are_refused():
    histories = ASKED.histories
    nameless = Histories(
        np.full(400, -1), histories.items, histories.labels, histories.times, histories.offsets,
        histories.asked_at,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="400 of 400 questions have user -1"):
        evaluate(Stub(), Questions(nameless, ASKED.targets, ASKED.labels, ASKED.rows))


def test_undefined_metrics_say_why():
    liked = Questions(ASKED.histories, ASKED.targets, np.ones(400, dtype=np.int8), ASKED.rows)
    got = table({"good": GOOD}, liked)["good"]
    assert got.metrics["auc"] is None and got.reasons["auc"] == "all rows have the same label"
    assert got.metrics["uauc"] is None and got.metrics["ndcg@5"] is None
    assert got.intervals["auc"] == [None, None, None] and got.metrics["scored_users"] == 0
    assert not any(isinstance(v, float) and np.isnan(v) for v in got.metrics.values())


def test_candidate_lists_are_ranked_whole_and_checked():
    class Falling:
        name = "falling"

        def score(self, histories, candidates):
            return -candidates.astype(float)

    histories = ASKED.histories.take(np.array([0, 1, 2]))
    candidates = np.array([[0, 1, 2, 3], [2, 1, 0, 3], [3, 0, 1, 2]])  # ranks 1, 3 and 4
    got = evaluate_ranking(Falling(), histories, candidates, ks=(1, 3), chunk=2)
    assert got["hr@1"] == pytest.approx(1 / 3) and got["hr@3"] == pytest.approx(2 / 3)
    assert got["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 4) / 3)
    with pytest.raises(ConfigError, match=r"row 1 .* more than once"):
        evaluate_ranking(Falling(), histories, np.array([[0, 1], [2, 2], [3, 0]]))
    with pytest.raises(DivergedError, match="not finite"):
        evaluate_ranking(Stub(float("inf")), histories, candidates)


def test_a_scorer_with_the_wrong_shape_is_named():
    class Flat:
        name = "flat"

        def score(self, histories, candidates):
            return np.zeros(len(candidates))

    with pytest.raises(ConfigError, match=r"'flat' gave shape \(400,\) for candidates \(400, 1\)"):
        score_questions(Flat(), ASKED)


@pytest.mark.parametrize(("slow", "told"), [(False, [40]), (True, [16, 32, 40])])
def test_lists_of_a_language_model_are_few_at_a_time_so_that_it_says_how_far_it_is(slow, told):
    class Counts:
        name, asks_language_model = "counts", slow

        def score(self, histories, candidates):
            return -np.asarray(candidates, dtype=np.float64)

    none = np.array([], dtype=np.int64)
    nobody = Histories(
        np.arange(40), none, none.astype(np.int8), none, np.zeros(41, dtype=np.int64), np.arange(40)
    )
    lists, heard = np.tile([1, 0, 2, 3], (40, 1)), []
    ranks = rank_positives(
        Counts(), nobody, lists, progress=lambda done, total: heard.append((done, total))
    )
    assert heard == [(done, 40) for done in told] and (ranks == 2).all()
