"""How numbers, intervals and names are written for people."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """A metric for people: ``.7317``, ``+.0123``, or ``–`` where undefined.

    >>> number(0.73174), number(-0.05, sign=True), number(None)
    ('.7317', '−.0500', '–')
    """
    if value is None:
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if abs(value) < 1 else text
    return ("−" if value < 0 else "+" if sign else "") + text


def span(triple: Sequence[float | None] | None, sign: bool = False) -> str:
    """A value with its interval: ``.7317 [.7110, .7520]``."""
    if not triple or triple[0] is None:
        return "–"
    value, low, high = triple
    return f"{number(value, sign=sign)} [{number(low, sign=sign)}, {number(high, sign=sign)}]"


def two_lines(triple: Sequence[float | None] | None, sign: bool = False) -> str:
    """A value with its interval below it, for a cell of the terminal's tables."""
    if not triple or triple[0] is None:
        return "–"
    value, low, high = triple
    below = f"[dim]{number(low, 3, sign)}, {number(high, 3, sign)}[/dim]"
    return f"{number(value, sign=sign)}\n{below}"


def surely(triple: Sequence[float | None] | None) -> bool:
    """Whether an interval of a difference excludes zero."""
    if not triple or triple[1] is None or triple[2] is None:
        return False
    return triple[1] > 0 or triple[2] < 0


def cell(text: str) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def duration(seconds: float) -> str:
    """A time for people, in words.

    >>> duration(30.4), duration(200), duration(8000)
    ('30 seconds', '3.3 minutes', '2.2 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} second{'' if round(seconds) == 1 else 's'}"
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
