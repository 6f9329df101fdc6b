"""A costly score is weighed among the best of the others alone, and kept only where it pays."""

import numpy as np
import pytest

from sasrecllm.fusion.list_rerank import Rerank, reranked_contests
from sasrecllm.types import Histories

USERS, ITEMS, BEST = 400, 60, 12


def histories(users=USERS):
    none, zeros = np.zeros(0, dtype=np.int64), np.zeros(users, dtype=np.int64)
    offsets = np.zeros(users + 1, dtype=np.int64)
    return Histories(np.arange(users), none, none.astype(np.int8), none, offsets, zeros)


def everything(histories):
    return np.ones((len(histories), ITEMS), dtype=bool)


def weighed(scorer, fused, targets):
    contests, scale = reranked_contests(
        scorer, fused, histories(), targets,
        free=everything, n_items=ITEMS, best=BEST, progress=lambda *_: None,
    )  # fmt: skip
    return Rerank.fit(scorer, contests, scale, np.arange(USERS), best=BEST, seed=0)


class Asked:
    """Says what its table says, and remembers what it was asked about."""

    name = "costly"

    def __init__(self, table, **facts):
        self.table, self.asked = table, []
        vars(self).update(facts)

    def score(self, histories, candidates):
        self.asked += [
            (int(u), set(row.tolist())) for u, row in zip(histories.users, candidates, strict=True)
        ]
        return np.take_along_axis(self.table[histories.users], candidates, axis=1)


def fitted(weight, seed=0, **facts):
    rng = np.random.default_rng(seed)
    fused, own = rng.normal(size=(2, USERS, ITEMS))
    targets = (3 * fused + weight * own + rng.gumbel(size=fused.shape)).argmax(1)
    scorer = Asked(50.0 * own, **facts)
    return weighed(scorer, lambda h: 3 * fused[h.users], targets), scorer, fused


def test_a_score_that_knows_more_gets_the_weight_that_likes_were_drawn_with():
    rerank, scorer, fused = fitted(1.5)
    # Among the best of the other score the spread of the own one is 1 (times 50) still.
    assert rerank.weight / rerank.scale * 50 == pytest.approx(1.5, abs=0.3)
    assert rerank.with_it > rerank.without and rerank.asked == BEST and rerank.likes == USERS
    best = np.argsort(-fused, axis=1)[:, :BEST]
    assert scorer.asked == [(user, set(best[user].tolist())) for user in range(USERS)]
    assert f"orders the best {BEST} too" in rerank.said


@pytest.mark.parametrize("facts", [{}, {"asks_language_model": True}])
def test_lists_that_are_shorter_than_others_have_no_gaps_to_ask_about(facts):
    """Of every third history five items alone may be served, of the first none."""
    rng = np.random.default_rng(4)
    fused, own = rng.normal(size=(2, USERS, ITEMS))
    scorer, done = Asked(own, **facts), []

    def some(asked):
        free = everything(asked)
        free[asked.users % 3 == 0, 5:] = False
        free[asked.users == 0] = False
        return free

    contests, _ = reranked_contests(
        scorer, lambda h: fused[h.users], histories(), np.full(USERS, 2),
        free=some, n_items=ITEMS, best=BEST, progress=lambda at, _: done.append(at),
    )  # fmt: skip
    assert sorted(user for user, _ in scorer.asked) == list(range(1, USERS))
    lengths = np.diff(contests.offsets)
    assert lengths[0] == 0 and set(lengths[3::3]) == {5} and set(lengths[1::3]) == {BEST}
    for user, items in scorer.asked:
        part = contests.take(np.array([user]))
        order = np.sort(list(items))
        np.testing.assert_allclose(part.features[:, 0], fused[user, order])
        assert np.corrcoef(part.features[:, 1], own[user, order])[0, 1] == pytest.approx(1.0)
    assert done == sorted(done) and done[-1] == USERS - 1


@pytest.mark.parametrize("seed", range(3))
def test_a_score_that_knows_nothing_is_not_asked_and_costs_nothing(seed):
    rerank, _, _ = fitted(0.0, seed, asks_language_model=True)
    assert rerank.weight == 0 == rerank.asked == rerank.prompts
    assert "adds nothing to the order and is not asked for it" in rerank.said


def test_a_score_that_is_wrong_is_not_turned_round():
    rerank, _, _ = fitted(-2.0)
    assert rerank.weight == 0


def test_prompts_are_counted_where_a_language_model_is_asked():
    assert fitted(1.5, asks_language_model=True)[0].prompts == BEST
    assert fitted(1.5)[0].prompts == 0


def test_a_constant_score_has_no_weight_and_divides_nothing_by_zero():
    rerank = weighed(
        Asked(np.full((USERS, ITEMS), 0.1)),
        lambda h: np.tile(np.arange(ITEMS) / 7, (len(h), 1)),
        np.full(USERS, ITEMS - 3),
    )
    assert rerank.weight == 0 and np.isfinite(rerank.scale)


@pytest.mark.parametrize(
    "change", [{"weight": -1.0}, {"scale": 0.0}, {"best": 0}, {"weight": float("nan")}]
)
def test_damaged_numbers_are_refused(change):
    values = {
        "row": "x",
        "weight": 1.0,
        "scale": 1.0,
        "best": 5,
        "likes": 9,
        "without": 0.1,
        "with_it": 0.2,
    }
    assert Rerank.from_dict(values).asked == 5
    with pytest.raises(ValueError, match="reranker"):
        Rerank.from_dict(values | change)
    with pytest.raises(TypeError):
        Rerank.from_dict({"row": "x"})
