"""Where a user is named outside the prepared data: in sentences, in JSON, in tables of users."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl

USER = "user_id"
TABLES = (".parquet", ".csv", ".tsv")
LINES = (".jsonl", ".txt", ".log")


def named_in(text: str, user: str) -> bool:
    """Whether a sentence names ``user``: his id as a whole word.

    A bare number is an id only behind "user" or in quotes: every sentence may hold numbers.

    >>> named_in("user 7: 12 rows", "7"), named_in("7 users, 12 rows", "7")
    (True, False)
    >>> named_in("line 3: 'ada lovelace' twice", "ada lovelace"), named_in("adam", "ada")
    (True, False)
    """
    spelt = {user, json.dumps(user)[1:-1], json.dumps(user, ensure_ascii=False)[1:-1], repr(user)[1:-1]}
    word = "|".join(sorted(map(re.escape, spelt)))
    if re.fullmatch(r"[\d.,+-]+", user):
        pattern = rf"\b[Uu]sers?(?:_id)?\W{{1,3}}(?:{word})(?!\w)|(['\"])(?:{word})\1"
    else:
        pattern = rf"(?<!\w)(?:{word})(?!\w)"
    return re.search(pattern, text) is not None


def names_a_user(value: Any, users: Collection[str], key: str = "") -> bool:
    """Whether a JSON value names one of ``users`` anywhere.

    Args:
        key: under which it stands; a number or a whole text is an id under one that says "user".
    """
    if isinstance(value, dict):
        inside = (
            names_a_user(v, users, str(k)) or names_a_user(str(k), users) for k, v in value.items()
        )
        return any(inside)
    if isinstance(value, list):
        return any(names_a_user(v, users, key) for v in value)
    if "user" in key.lower() and str(value) in users:
        return True
    return isinstance(value, str) and any(named_in(value, user) for user in users)


def table_without(path: Path, users: Collection[str], out: Path) -> bool:
    """Write a table of users (``TABLES``) without the rows of ``users`` to ``out``.

    Returns:
        Whether there was such a row; without one, or without a column of users, nothing is written.
    """
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path, glob=False)
        else:
            frame = pl.read_csv(
                path, glob=False, infer_schema=False, separator="\t" if path.suffix == ".tsv" else ","
            )
    except pl.exceptions.PolarsError:  # no table of ours
        return False
    if USER not in frame.columns:
        return False
    kept = frame.filter(~pl.col(USER).cast(pl.String).is_in(list(users)).fill_null(False))
    if len(kept) == len(frame):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        kept.write_parquet(out)
    else:
        kept.write_csv(out, separator="\t" if path.suffix == ".tsv" else ",")
    return True


def file_without(path: Path, user: str, out: Path) -> bool:
    """Write a table, a log or JSON lines without the lines that name ``user`` to ``out``.

    Returns:
        Whether there was such a line; without one, or for another kind of file, nothing is written.
    """
    if path.suffix in TABLES:
        return table_without(path, [user], out)
    if path.suffix not in LINES:
        return False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if not _line_names(line, user, path.suffix == ".jsonl")]
    if len(kept) < len(lines):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(kept), encoding="utf-8")
    return len(kept) < len(lines)


def _line_names(line: str, user: str, is_json: bool) -> bool:
    try:
        return names_a_user(json.loads(line), [user]) if is_json else named_in(line, user)
    except ValueError:  # a line that somebody else wrote
        return named_in(line, user)
