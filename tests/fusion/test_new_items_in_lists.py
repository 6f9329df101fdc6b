"""What nobody has liked has the score of its nearest, one offset, and a place to be tried at."""

import numpy as np
import pytest

from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.new_items_in_lists import SPARE, NewItems, explored, fit_offset
from sasrecllm.types import UNKNOWN, Histories

TITLES = ["red night", "red day", "blue night", "red night", "alone", "blue day"]
# red: 3 of 6 titles, night: 3, blue: 2, day: 2
NEW = np.array([False, False, False, True, True, False])


def nobody(count):
    none = np.zeros(0, dtype=np.int64)
    zeros = np.zeros(count, dtype=np.int64)
    return Histories(
        np.arange(count), none, none.astype(np.int8), none, np.zeros(count + 1, dtype=np.int64), zeros
    )


def test_a_new_item_has_the_mean_of_its_nearest_by_squared_cosine():
    new = NewItems.of(WordLikeness.fit(TITLES), NEW, ~NEW)
    assert new.items.tolist() == [3, 4] and new.known_I.tolist() == [False] * 3 + [True] + [False] * 2
    # Of "red night" all speaks for itself; of the others one word of two, each of its own weight.
    often, rare = np.log(6 / 3), np.log(6 / 2)
    one_word = often / np.sqrt(2 * (often**2 + rare**2))
    cosines = np.array([1.0, one_word, one_word])
    shares = cosines**2 / ((cosines**2).sum() + SPARE)
    assert new.nearest[0, :3].tolist() == [0, 1, 2] and new.shares[0, :3] == pytest.approx(shares)
    assert new.shares[0, 3:].sum() == 0 == new.shares[1].sum()

    scores = np.array([[8.0, 4.0, 0.0, -99.0, -99.0, 4.0]])
    mean = 4.0
    got = new.with_offset(0.5).filled(scores)
    expected = shares @ scores[0, :3] + (1 - shares.sum()) * mean + 0.5
    # What shares no word with a liked item stands at the mean, without the offset.
    assert got[0] == pytest.approx([8, 4, 0, expected, mean, 4])
    assert scores[0, 3] == -99, "what was given stays"
    # Likes since training count where they say more.
    scores[0, 3] = 50.0
    assert new.with_offset(0.5).filled(scores)[0, 3] == 50.5
    # A constant for each user more is the same constant more: logits are given up to one.
    assert new.filled(scores + 7.0) == pytest.approx(new.filled(scores) + 7.0)


def test_many_likes_that_are_near_are_the_twenty_nearest():
    titles = [f"common number{n % 3}" for n in range(60)] + ["common number1"]
    is_new = np.arange(61) == 60
    new = NewItems.of(WordLikeness.fit(titles), is_new, ~is_new)
    assert set(new.nearest[0] % 3) == {1} and len(set(new.nearest[0])) == 20


def test_items_at_the_end_join_those_that_are_new():
    words = WordLikeness.fit(TITLES)
    new = NewItems.of(words, NEW, ~NEW).with_offset(0.25)
    grown = new.extended(words.extended(["blue night", "nothing known"]), 8)
    assert grown.items.tolist() == [3, 4, 6, 7] and grown.n_items == 8 and grown.offset == 0.25
    assert grown.known_I.tolist() == [False] * 3 + [True, False, False, True, False]
    assert 3 not in grown.nearest[2][grown.shares[2] > 0], "no new item speaks for another"
    scores = np.arange(8.0)[None, :]
    np.testing.assert_array_equal(grown.filled(scores)[:, :6], new.filled(scores[:, :6]))
    kept = NewItems.from_arrays(words, new.arrays(), 6, new.offset)
    np.testing.assert_array_equal(kept.filled(scores[:, :6]), new.filled(scores[:, :6]))


@pytest.mark.parametrize(
    "damage",
    [{"items": np.array([3, 99])}, {"shares": np.ones((1, 20))}, {"shares": np.full((2, 20), np.nan)}],
)
def test_damaged_arrays_are_refused(damage):
    words = WordLikeness.fit(TITLES)
    arrays = NewItems.of(words, NEW, ~NEW).arrays() | damage
    with pytest.raises(ValueError, match="new items"):
        NewItems.from_arrays(words, arrays, 6, 0.0)


@pytest.mark.parametrize("planted", [-1.0, 0.0, 2.0])
def test_the_offset_that_likes_were_drawn_with_comes_back(planted):
    rng = np.random.default_rng(3)
    users, items = 4000, 30
    is_new = np.arange(items) >= 24
    scores = rng.normal(size=(users, items))
    targets = (scores + planted * is_new + rng.gumbel(size=scores.shape)).argmax(1)
    got = fit_offset(
        lambda histories: scores[histories.users],
        is_new,
        nobody(users),
        targets,
        free=lambda histories: np.ones((len(histories), items), dtype=bool),
    )
    # The likes on either side are some hundred at least: three standard errors are .2.
    assert got == pytest.approx(planted, abs=0.2)


def test_every_so_many_places_one_is_a_new_item_s():
    is_new = np.zeros(40, dtype=bool)
    is_new[[12, 17, 33]] = True
    items = np.arange(30)[None, :]

    def order(every, reach=30):
        return items[0][explored(items, is_new, every, reach)[0]].tolist()

    assert order(0) == list(range(30))
    assert order(10)[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 9, 10]
    # 17 stands among the places 10 to 19 by itself, and what stands outside the list is no item of it.
    assert order(10)[12:] == [11, *range(13, 30)]
    assert sorted(order(10)) == list(range(30))
    assert order(10, reach=12) == list(range(30)), "it stands too far behind"
    # A list is the beginning of a longer one.
    for length in (10, 15, 20, 30):
        short = explored(items[:, : max(length, 20)], is_new, 10, 20)[:, :length]
        assert (
            items[0][short[0]].tolist()
            == items[0][explored(items, is_new, 10, 20)[0]][:length].tolist()
        )


def test_who_has_a_new_item_by_merit_gets_no_other_and_gaps_stay_behind():
    is_new = np.array([False, True, False, False, True])
    items = np.array([[0, 1, 2, 3, 4], [0, 2, 3, UNKNOWN, UNKNOWN]])
    assert explored(items, is_new, 3, 5).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert explored(items, is_new, 2, 5).tolist()[0] == [0, 1, 2, 4, 3]


def test_in_a_fusion_channels_by_likes_are_filled_and_words_speak_for_themselves():
    class ByLikes:
        name = "by likes"

        def scores(self, histories):
            return np.tile([2.0, 1.0, 1.0, 0.0, 0.0, 0.0], (len(histories), 1))

    words = WordLikeness.fit(TITLES)
    new = NewItems.of(words, NEW, ~NEW).with_offset(3.0)
    fusion = ListFusion((ByLikes(), words), 6, np.ones(2), np.array([1.0, 1.0]), new=new)
    liked = Histories(
        np.array([0]), np.array([0]), np.ones(1, dtype=np.int8), np.zeros(1, dtype=np.int64),
        np.array([0, 1]), np.array([9]),
    )  # fmt: skip
    expected = new.filled(ByLikes().scores(liked)) + words.scores(liked)
    np.testing.assert_allclose(fusion.scores(liked), expected)
    assert fusion.scores(liked)[0, 3] > 4  # its twin is liked: 1 by words, the offset, and its nearest
