"""ALS: the equations hold, planted groups are found, histories are folded in, seeds count."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sasrecllm.baselines import als
from sasrecllm.baselines.als import ALS
from sasrecllm.baselines.train_interactions import TrainRows

USERS, GROUPS, EACH = 60, 3, 6


def planted(seed=0):
    """Each user likes four of the six items of a group; the last item of all is liked by nobody."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(USERS), 4)
    items = np.concatenate([rng.permutation(EACH)[:4] + EACH * (u % GROUPS) for u in range(USERS)])
    labels = np.ones(len(users), dtype=np.int8)
    return TrainRows(users, items, labels, n_users=USERS, n_items=EACH * GROUPS + 1, seed=seed)


def test_new_users_are_recommended_the_group_they_have_shown(asked):
    scorer = ALS(planted(), factors=4)
    scores = scorer.scores(asked([0, 1], [EACH + 3], []))
    for row, group in ((0, 0), (1, 1)):
        inside = np.arange(EACH * group, EACH * (group + 1))
        outside = np.setdiff1d(np.arange(EACH * GROUPS + 1), inside)
        assert scores[row, inside].min() > scores[row, outside].max() + 0.1
    assert (scores[2] == 0).all() and (scores[:, -1] == 0).all()


@pytest.mark.parametrize("factors", [3, 8])
def test_factors_solve_the_normal_equations_of_the_paper(asked, factors):
    """With as many likes as factors, and with fewer."""
    scorer = ALS(planted(), factors=factors, alpha=2.0, ridge=0.5)
    y = scorer.item_factors
    liked = [0, 2, 7]
    confidence = np.ones(len(y))
    confidence[liked] += 2.0
    preference = np.zeros(len(y))
    preference[liked] = 1.0
    left = (y * confidence[:, None]).T @ y + 0.5 * np.eye(factors)
    expected = np.linalg.solve(left, (y * confidence[:, None]).T @ preference)
    np.testing.assert_allclose(scorer.fold_in(asked(liked))[0], expected, rtol=1e-9, atol=1e-12)


def test_sweeps_lower_the_papers_objective(asked):
    rows = planted()
    likes = np.zeros((USERS, rows.n_items))
    likes[rows.users, rows.items] = 1.0

    def objective(sweeps):
        scorer = ALS(rows, factors=2, alpha=2.0, ridge=0.5, sweeps=sweeps)
        histories = asked(*(rows.items[rows.users == user] for user in range(USERS)))
        x, y = scorer.fold_in(histories), scorer.item_factors
        fit = ((1.0 + 2.0 * likes) * (likes - x @ y.T) ** 2).sum()
        return fit + 0.5 * ((x**2).sum() + (y**2).sum())

    values = [objective(sweeps) for sweeps in (1, 2, 4, 8)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(values))
    assert values[-1] < values[0]


def test_the_seed_is_that_of_the_rows():
    one, again, other = (ALS(planted(seed), factors=3, sweeps=2).item_factors for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("cells", [1, 40, 2**22])
def test_blocks_change_nothing(monkeypatch, cells, asked):
    histories = asked([0], [3, 4, 5, 6, 7], [], [9, 1], [2])
    whole = ALS(planted(), factors=4).scores(histories)
    monkeypatch.setattr(als, "CELLS_AT_ONCE", cells)
    # The solver may add up in another order where the batch has another shape.
    np.testing.assert_allclose(ALS(planted(), factors=4).scores(histories), whole, atol=1e-8)
