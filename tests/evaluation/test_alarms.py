"""A table that shows how its questions were made has no headline."""

import pytest

from sasrecllm.evaluation.alarms import alarms


def row(auc, low, high, gain=None):
    better = {} if gain is None else {"popularity": {"auc": gain}}
    return {"metrics": {"auc": auc}, "intervals": {"auc": [auc, low, high]}, "differences": better}


FINE = {"popularity": row(0.6, 0.55, 0.65), "model": row(0.8, 0.7, 0.9, [0.2, 0.1, 0.3])}
HIT = {"hr@10": [0.3, 0.2, 0.4], "lists": 100, "chance": 0.01}
MISSED = HIT | {"hr@10": [0.01, 0.0, 0.015]}


def found(rows=FINE, lists=HIT, **more):
    served = None if lists is None else {"rows": {"model": lists}, "served": "model"}
    return alarms(
        rows, final="model", trivial=["popularity"], rivals=["popularity"], lists=served, **more
    )


def test_a_table_of_taste_raises_none():
    assert found() == found(lists=None) == []
    assert found(shares={"have no training row": (0.3, 0.28)}) == []


def test_a_trivial_row_surely_below_one_half():
    (said,) = found(FINE | {"popularity": row(0.17, 0.12, 0.2)})
    assert "popularity has an AUC of 0.170, surely below .5" in said
    assert found(FINE | {"popularity": row(0.45, 0.4, 0.52)}) == []


def test_likes_that_are_untrained_beside_others_that_are_trained():
    (said,) = found(shares={"have no training row": (0.98, 0.3), "are red": (0.5, 0.5)})
    assert said.startswith("98% of the liked test items have no training row, but 30%")


@pytest.mark.parametrize(("low", "told"), [(0.1, 1), (-0.01, 0)])
def test_an_auc_that_is_surely_better_beside_lists_at_chance(low, told):
    rows = FINE | {"model": row(0.8, 0.7, 0.9, [0.2, low, 0.3])}
    assert len(found(rows, MISSED)) == told


@pytest.mark.parametrize(
    ("high", "behind", "told"), [(0.03, -0.01, 1), (0.03, 0.02, 0), (0.03, None, 0), (0.015, 0.02, 1)]
)
def test_few_lists_that_may_hit_twice_as_often_as_random_ones_tell_nothing(high, behind, told):
    """A hundred lists with one hit expected may be a model of taste or none; lists that are surely
    behind those of popularity are none."""
    rows = FINE | {"model": row(0.8, 0.7, 0.9, [0.2, 0.1, 0.3])}
    lists = MISSED | {"hr@10": [0.01, 0.0, high], "minus popularity": {}}
    if behind is not None:
        lists["minus popularity"] = {"ndcg@10": [behind - 0.05, behind - 0.1, behind]}
    assert len(found(rows, lists)) == told
