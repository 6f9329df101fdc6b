"""The data card: figures that are right, and advice that is right on odd logs too."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.data.card import DataCard, card_of
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.interactions import Tables
from sasrecllm.data.log_facts import MOST_VALUES, histogram
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError

DAY = 86_400
STARTS = 1_600_000_000 // DAY * DAY  # 2020-09-13


def a_log(
    *,
    users: int = 40,
    rows: tuple[int, ...] = (12,),
    ratings: tuple[float, ...] = (),
    likes: str = "label",
    times: str = "seconds",
    days: int = 300,
    titles: str = "The film of {word} {number}",
    seed: int = 0,
    **settings: object,
) -> Dataset:
    """A prepared log of random rows; user n has ``rows[n % len(rows)]`` of them."""
    rng = np.random.default_rng(seed)
    made = []
    for user in range(users):
        for item in rng.permutation(30)[: rows[user % len(rows)]]:
            moment = STARTS + int(rng.integers(0, days * DAY))
            made.append((f"u{user}", f"i{item}", int(rng.random() < 0.6), moment))
    frame = pl.DataFrame(made, schema=["user_id", "item_id", "label", "timestamp"], orient="row")
    if ratings:
        drawn = rng.choice(ratings, frame.height)
        frame = frame.drop("label").with_columns(pl.Series("rating", drawn, dtype=pl.Float64))
    if likes == "none":
        frame = frame.drop("label")
    if times == "days":
        frame = frame.with_columns(pl.col("timestamp") // DAY * DAY)
    if times == "none":
        frame = frame.drop("timestamp")
    words = ("night", "river", "sea", "road", "house")
    shelf = [(f"i{n}", titles.format(id=f"i{n}", word=words[n % 5], number=n * 7)) for n in range(30)]
    items = pl.DataFrame(shelf, schema=["item_id", "title"], orient="row")
    return prepare(Tables(frame, items, "log"), **settings)  # type: ignore[arg-type]


def advice(card: DataCard, about: str) -> str:
    """The advice on one thing; empty where there is none."""
    return " ".join(text for text in card.advice if text.startswith(f"{about}: "))


def test_the_figures_are_those_of_the_rows() -> None:
    rows = [  # user, item, rating, day
        ("a", "x", 5, 0), ("a", "y", 2, 1), ("a", "x", 4, 2), ("a", "z", 5, 9),
        ("b", "x", 1, 1), ("b", "y", 5, 1), ("b", "z", 3, 8),
        ("c", "y", 4, 3), ("new", "z", 4, 9), ("a", "x", 3, 0),
    ]  # fmt: skip
    stamped = [(u, i, float(r), STARTS + d * DAY) for u, i, r, d in rows]
    frame = pl.DataFrame(stamped, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": list("vxyz"), "title": ["Four", "One", "Two", "Three"]})
    args = {"valid": "2020-09-21", "test": "2020-09-22"}
    card = card_of(prepare(Tables(frame, items, "log"), split="global-time", split_args=args))
    assert (card.rows, card.users, card.items, card.items_met) == (9, 4, 4, 3)
    assert card.repeats == 1, "two ratings of one user, item and day: the last one counts"
    assert card.met_before == 1 and card.ties == 2
    assert (card.first, card.last, card.whole_days) == ("2020-09-13", "2020-09-22", True)
    assert card.history == (2.0, 1, 4) and card.single == 2
    assert card.liked == pytest.approx(5 / 9) and card.threshold == 4.0
    assert card.ratings == ((1, 1, 1), (2, 2, 1), (3, 3, 2), (4, 4, 3), (5, 5, 2))
    assert {k: (v.rows, v.users) for k, v in card.splits.items()} == {
        "train": (6, 3), "valid": (1, 1), "test": (2, 2),
    }  # fmt: skip
    assert (card.test_likes, card.untrained_likes) == (2, 2), "z is not in training"
    assert (card.test_users, card.new_users) == (2, 1)


def test_what_the_log_knew_is_kept_with_the_data_and_older_data_is_read(tmp_path) -> None:
    dataset = a_log(ratings=(1, 2, 3, 4, 5))
    dataset.save(tmp_path)
    again = Dataset.load(tmp_path)
    assert card_of(again) == card_of(dataset) and again.digest == dataset.digest
    about = json.loads((tmp_path / "dataset.json").read_text())
    about.pop("log")
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    older = card_of(Dataset.load(tmp_path))
    assert older.ratings == () and older.rows == len(dataset) and older.split == ""


def test_a_forgotten_user_is_in_no_figure() -> None:
    dataset = a_log()
    card = card_of(dataset.without_users(np.array([0, 3])))
    assert card.users == 38 and card.rows == len(dataset) - 24 and card.history[1] == 12


def test_a_threshold_that_fits_is_said_to() -> None:
    for scale in ((1, 2, 3, 4, 5), tuple(np.arange(0.5, 5.1, 0.5))):
        card = card_of(a_log(ratings=scale))
        assert advice(card, "threshold").startswith("threshold: data.threshold=4 fits, ")
        assert f"{card.liked:.0%} of the rows are likes" in advice(card, "threshold")
        assert not card.warnings


@pytest.mark.parametrize("scale", [tuple(range(11)), tuple(range(1, 101)), (1, 2, 3) * 12 + (4,)])
def test_a_threshold_that_does_not_is_warned_of_with_one_that_does(scale) -> None:
    card = card_of(a_log(ratings=scale))
    assert advice(card, "threshold") == "", "one place for it"
    (warning,) = (text for text in card.warnings if "data.threshold" in text)
    better = float(warning.partition("; set data.threshold=")[2].partition(",")[0])
    again = card_of(a_log(ratings=scale, threshold=better))
    assert "fits" in advice(again, "threshold") and 0.2 < again.liked < 0.8


def test_labels_and_implicit_feedback_have_no_threshold() -> None:
    labels, implicit = card_of(a_log()), card_of(a_log(likes="none", negatives=3))
    for card in (labels, implicit):
        assert card.threshold is None and card.ratings == ()
        assert "data.threshold" not in " ".join((*card.advice, *card.warnings))
    assert "labels of its own" in advice(labels, "likes")
    assert "every row is a like, and 3 other items are drawn" in advice(implicit, "likes")
    assert implicit.liked == 1.0 and implicit.feedback == "implicit"


def test_no_times_days_and_one_month() -> None:
    timeless = card_of(a_log(times="none"))
    assert timeless.first is None and not timeless.whole_days
    assert "the order of the file" in advice(timeless, "order")
    assert "leave-one-out, the last row of a user" in advice(timeless, "split")
    daily = card_of(a_log(times="days", days=10))
    assert daily.whole_days and "times tell days alone" in advice(daily, "order")
    assert f"{daily.ties:,} of 480 rows share theirs" in advice(daily, "order") and daily.ties > 96
    month = card_of(a_log(days=30))
    assert advice(month, "order") == "" and not month.whole_days
    assert "the test begins on 2020-10-" in advice(month, "split")
    assert "and lasts 3 days" in advice(month, "split")


def test_days_with_hardly_a_tie_are_no_trouble() -> None:
    assert advice(card_of(a_log(times="days", days=3000)), "order") == ""


def test_one_user_and_users_of_one_row() -> None:
    one = card_of(a_log(users=1, rows=(30,)))
    assert one.users == 1 and any("of 1 user, too few" in text for text in one.warnings)
    single = card_of(a_log(rows=(1, 1, 1, 9), times="none"))
    assert single.single == 30 and single.history == (1.0, 1, 9)
    assert "30 of 40 users are never asked about" in advice(single, "split")


def test_a_test_of_newcomers_names_the_split_that_asks_about_the_known() -> None:
    dataset = a_log(users=60, rows=(4,))
    late = np.where(dataset.users < 35, 2, 0) + 0 * dataset.splits
    rows = np.arange(len(dataset))
    known = (dataset.users >= 35) & (rows % 4 == 3) & (dataset.users < 50)
    codes = np.where(known, 2, np.where(rows % 4 == 2, np.minimum(late + 1, 2), late)).astype(np.int8)
    asked = replace(dataset, splits=codes)
    card = card_of(asked)
    assert card.test_users > card.new_users > card.test_users / 2
    assert "set data.split=leave-one-out" in advice(card, "split")
    other = card_of(a_log(users=60, rows=(4,), split="leave-one-out"))
    assert other.new_users == 0 and "newcomers" not in advice(other, "split")


@pytest.mark.parametrize("titles", ["{id}", "item {id}", "{id} (product)"])
def test_titles_that_are_ids_are_no_words(titles) -> None:
    assert "strategy=encoder-only" in advice(card_of(a_log(titles=titles)), "words")


def test_titles_with_words_are_words() -> None:
    assert advice(card_of(a_log()), "words") == ""
    assert advice(card_of(a_log(titles="{word} {id}")), "words") == ""


@given(st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 2)), min_size=1, max_size=200))
def test_a_histogram_loses_no_row_and_every_bar_holds_what_it_says(ratings: list[float]) -> None:
    values = np.array(ratings)
    bars = histogram(values)
    assert sum(rows for *_, rows in bars) == len(values) and len(bars) <= MOST_VALUES
    for number, (low, high, rows) in enumerate(bars):
        last = number == len(bars) - 1
        inside = (values >= low) & ((values <= high) if low == high or last else (values < high))
        assert rows == inside.sum()


def test_bars_of_many_ratings_have_round_edges() -> None:
    bars = histogram(np.arange(1.0, 101.0))
    assert [(low, high) for low, high, _ in bars] == [(10.0 * n, 10.0 * n + 10) for n in range(10)]
    assert [rows for *_, rows in bars] == [9, *[10] * 8, 11]


def test_a_log_of_ids_alone_goes_on_by_what_its_refusal_says(tmp_path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("who,product\n" + "".join(f"u{n // 4},p{(3 * n) % 17}\n" for n in range(80)))
    named = {"user_id": "who", "item_id": "product"}
    with pytest.raises(DataError) as refusal:
        load_tables("files", path=path, columns=named)
    told = dict(re.findall(r"'data\.columns\.(\w+)=(\w+)'", refusal.value.remedy))
    assert told == {"item_id": "product", "title": "product"}
    card = card_of(prepare(load_tables("files", path=path, columns=named | told)))
    assert "strategy=encoder-only" in advice(card, "words") and card.feedback == "implicit"
    assert card.first is None and "the order of the file" in advice(card, "order")
