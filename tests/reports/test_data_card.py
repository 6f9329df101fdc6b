"""The card in words: each figure once, the same on the terminal and in the report."""

from dataclasses import replace

from sasrecllm.data.card import DataCard, SplitPart
from sasrecllm.reports.data_card import bars_of, card_lines, card_rows

CARD = DataCard(
    feedback="ratings", split="global-time", threshold=3.5,
    ratings=((1.0, 1.0, 250), (3.5, 3.5, 250), (5.0, 5.0, 500)),
    rows=1_000, users=90, items=70, items_met=66, liked=0.75, first="2020-01-01", last="2021-01-01",
    whole_days=True, history=(7.5, 1, 60), single=4, repeats=2, met_before=3, met_at_once=0, ties=5,
    splits={n: SplitPart(1, 1, 0.5) for n in ("train", "valid")} | {"test": SplitPart(100, 50, 0.8)},
    test_likes=80, untrained_likes=20, test_users=50, new_users=5,
    warnings=("something",), advice=("threshold: fits", "split: fine"),
)  # fmt: skip


def test_every_figure_is_shown() -> None:
    rows = card_rows(CARD)
    assert rows["rows"] == "1,000" and rows["users"] == "90, 4 of them with a single row"
    assert rows["items"] == "70 in the catalogue, 66 of them with a row"
    assert rows["likes"] == "75.0% of the rows (ratings of 3.5 or more)"
    assert rows["ratings"] == "1: 25.0%, 3.5: 25.0%, 5: 50.0%"
    assert rows["dates"] == "2020-01-01 to 2021-01-01, whole days"
    assert rows["median history"] == "7.5 rows a user, from 1 to 60"
    assert "3 rows on items that their user had met before; 2 rows" in rows["repeats"]
    assert rows["ties"].startswith("5 rows") and rows["train"] == "1 row of 1 user, 50% likes"
    assert rows["test"] == "100 rows of 50 users, 80% likes"
    assert rows["untrained items"] == "20 of 80 test likes (25%) are on items without a training row"
    assert rows["new users"] == "5 of 50 test users (10%) have no training row"
    assert bars_of(CARD) == {"1": 0.25, "3.5": 0.25, "5": 0.5}


def test_the_terminal_has_the_same_rows_and_the_advice_and_no_warning() -> None:
    lines = card_lines(CARD)
    assert [line.strip().partition("  ")[0] for line in lines[:-2]] == list(card_rows(CARD))
    assert lines[-2:] == ["threshold: fits", "split: fine"], "a warning is a line of its own elsewhere"


def test_what_there_is_none_of_is_left_out_or_called_so() -> None:
    bare = replace(
        CARD, feedback="implicit", threshold=None, ratings=(), first=None, last=None,
        history=(1.0, 1, 1),
        test_likes=0, untrained_likes=0, repeats=0, whole_days=False,
    )  # fmt: skip
    rows = card_rows(bare)
    assert "ratings" not in rows and bars_of(bare) == {}
    assert rows["likes"] == "every row (implicit feedback)" and rows["dates"] == "none in the log"
    assert rows["median history"] == "1 row a user, from 1 to 1"
    assert rows["untrained items"].startswith("0 of 0 test likes are") and "likes" not in rows["test"]
    assert "of one user, item" not in rows["repeats"]


def test_items_met_twice_at_one_moment_are_not_passed_over() -> None:
    """Sessions of a day whose order alone tells the rows apart: no repeat, and a copy no longer."""
    rows = card_rows(replace(CARD, met_before=0, met_at_once=7, repeats=0))
    assert rows["repeats"] == (
        "0 rows on items that their user had met before; 7 on items of an earlier row of their user at"
        " the same moment"
    )
