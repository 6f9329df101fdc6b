"""Rules of what follows what, by hand, and a world that only order explains."""

from __future__ import annotations

import numpy as np
import pytest

from sasrecllm.baselines.pairs import fading
from sasrecllm.baselines.sequence_rules import SequenceRules
from sasrecllm.baselines.train_interactions import TrainRows


def trained(*sequences, dislike=None):
    """Training rows of one user each; ``dislike`` is an item that nobody likes where it stands."""
    users = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    items = np.concatenate([np.array(s, dtype=np.int64) for s in sequences])
    labels = (items != dislike).astype(np.int8)
    return TrainRows(users, items, labels, n_users=len(sequences), n_items=6)


def test_rules_by_hand(asked):
    # 0→1 twice next to each other, 0→2 and 1→2 once; the dislike of 4 is no place in the row.
    rows = trained([0, 4, 1, 2], [0, 1], dislike=4)
    scorer = SequenceRules(rows, reach=2, half_life=1.0, shrink=0.0, cosine=0.5)
    leaving = {0: 2.5, 1: 1.0}  # 0→1 twice and 0→2 at distance 2
    entering = {1: 2.0, 2: 1.5}
    to_1 = 2 / np.sqrt(leaving[0] * entering[1])
    to_2 = 0.5 / np.sqrt(leaving[0] * entering[2]), 1 / np.sqrt(leaving[1] * entering[2])
    got = scorer.scores(asked([0], [0, 1], [1, 0], [2], [], [-1, 99]))
    assert got[0] == pytest.approx([0, to_1, to_2[0], 0, 0, 0])
    assert got[1] == pytest.approx([0, to_1 / 2, to_2[0] / 2 + to_2[1], 0, 0, 0])
    assert got[2] == pytest.approx([0, to_1, to_2[0] + to_2[1] / 2, 0, 0, 0])
    assert (got[3:] == 0).all()


def test_reach_and_shrinkage(asked):
    rows = trained([0, 1, 2, 3])
    near = SequenceRules(rows, reach=1, shrink=0.0).scores(asked([0]))[0]
    assert near.tolist() == [0, 1, 0, 0, 0, 0]
    shares = SequenceRules(trained([0, 1], [0, 1], [0, 2]), reach=1, shrink=0.0).scores(asked([0]))[0]
    assert shares == pytest.approx([0, 2 / 3, 1 / 3, 0, 0, 0])
    shrunk = SequenceRules(rows, reach=1, shrink=3.0).scores(asked([0]))[0]
    assert shrunk[1] == pytest.approx(1 / 4)


def test_the_direction_counts(asked):
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 6, 80)
    rows = trained(*([s, (s + 1) % 6, (s + 2) % 6] for s in starts))
    best = SequenceRules(rows).scores(asked(*([i] for i in range(6)))).argmax(1)
    assert best.tolist() == [1, 2, 3, 4, 5, 0]


def test_a_like_fades_by_newer_likes(asked):
    worth = fading(asked([5, 4, 3], [1], []), half_life=2.0)
    assert worth == pytest.approx([0.5, 2**-0.5, 1, 1])
