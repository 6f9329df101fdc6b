"""Which column of a file means what: the user's map first, then the names that the field uses.

A column that is left out is looked at first: what it may be goes into a note or a refusal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import polars as pl

from sasrecllm.data.interactions import LINE, FileColumns
from sasrecllm.errors import ConfigError, DataError, did_you_mean, nearest_name

# Names as MovieLens, Amazon, RecBole, Goodreads, Last.fm and Kaggle exports write them, in lower
# case without signs; RecBole's type suffix (user_id:token) is taken off first.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "user_id": ("userid", "user", "reviewerid", "uid", "customerid", "userkey", "visitorid"),
    "item_id": (
        *("itemid", "item", "iid", "movieid", "asin", "parentasin", "bookid", "isbn"),
        *("productid", "sku", "trackid", "artistid", "articleid"),
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
OPTIONAL = ("label", "rating", "timestamp", "order", "split")

LIKELY: Mapping[str, str] = {
    "timestamp": "the time of a row: 'data.columns.timestamp={}'",
    "rating": "a rating: 'data.columns.rating={}' with a data.threshold",
    "label": "a like or no like: 'data.columns.label={}'",
    "event": "the kind of an event, every kind counts alike now: keep the rows of one kind, or write"
    " 1 and 0 into '{}' and set 'data.columns.label={}'",
    "weight": "how much was used or bought: 'data.columns.rating={}' with a data.threshold",
}
"""What a column that nobody asked for may be, and the setting that would use it."""

# Words in the name of such a column; "My Rating", "t_dat" and "watchCount" are words too.
_WORDS: Mapping[str, str] = {
    "timestamp": "time date dat day datetime timestamp ts when epoch created updated unixtime at",
    "rating": "rating ratings score scores stars grade grades mark marks vote votes",
    "label": "label like likes liked click clicks clicked purchase purchased bought favorite favourite",
    "event": "event action behavior behaviour interaction activity",
    "weight": "weight weights count counts plays played playcount listens listened views quantity qty"
    " frequency duration playtime watched watchtime ratio hours minutes seconds dwell spent amount",
}
WRITTEN_DATE = r"\b(19|20)\d\d\b|\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b"
"""In dates as people write them, 13 Sep 2020 or 09/13/20: not read, but not overlooked either."""
SOME_NAME = "<name in your file>"
LOOKED_AT = 200  # values of a column that decide whether it may be a time


def check_map(columns: Mapping[str, str | None]) -> None:
    """Refuse a column map that speaks of columns we do not know.

    Raises:
        ConfigError: with the nearest name.
    """
    allowed = [*ALIASES, "items.item_id", "items.title"]
    for ours, theirs in columns.items():
        if ours not in allowed:
            raise ConfigError(
                f"data.columns has {ours!r}; allowed: {', '.join(allowed)}"
                + did_you_mean(ours, allowed),
                "write our name first: data.columns.user_id=<name in your file>",
            )
        if theirs is None and ours not in OPTIONAL:
            raise ConfigError(
                f"data.columns.{ours} is null, but that column is needed",
                f"give its name in your file; null is for {', '.join(OPTIONAL)}",
            )
    for one, other in combinations([c for c in INTERACTION_COLUMNS if columns.get(c)], 2):
        if columns[one] == columns[other]:
            raise ConfigError(
                f"data.columns.{one} and data.columns.{other} are both {columns[one]!r}",
                "give each column one meaning",
            )


def interactions(
    frame: pl.DataFrame, columns: Mapping[str, str | None], file: str, *, titled: bool = False
) -> tuple[pl.DataFrame, FileColumns]:
    """The canonical interaction columns of ``frame``, and what the file calls its columns.

    Args:
        columns: our column -> name in the file; None leaves out a column that has our name.
        titled: the titles stand in this file too.

    Raises:
        DataError: a mapped column is absent, or two columns mean the same.
    """
    found = _found(frame, INTERACTION_COLUMNS, columns, file)
    keep = [pl.col(theirs).alias(ours) for ours, theirs in found.items()]
    used = {*found.values(), LINE}
    if titled:
        used |= set(_found(frame, ("title",), columns, file).values())
    seen = FileColumns(
        found,
        {c: _likely(frame[c]) * (not _given_back(c, columns)) for c in frame.columns if c not in used},
    )
    return frame.select(*keep, *([LINE] if LINE in frame.columns else [])), seen


def items(
    frame: pl.DataFrame, columns: Mapping[str, str | None], file: str, *, own_file: bool = True
) -> tuple[pl.DataFrame, FileColumns]:
    """item_id, title and, out of a file of its own, every other column as an attribute.

    A map entry ``items.item_id`` or ``items.title`` speaks of the items file alone.
    """
    prefix = "items."
    own = {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}
    # item_id may be mapped for the interactions file only; the same name here is no duty.
    shared = {k: v for k, v in columns.items() if k == "item_id" and v in frame.columns}
    title = {k: v for k, v in columns.items() if k == "title"}
    found = _found(frame, ITEM_COLUMNS, {**shared, **title, **own}, file, own)
    keep = [pl.col(theirs).alias(ours) for ours, theirs in found.items()]
    rest = [c for c in frame.columns if c not in found.values() and c not in found and c != LINE]
    seen = FileColumns(found, dict.fromkeys(rest, ""))
    if not own_file:
        return frame.select(*keep, *([LINE] if LINE in frame.columns else [])), seen
    return frame.select(*keep, *rest, *([LINE] if LINE in frame.columns else [])), seen


def refuse_swapped(log: pl.DataFrame, items: pl.DataFrame, request: Mapping[str, str | None]) -> None:
    """Refuse a log and items whose paths were given in each other's place: users stand in the items.

    Raises:
        DataError: with the column.
    """

    def users(frame: pl.DataFrame) -> list[str]:
        if theirs := request.get("user_id"):
            return [c for c in frame.columns if c == theirs]
        return [c for c in frame.columns if c == "user_id" or _plain(c) in ALIASES["user_id"]]

    if users(items) and not users(log):
        raise DataError(
            f"the column of users, {users(items)[0]!r}, stands in the items, and not in the log",
            "give the two files in each other's place: data.path is the log, data.items_path the items",
        )


def notes(seen: FileColumns, file: str) -> list[str]:
    """What a reader must know of the columns that were left out."""
    likely = {c: kind for c, kind in seen.unused.items() if kind}
    if "timestamp" in seen.named:
        likely = {c: kind for c, kind in likely.items() if kind != "timestamp"}
    return [
        f"{file}: column {c!r} is not used; it may be {LIKELY[kind].format(c, c)}"
        for c, kind in likely.items()
    ]


def nearest(ours: str, names: Iterable[str]) -> str:
    """The name among ``names`` that is most like one of the names of our column; may be empty.

    >>> nearest("user_id", ["customer_no", "article_no", "mark"])
    'customer_no'
    """
    aliases = (_plain(ours), *ALIASES.get(ours, ()))
    close = [
        (max(difflib.SequenceMatcher(None, _plain(name), alias).ratio() for alias in aliases), name)
        for name in names
    ]
    ratio, name = max(close, default=(0.0, ""))
    return name if ratio >= 0.7 else ""


def _found(
    frame: pl.DataFrame,
    wanted: tuple[str, ...],
    columns: Mapping[str, str | None],
    file: str,
    of_items: Collection[str] = (),
) -> dict[str, str]:
    """Our name -> name in the file, for the wanted columns that are there.

    Args:
        of_items: columns that were named for the items file alone.
    """
    found: dict[str, str] = {}
    for ours in wanted:
        if ours in columns:
            theirs, key = columns[ours], f"{'items.' * (ours in of_items)}{ours}"
            found.update({} if theirs is None else {ours: _mapped(frame, key, theirs, file)})
        elif ours in frame.columns and ours not in columns.values():
            found[ours] = ours
        else:
            near = [
                c
                for c in frame.columns
                if _plain(c) in ALIASES[ours] and c not in columns.values() and c != LINE
            ]
            if len(near) > 1:
                out = f", or leave all of them out: data.columns.{ours}=null" * (ours in OPTIONAL)
                raise DataError(
                    f"{file}: columns {', '.join(near)} may each be the {ours}",
                    f"say which: data.columns.{ours}={near[0]}{out}",
                )
            found.update({ours: near[0]} if near else {})
    return found


def _mapped(frame: pl.DataFrame, key: str, theirs: str, file: str) -> str:
    if theirs not in frame.columns:
        shown = [c for c in frame.columns if c != LINE]
        close = nearest_name(theirs, shown) or nearest(key.split(".")[-1], shown)
        raise DataError(
            f"{file} has no column {theirs!r} (data.columns.{key}); its columns:"
            f" {', '.join(shown)}{did_you_mean(theirs, shown)}",
            f"name it: 'data.columns.{key}={close or SOME_NAME}'",
        )
    return theirs


def _given_back(name: str, columns: Mapping[str, str | None]) -> bool:
    """Whether a column would be taken by its name, had its user not said that it is no such column."""
    return any(theirs is None and _plain(name) in ALIASES[ours] for ours, theirs in columns.items())


def _likely(values: pl.Series) -> str:
    """What a column that is left out may be: a key of :data:`LIKELY`, or an empty string."""
    words = {w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", values.name.split(":")[0])}
    kinds = [kind for kind, hints in _WORDS.items() if words & set(hints.split())]
    if "timestamp" in kinds or not kinds:
        if _may_be_times(values, named="timestamp" in kinds):
            return "timestamp"
        kinds = [kind for kind in kinds if kind != "timestamp"]
    if "event" in kinds:
        return "event"
    return kinds[0] if kinds else ""


def _may_be_times(values: pl.Series, *, named: bool) -> bool:
    """Whether the first values are dates, or, in a column named like a time, large numbers."""
    if values.dtype.is_temporal():
        return values.dtype in (pl.Date, pl.Datetime)
    some = values.drop_nulls().head(LOOKED_AT)
    if some.is_empty():
        return False
    if some.dtype == pl.String and some.str.contains(r"^\s*\d{4}-?\d\d-?\d\d([T ].*)?$").all():
        return named or bool(some.str.contains("-", literal=True).all())
    if named and some.dtype == pl.String and some.str.contains(WRITTEN_DATE).all():
        return True
    if not named or not (some.dtype == pl.String or some.dtype.is_numeric()):
        return False
    numbers = some.cast(pl.Float64, strict=False)
    return numbers.null_count() == 0 and bool((numbers > 1e7).all())


def _plain(name: str) -> str:
    """A column name in lower case, without signs and without RecBole's type.

    >>> _plain("User_ID:token"), _plain("movieId")
    ('userid', 'movieid')
    """
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())
