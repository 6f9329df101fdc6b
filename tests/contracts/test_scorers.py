"""What every scorer of the table obeys, whatever arithmetic is inside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.table import ALWAYS, BASELINES
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.evaluation.ablated_scorers import ShuffledHistory
from sasrecllm.types import UNKNOWN, Histories, Scorer

N_USERS, N_ITEMS = 5, 9
RNG = np.random.default_rng(3)
TRAIN = (
    RNG.integers(0, N_USERS, 60),
    RNG.integers(0, N_ITEMS - 2, 60),  # the last two items are in no train row
    RNG.integers(0, 2, 60).astype(np.int8),
)
ROWS = TrainRows(*TRAIN, n_users=N_USERS, n_items=N_ITEMS, seed=4, times=RNG.integers(0, 12, 60))
SCORERS = {name: make(ROWS) for name, make in BASELINES.items()}
SCORERS["shuffled"] = ShuffledHistory(SCORERS["item mean + running mean"], seed=1)


def asked(seed: int, rows: int) -> Histories:
    """Histories of known and unknown users, empty ones among them, with rows at the asked second."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    size = int(offsets[-1])
    return Histories(
        rng.integers(UNKNOWN, N_USERS + 2, rows),
        rng.integers(UNKNOWN, N_ITEMS + 2, size),
        rng.integers(0, 2, size).astype(np.int8),
        rng.integers(0, 8, size),
        offsets,
        rng.integers(4, 9, rows),
    )


def same(one, other):
    """Double precision (1e-16), added in another order where a batch has another shape."""
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.fixture(params=list(SCORERS), ids=str)
def scorer(request) -> Scorer:
    return SCORERS[request.param]


def test_obeys_the_protocol_and_names_itself_as_in_the_table(scorer):
    assert isinstance(scorer, Scorer)
    if not isinstance(scorer, ShuffledHistory):
        assert BASELINES[scorer.name](ROWS).name == scorer.name
    assert list(BASELINES)[:3] == list(ALWAYS)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), rows=st.integers(0, 7), width=st.integers(1, 5))
def test_shape_batch_and_order_never_change_a_score(seed, rows, width):
    histories = asked(seed, rows)
    candidates = np.random.default_rng(seed + 1).integers(UNKNOWN, N_ITEMS + 2, (rows, width))
    order = np.random.default_rng(seed + 2).permutation(rows)
    for scorer in SCORERS.values():
        whole = scorer.score(histories, candidates)
        assert whole.shape == (rows, width) and whole.dtype == np.float64
        assert np.isfinite(whole).all()
        same(scorer.score(histories.take(order), candidates[order]), whole[order])
        for row in range(rows):
            alone = scorer.score(histories.take(np.array([row])), candidates[row : row + 1])
            same(alone, whole[row : row + 1])
        for column in range(width):
            one = scorer.score(histories, candidates[:, column : column + 1])
            same(one[:, 0], whole[:, column])


def test_unknown_unseen_and_foreign_items_score_alike(scorer):
    histories = asked(0, 4)
    candidates = np.tile([UNKNOWN, N_ITEMS - 1, N_ITEMS, 10**6], (4, 1))
    scores = scorer.score(histories, candidates)
    assert np.isfinite(scores).all()
    row = BASELINES.get(scorer.name)
    if scorer.name == "random":  # which hashes every number, known or not
        return
    if row is not None and row.reads_words:  # of an unseen item it knows the words
        scores = np.delete(scores, 1, axis=1)
    same(scores, np.broadcast_to(scores[:, :1], scores.shape))


def test_unknown_and_foreign_users_score_alike(scorer):
    histories = asked(5, 3)
    for user in (UNKNOWN, N_USERS, 10**6):
        turned = Histories(
            np.full(3, user),
            histories.items,
            histories.labels,
            histories.times,
            histories.offsets,
            histories.asked_at,
        )
        scores = scorer.score(turned, np.tile([0, 1], (3, 1)))
        reference = scorer.score(
            Histories(
                np.full(3, UNKNOWN), turned.items, turned.labels, turned.times, turned.offsets,
                turned.asked_at,
            ),
            np.tile([0, 1], (3, 1)),
        )  # fmt: skip
        # The order of a shuffled history and the hash depend on the user's number.
        if scorer.name != "random" and not isinstance(scorer, ShuffledHistory):
            same(scores, reference)
        assert np.isfinite(scores).all()


def test_without_train_rows_scores_are_defined():
    nothing = np.array([], dtype=np.int64)
    rows = TrainRows(nothing, nothing, nothing.astype(np.int8), n_users=0, n_items=0)
    for make in BASELINES.values():
        assert np.isfinite(make(rows).score(asked(1, 3), np.array([[0], [1], [-1]]))).all()


def test_later_rows_of_the_history_are_not_read():
    histories = asked(7, 6)
    late = histories.times >= histories.asked_at[histories.owners]
    assert late.any()
    turned = Histories(
        histories.users, histories.items, np.where(late, 1 - histories.labels, histories.labels),
        histories.times, histories.offsets, histories.asked_at,
    )  # fmt: skip
    for name in ALWAYS:
        zeros = np.zeros((6, 1), dtype=np.int64)
        same(SCORERS[name].score(turned, zeros), SCORERS[name].score(histories, zeros))


CHANNELS = [name for name, scorer in SCORERS.items() if isinstance(scorer, ListChannel)]


def test_the_rows_that_can_fill_lists():
    assert CHANNELS == [
        "popularity", "user preference", "ItemKNN", "Markov chain", "recent popularity", "EASE",
        "fading EASE", "sequence rules", "sequence cosine", "ALS",
    ]  # fmt: skip


@pytest.mark.parametrize("name", CHANNELS)
def test_scores_of_the_whole_catalogue_are_those_of_its_items(name):
    histories = asked(11, 7)
    every = np.tile(np.arange(N_ITEMS), (7, 1))
    whole = SCORERS[name].scores(histories)
    assert whole.shape == (7, N_ITEMS)
    same(whole, SCORERS[name].score(histories, every))
    same(SCORERS[name].scores(histories.take(np.array([4, 2]))), whole[[4, 2]])
    assert SCORERS[name].scores(histories.take(np.array([], dtype=np.int64))).shape == (0, N_ITEMS)
