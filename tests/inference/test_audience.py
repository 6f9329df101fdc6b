"""Which users would like an item: in the order of the score, those who have met it or not."""

import numpy as np
import pytest

from sasrecllm.data.catalog import Catalog
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.inference.audience import audience_of
from sasrecllm.types import UNKNOWN, Histories


class ByUser:
    """Scores by the user alone."""

    name = "by user"

    def score(self, histories, candidates):
        return np.repeat(histories.users[:, None] * 1.0, candidates.shape[1], axis=1)


class Log:
    """Users 0 to 3 with a row each, user 4 with none: (item, liked) of user n."""

    rows = ((0, 1), (1, 0), (0, 1), (2, 1))
    users = np.arange(4)
    items = np.array([item for item, _ in rows])
    catalog = Catalog(["a", "b", "c"], ["A", "B", "C"], [f"u{n}" for n in range(5)])

    def latest(self, users):
        labels = np.array([self.rows[u][1] for u in users], np.int8)
        offsets = np.arange(len(users) + 1)
        return Histories(
            users, self.items[users], labels, offsets[:-1], offsets, np.full(len(users), 9)
        )


@pytest.mark.parametrize(
    ("allowed", "wanted"), [(True, ["u3", "u2", "u1", "u0"]), (False, ["u3", "u1"])]
)
def test_users_fall_by_score(allowed, wanted):
    got = audience_of(ByUser(), Calibration(), Log(), 0, 9, allowed=allowed)
    assert [line["user_id"] for line in got] == wanted
    assert [line["rank"] for line in got] == list(range(1, len(wanted) + 1))
    assert got[0]["probability"] == pytest.approx(1 / (1 + np.exp(-3.0)))
    liked = {line["user_id"]: line["recently_liked"] for line in got}
    assert liked["u3"] == "C" and liked["u1"] is None


def test_as_many_as_are_asked_for():
    assert len(audience_of(ByUser(), Calibration(), Log(), 1, 2, allowed=True)) == 2
    assert UNKNOWN not in audience_of(ByUser(), Calibration(), Log(), 1, 2, allowed=True)


def test_a_first_stage_names_whom_the_score_is_asked_about():
    asked = []

    class Noted(ByUser):
        def score(self, histories, candidates):
            asked.extend(histories.users.tolist())
            return super().score(histories, candidates)

    def first(histories, item):
        assert item == 0 and len(histories) == 4
        return np.array([3.0, 9.0, 5.0, 1.0])[histories.users]

    def found(k, count):
        asked.clear()
        lines = audience_of(Noted(), Calibration(), Log(), 0, k, allowed=True, first=first, count=count)
        return [line["user_id"] for line in lines]

    assert found(1, 2) == ["u2"] and asked == [1, 2], "the better of the two by its own score"
    assert found(3, 2) == ["u2", "u1", "u0"] and asked == [0, 1, 2], "as many as are to be shown"
    assert found(1, 4) == ["u3"] and asked == [0, 1, 2, 3]
