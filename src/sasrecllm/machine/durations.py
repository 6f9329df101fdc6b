"""Durations as people write them: ``90s``, ``15m``, ``1h30m``."""

from __future__ import annotations

import re

SPELLING = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
ALLOWED = "90s, 15m, 2h or 1h30m: whole numbers with h, m, s, in this order"


def seconds_of(text: object) -> int:
    """The seconds of a duration.

    Raises:
        ValueError: it is none, or is no time at all; with what is allowed.

    >>> seconds_of("90s"), seconds_of("15m"), seconds_of("1h30m")
    (90, 900, 5400)
    """
    found = SPELLING.fullmatch(text) if isinstance(text, str) else None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise ValueError(f"a duration is written as {ALLOWED}")
    return total
