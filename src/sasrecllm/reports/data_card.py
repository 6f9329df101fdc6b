"""The data card in words: the same figures on the terminal and in the report."""

from __future__ import annotations

from sasrecllm.data.card import DataCard
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.quality import WARNING
from sasrecllm.data.log_facts import Bar
from sasrecllm.machine.progress import Progress


def card_rows(card: DataCard) -> dict[str, str]:
    """Label -> what the data is, in the order in which it is read."""
    median, fewest, most = card.history
    again = f"; {card.repeats:,} rows were of one user, item and moment" if card.repeats else ""
    if card.met_at_once > card.repeats:  # told apart by their order alone
        again = f"; {card.met_at_once:,} on items of an earlier row of their user at the same moment"
    rows = {
        "rows": f"{card.rows:,}",
        "users": f"{card.users:,}, {card.single:,} of them with a single row",
        "items": f"{card.items:,} in the catalogue, {card.items_met:,} of them with a row",
        "likes": _likes(card),
        "ratings": ", ".join(f"{name}: {share:.1%}" for name, share in bars_of(card).items()),
        "dates": _dates(card),
        "median history": f"{_count(median, 'row')} a user, from {fewest:,} to {most:,}",
        "repeats": f"{card.met_before:,} rows on items that their user had met before{again}",
        "ties": f"{card.ties:,} rows share user and moment with another row",
    }
    for name, part in card.splits.items():
        liked = "" if card.feedback == "implicit" else f", {part.liked:.0%} likes"
        rows[name] = f"{_count(part.rows, 'row')} of {_count(part.users, 'user')}{liked}"
    likes = _of(card.untrained_likes, card.test_likes, "test likes")
    rows["untrained items"] = f"{likes} are on items without a training row"
    rows["new users"] = f"{_of(card.new_users, card.test_users, 'test users')} have no training row"
    return {label: text for label, text in rows.items() if text}


def card_lines(card: DataCard) -> list[str]:
    """The card for a terminal, a line for each label and each piece of advice."""
    rows = card_rows(card)
    width = max(map(len, rows))
    return [*(f"  {label:{width}}  {text}" for label, text in rows.items()), *card.advice]


def say_card(progress: Progress, card: DataCard, dataset: Dataset) -> None:
    """The card, what a reader must know of its preparation, and warnings, which are always shown."""
    notes = [note for note in dataset.notes if not note.startswith(WARNING)]
    for text in (f"data: {dataset.name}", *card_lines(card), *notes):
        progress.line(text)
    for text in card.warnings:
        progress.warning(text)


def bar_name(bar: Bar) -> str:
    """The rating, or the range of ratings, of a bar of the histogram.

    >>> bar_name((4.0, 4.0, 9)), bar_name((10.0, 20.0, 9))
    ('4', '10 to 20')
    """
    low, high, _ = bar
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def bars_of(card: DataCard) -> dict[str, float]:
    """Rating, or range of ratings -> its share of the rows."""
    total = sum(rows for *_, rows in card.ratings)
    return {bar_name(bar): bar[2] / total for bar in card.ratings}


def _likes(card: DataCard) -> str:
    if card.feedback == "implicit":
        return "every row (implicit feedback)"
    what = " (the log's labels)" if card.feedback == "labels" else ""
    if card.threshold is not None:
        what = f" (ratings of {card.threshold:g} or more)"
    return f"{card.liked:.1%} of the rows{what}"


def _dates(card: DataCard) -> str:
    if card.first is None:
        return "none in the log"
    return f"{card.first} to {card.last}{', whole days' if card.whole_days else ''}"


def _of(part: int, whole: int, what: str) -> str:
    """``3 of 12 users (25%)``; the share is left out where there is nothing to divide."""
    return f"{part:,} of {whole:,} {what}" + (f" ({part / whole:.0%})" if whole else "")


def _count(number: float, what: str) -> str:
    """``1 row``, ``12.5 rows``."""
    return f"{number:,.1f}".removesuffix(".0") + f" {what}{'' if number == 1 else 's'}"
