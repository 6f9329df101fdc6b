"""The catalogue: raw ids at the two doors, dense indices in between.

Indices follow the sorted order of the id strings (by code point), so they do not depend on the
order of any file.  Ids are never normalised: ``007``, ``7`` and ``٧`` are three items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from sasrecllm.errors import DataError
from sasrecllm.types import UNKNOWN, IntArray

LONGEST_TITLE = 256
"""Characters of a title: longer ones are cut where data comes in, and refused over HTTP."""
# C0 and C1 controls, and the marks that reverse the direction of the text after them: a title that
# holds one would change how the rest of a prompt or of a page reads.
_CONTROLS = r"[\p{Cc}\x{202A}-\x{202E}\x{2066}-\x{2069}]"


def clean_titles(titles: pl.Series) -> pl.Series:
    """Titles in NFC, in one line, without control or direction-override characters, not too long.

    One of more than ``LONGEST_TITLE`` characters is cut, and ends with an ellipsis.

    >>> clean_titles(pl.Series(["Ame\\u0301lie\\n(2001)\\x00 "])).to_list()
    ['Amélie (2001)']
    """
    whole = whole_titles(titles)
    cut = whole.str.head(LONGEST_TITLE - 1).str.strip_chars_end() + "…"
    return whole.zip_with(whole.str.len_chars() <= LONGEST_TITLE, cut)


def too_long(titles: pl.Series) -> pl.Series:
    """Whether :func:`clean_titles` cuts a title."""
    return whole_titles(titles).str.len_chars() > LONGEST_TITLE


def whole_titles(titles: pl.Series) -> pl.Series:
    """Titles as :func:`clean_titles` makes them, before they are cut."""
    return (
        titles.cast(pl.String)
        .str.normalize("NFC")
        .str.replace_all(r"\s+", " ")
        .str.replace_all(_CONTROLS, "")
        .str.strip_chars()
    )


def title_keys(titles: Sequence[str]) -> list[str]:
    """Titles as they are compared: as a catalogue keeps them, whatever the case of their letters.

    Raises:
        DataError: one is no Unicode text.
    """
    try:
        return [key.casefold() for key in clean_titles(pl.Series(list(titles), dtype=pl.String))]
    except UnicodeEncodeError as error:
        raise DataError(f"title {error.object!r} is no Unicode text", "correct it") from None


@dataclass(frozen=True)
class Catalog:
    """Items and users by index.

    Args:
        item_ids: raw id of every item index.
        titles: title of every item index.
        user_ids: raw id of every user index; empty where the user was forgotten.
        attributes: further columns of the items table, one value (or None) per item index.
    """

    item_ids: list[str]
    titles: list[str]
    user_ids: list[str] = field(default_factory=list)
    attributes: Mapping[str, list[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.item_ids) != len(self.titles):
            raise DataError(
                f"catalogue: {len(self.item_ids)} item ids but {len(self.titles)} titles",
                "give one title per item",
            )
        users = [raw for raw in self.user_ids if raw]
        for name, ids in (("item", self.item_ids), ("user", users)):
            if len(set(ids)) != len(ids):
                twice = next(i for n, i in enumerate(ids) if i in ids[:n])
                raise DataError(f"catalogue: {name} id {twice!r} occurs twice", "keep one of them")

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    @property
    def n_users(self) -> int:
        """Number of user indices; those of forgotten users are among them."""
        return len(self.user_ids)

    @cached_property
    def _item_of(self) -> dict[str, int]:
        return {raw: index for index, raw in enumerate(self.item_ids)}

    @cached_property
    def _user_of(self) -> dict[str, int]:
        return {raw: index for index, raw in enumerate(self.user_ids) if raw}

    @cached_property
    def forgotten(self) -> IntArray:
        """Indices of the users who were forgotten, ascending."""
        return np.array([n for n, raw in enumerate(self.user_ids) if not raw], dtype=np.int64)

    def item_index(self, ids: Sequence[str]) -> IntArray:
        """Index of every raw item id [B]; UNKNOWN where the catalogue does not hold it."""
        return np.array([self._item_of.get(i, UNKNOWN) for i in ids], dtype=np.int64)

    def user_index(self, ids: Sequence[str]) -> IntArray:
        """Index of every raw user id [B]; UNKNOWN for a user the data does not hold."""
        return np.array([self._user_of.get(i, UNKNOWN) for i in ids], dtype=np.int64)

    def item_id(self, index: int) -> str:
        """Raw id of an item index, spelled as it came in."""
        return self.item_ids[_inside(index, self.n_items, "item")]

    def user_id(self, index: int) -> str:
        """Raw id of a user index, spelled as it came in."""
        return self.user_ids[_inside(index, self.n_users, "user")]

    def title(self, index: int) -> str:
        """Title of an item index."""
        return self.titles[_inside(index, self.n_items, "item")]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over item ids and titles in index order: what a checkpoint was made for."""
        summed = hashlib.sha256()
        for raw, title in zip(self.item_ids, self.titles, strict=True):
            summed.update(json.dumps([raw, title]).encode() + b"\n")
        return summed.hexdigest()

    def extended(
        self,
        ids: Sequence[str],
        titles: Sequence[str],
        attributes: Sequence[Mapping[str, str | None]] | None = None,
    ) -> Catalog:
        """A catalogue with new items at the end; indices that stood before stay as they are.

        Args:
            attributes: of each new item; names that the catalogue does not have are dropped.

        Raises:
            DataError: an id is empty or known already, a title is empty, or the counts differ.
        """
        try:
            pl.Series(list(ids), dtype=pl.String)
            cleaned = clean_titles(pl.Series(list(titles), dtype=pl.String)).to_list()
        except UnicodeEncodeError as error:
            raise DataError(f"new item: {error.object!r} is no Unicode text", "correct it") from None
        for raw, title in zip(ids, cleaned, strict=False):
            if not raw or not title:
                raise DataError(f"new item {raw!r} has the title {title!r}", "give an id and a title")
            if raw in self._item_of:
                raise DataError(f"new item {raw!r} is in the catalogue already", "leave it out")
        given = attributes or [{} for _ in cleaned]
        extra = {n: [*values, *(g.get(n) for g in given)] for n, values in self.attributes.items()}
        return replace(
            self,
            item_ids=[*self.item_ids, *ids],
            titles=[*self.titles, *cleaned],
            attributes=extra,
        )


def _inside(index: int, count: int, what: str) -> int:
    """``index`` itself; a negative index would quietly name an item from the end."""
    if not 0 <= index < count:
        raise DataError(f"{what} index {index}; allowed: 0 to {count - 1}", "look it up by id")
    return int(index)
