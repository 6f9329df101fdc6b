"""The fusion finds the weights of a known world, trusts words on new items, and cannot game UAUC."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.fusion.score_fusion import Fusion, FusionWeights, bounded, fit_fusion
from sasrecllm.types import Histories

RNG = np.random.default_rng(0)
N = 6000
USERS = RNG.integers(0, 100, N)
WORDS, CROWD, NOISE = RNG.normal(size=(3, N))
UNSEEN = RNG.random(N) < 0.3
# On known items both count, on new items only the words do.
TRUE = 1.2 * WORDS + np.where(UNSEEN, 0.0, 1.0) * CROWD
LABELS = (RNG.random(N) < 1 / (1 + np.exp(-TRUE))).astype(np.int8)
SCORES = np.stack([10 * WORDS + 3, 0.1 * CROWD, NOISE], axis=1)
NAMES = ("llm", "encoder", "item mean")


def test_it_finds_what_counts_where():
    found = fit_fusion(SCORES, LABELS, USERS, UNSEEN, components=NAMES, pairwise=1.0, ridge=1.0)
    assert found.seen[0] == pytest.approx(1.2, abs=0.15) and found.seen[1] == pytest.approx(
        1.0, abs=0.15
    )
    assert found.unseen[0] == pytest.approx(1.2, abs=0.2) and found.unseen[1] < 0.2
    assert found.seen[2] < 0.1
    combined = found.combine(SCORES, UNSEEN)
    assert auc(combined, LABELS) > max(auc(SCORES[:, i], LABELS) for i in range(3)) + 0.04
    # The sum is a calibrated logit.
    assert (1 / (1 + np.exp(-combined))).mean() == pytest.approx(LABELS.mean(), abs=0.01)


def test_no_weight_is_negative_even_where_that_would_raise_uauc():
    """A running mean of earlier labels runs against the rest of a user's labels, by arithmetic."""
    users = np.repeat(np.arange(300), 4)
    labels = (RNG.random(1200) < 0.5).astype(np.int8)
    by_user = labels.reshape(300, 4)
    before = np.cumsum(by_user, 1) - by_user
    running = ((before + 2.5) / (np.arange(4) + 5)).reshape(-1)
    assert uauc(-running, labels, users).value > 0.6  # nothing was learnt, and yet
    found = fit_fusion(
        running[:, None], labels, users, np.zeros(1200, dtype=bool), components=("running mean",),
        pairwise=10.0, ridge=0.0,
    )  # fmt: skip
    assert found.seen[0] >= 0


def test_the_same_input_gives_the_same_weights_and_they_survive_json():
    one, two = (
        fit_fusion(SCORES, LABELS, USERS, UNSEEN, components=NAMES, pairwise=1.0, ridge=1.0)
        for _ in "ab"
    )
    assert one == two == FusionWeights.from_dict(one.to_dict())


class Part:
    def __init__(self, factor):
        self.name, self.factor = "part", factor

    def score(self, histories, candidates):
        return candidates * self.factor


def test_the_scorer_is_the_sum_and_treats_unknown_items_as_new():
    weights = FusionWeights(("a", "b"), (0.0, 1.0), (1.0, 2.0), (1.0, 2.0, 0.5), (3.0, 0.0, -1.0))
    fused = Fusion("x", weights, [Part(1.0), Part(2.0)], np.array([True, False, True]))
    nobody = Histories(*(np.zeros(0, dtype=np.int64) for _ in range(6)))
    got = fused.score(nobody, np.array([[0, 1, 2, 7, -1]]))

    def known(i):
        return i + 2.0 * ((2 * i - 1) / 2) + 0.5

    assert got[0] == pytest.approx([known(0), 3 * 1 - 1, known(2), 3 * 7 - 1, -4])


def test_what_words_add_to_a_new_item_is_bounded_and_keeps_its_order():
    x = np.linspace(-40, 40, 4001)
    got = bounded(x, 1.5)
    assert (np.abs(got) <= 1.5).all() and (np.sign(got) == np.sign(x)).all()
    assert (np.abs(got) <= np.abs(x)).all()
    small, far = np.abs(x) <= 0.75, np.abs(x) < 10  # beyond, doubles cannot tell the steps apart
    assert got[small] == pytest.approx(x[small], abs=1e-12)
    assert (np.diff(got[far]) > 0).all()


WEIGHTS = FusionWeights(
    ("llm", "item quality", "steady level"), (0.5, 0.0, 0.0), (2.0, 1.0, 1.0),
    (3.0, 1.0, 0.5, 0.1), (3.0, 1.0, 0.5, -0.2), worded=("llm", "item quality"), most=1.0,
)  # fmt: skip


@given(st.lists(st.floats(-30, 30), min_size=6, max_size=6))
def test_no_two_titles_of_a_new_item_are_further_apart_than_the_bound_allows(values):
    one, two = np.array(values).reshape(2, 3)
    two[2] = one[2]  # the same history: its level is no word's business
    scores = np.stack([one, two])
    new, known = np.ones(2, dtype=bool), np.zeros(2, dtype=bool)
    got = WEIGHTS.combine(scores, new)
    level = 0.5 * one[2] - 0.2
    assert (np.abs(got - level) <= 1.0 + 1e-9).all() and abs(got[0] - got[1]) <= 2.0 + 1e-9
    free = replace(WEIGHTS, most=None)
    before = free.combine(scores, new)
    apart = np.diff(before)[0]
    assert apart * np.diff(got)[0] >= -1e-9  # the order stays
    # What training has rows of is judged as before, and so is everything that is not words.
    assert WEIGHTS.combine(scores, known) == pytest.approx(free.combine(scores, known), abs=1e-12)
    assert WEIGHTS.parts(scores, new)[:, 2] == pytest.approx(free.parts(scores, new)[:, 2], abs=1e-12)


def test_the_parts_of_a_bounded_score_still_add_up_to_it():
    scores = np.array([[9.0, 4.0, 1.0], [0.5, 0.0, 0.3], [-7.0, 1.0, -1.0]])
    new = np.ones(3, dtype=bool)
    parts = WEIGHTS.parts(scores, new)
    assert parts.sum(1) - 0.2 == pytest.approx(WEIGHTS.combine(scores, new))
    free = replace(WEIGHTS, most=None).parts(scores, new)
    assert parts[0, 0] / parts[0, 1] == pytest.approx(free[0, 0] / free[0, 1])
    assert parts[1] == pytest.approx(free[1])


def test_weights_of_before_the_bound_are_read_without_one():
    old = WEIGHTS.to_dict()
    assert FusionWeights.from_dict(old) == WEIGHTS
    del old["worded"], old["most"]
    assert FusionWeights.from_dict(old).most is None
