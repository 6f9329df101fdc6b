"""Which column of a file means what: the user's map first, then the names that the field uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from sasrecllm.data.interactions import LINE
from sasrecllm.errors import ConfigError, DataError, did_you_mean

# Names as MovieLens, Amazon, RecBole, Goodreads, Last.fm and Kaggle exports write them, in lower
# case without signs; RecBole's type suffix (user_id:token) is taken off first.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "user_id": ("userid", "user", "reviewerid", "uid", "customerid", "userkey", "visitorid"),
    "item_id": (
        *("itemid", "item", "iid", "movieid", "asin", "parentasin", "bookid", "isbn"),
        *("productid", "sku", "trackid", "artistid"),
    ),
    "label": ("label", "liked", "like", "clicked", "click", "target"),
    "rating": ("rating", "ratings", "overall", "stars", "score", "bookrating"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "ts", "unixtime", "date", "datetime"),
    "order": ("order", "position", "sequence"),
    "split": ("split",),
    "title": ("title", "name", "itemtitle", "itemname", "movietitle", "booktitle", "productname"),
}
INTERACTION_COLUMNS = ("user_id", "item_id", "label", "rating", "timestamp", "order", "split")
ITEM_COLUMNS = ("item_id", "title")


def check_map(columns: Mapping[str, str]) -> None:
    """Refuse a column map that speaks of columns we do not know.

    Raises:
        ConfigError: with the nearest known name.
    """
    known = [*ALIASES, "items.item_id", "items.title"]
    for ours in columns:
        if ours not in known:
            raise ConfigError(
                f"data.columns has {ours!r}; allowed: {', '.join(known)}" + did_you_mean(ours, known),
                "write our name first: data.columns.user_id=<name in your file>",
            )


def interactions(frame: pl.DataFrame, columns: Mapping[str, str], file: str) -> pl.DataFrame:
    """The canonical interaction columns of ``frame``; others are left out.

    Raises:
        DataError: a mapped column is absent, or two columns mean the same.
    """
    found = _found(frame, INTERACTION_COLUMNS, columns, file)
    keep = [pl.col(theirs).alias(ours) for ours, theirs in found.items()]
    return frame.select(*keep, *([LINE] if LINE in frame.columns else []))


def items(
    frame: pl.DataFrame, columns: Mapping[str, str], file: str, *, own_file: bool = True
) -> pl.DataFrame:
    """item_id, title and, out of a file of its own, every other column as an attribute.

    A map entry ``items.item_id`` or ``items.title`` speaks of the items file alone.
    """
    prefix = "items."
    own = {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}
    # item_id may be mapped for the interactions file only; the same name here is no duty.
    shared = {k: v for k, v in columns.items() if k == "item_id" and v in frame.columns}
    title = {k: v for k, v in columns.items() if k == "title"}
    found = _found(frame, ITEM_COLUMNS, {**shared, **title, **own}, file)
    keep = [pl.col(theirs).alias(ours) for ours, theirs in found.items()]
    if not own_file:
        return frame.select(*keep, *([LINE] if LINE in frame.columns else []))
    rest = [c for c in frame.columns if c not in found.values() and c not in found]
    return frame.select(*keep, *rest)


def _found(
    frame: pl.DataFrame, wanted: tuple[str, ...], columns: Mapping[str, str], file: str
) -> dict[str, str]:
    """Our name -> name in the file, for the wanted columns that are there."""
    found: dict[str, str] = {}
    for ours in wanted:
        if ours in columns:
            found[ours] = _mapped(frame, ours, columns[ours], file)
        elif ours in frame.columns and ours not in columns.values():
            found[ours] = ours
        else:
            near = [
                c
                for c in frame.columns
                if _plain(c) in ALIASES[ours] and c not in columns.values() and c != LINE
            ]
            if len(near) > 1:
                raise DataError(
                    f"{file}: columns {', '.join(near)} may each be the {ours}",
                    f"say which: data.columns.{ours}={near[0]}",
                )
            found.update({ours: near[0]} if near else {})
    return found


def _mapped(frame: pl.DataFrame, ours: str, theirs: str, file: str) -> str:
    if theirs not in frame.columns:
        shown = [c for c in frame.columns if c != LINE]
        raise DataError(
            f"{file} has no column {theirs!r} (data.columns.{ours}); its columns:"
            f" {', '.join(shown)}{did_you_mean(theirs, shown)}",
            "correct the name in data.columns",
        )
    return theirs


def _plain(name: str) -> str:
    """A column name in lower case, without signs and without RecBole's type.

    >>> _plain("User_ID:token"), _plain("movieId")
    ('userid', 'movieid')
    """
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())
