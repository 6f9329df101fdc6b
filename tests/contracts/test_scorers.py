"""What every scorer obeys: shape, independence of the batch, and an answer for the unknown."""

import numpy as np
import pytest

from sasrecllm.baselines.table import BASELINES
from sasrecllm.baselines.trivial import TrainMeans
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.table import ENCODERS, build_encoder
from sasrecllm.types import Histories, Scorer

RNG = np.random.default_rng(0)
N_USERS, N_ITEMS = 12, 20
TRAIN = (
    RNG.integers(0, N_USERS, 200),
    RNG.integers(0, N_ITEMS, 200),
    RNG.integers(0, 2, 200).astype(np.int8),
)
MEANS = TrainMeans.fit(*TRAIN, n_users=N_USERS, n_items=N_ITEMS)


def encoder(kind):
    seen = np.arange(N_ITEMS) < N_ITEMS - 3
    built = build_encoder(kind, n_items=N_ITEMS, n_users=N_USERS, width=8, length=5, seen_items=seen)
    return EncoderScorer(kind, built)


SCORERS = {name: make(MEANS) for name, make in BASELINES.items()} | {k: encoder(k) for k in ENCODERS}


def histories(rows=16):
    lengths = RNG.integers(0, 9, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    size = int(offsets[-1])
    users = RNG.integers(0, N_USERS, rows)
    users[:2] = -1, N_USERS + 5  # a new user, and one that came after training
    items = RNG.integers(-1, N_ITEMS + 2, size)
    labels = RNG.integers(0, 2, size).astype(np.int8)
    return Histories(users, items, labels, np.arange(size), offsets, np.full(rows, 10**6))


KNOWN = histories()
CANDIDATES = RNG.integers(-1, N_ITEMS + 3, (16, 7))


@pytest.mark.parametrize("name", SCORERS)
class TestEveryScorer:
    def test_is_a_scorer_with_finite_scores_of_the_right_shape(self, name):
        scorer = SCORERS[name]
        assert isinstance(scorer, Scorer) and scorer.name == name
        for width in (1, 7):
            scores = scorer.score(KNOWN, CANDIDATES[:, :width])
            assert scores.shape == (16, width) and scores.dtype == np.float64
            assert np.isfinite(scores).all()

    def test_does_not_depend_on_batch_size_order_or_company(self, name):
        scorer = SCORERS[name]
        whole = scorer.score(KNOWN, CANDIDATES)
        for row in range(16):
            alone = scorer.score(KNOWN.take(np.array([row])), CANDIDATES[row : row + 1])
            assert np.abs(alone[0] - whole[row]).max() <= 1e-5
        order = RNG.permutation(16)
        turned = scorer.score(KNOWN.take(order), CANDIDATES[order])
        assert np.abs(turned - whole[order]).max() <= 1e-5

    def test_candidates_do_not_see_one_another(self, name):
        scorer = SCORERS[name]
        whole = scorer.score(KNOWN, CANDIDATES)
        for column in range(7):
            alone = scorer.score(KNOWN, CANDIDATES[:, [column]])
            assert np.abs(alone[:, 0] - whole[:, column]).max() <= 1e-5

    def test_all_unknown_items_are_the_same_item(self, name):
        unknown = np.tile(np.array([-1, N_ITEMS, N_ITEMS + 99]), (16, 1))
        scores = SCORERS[name].score(KNOWN, unknown)
        assert np.abs(scores - scores[:, :1]).max() <= 1e-6
