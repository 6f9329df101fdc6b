"""From raw ids to indices at the recommender's door, with refusals that name the culprit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import DataError, did_you_mean
from sasrecllm.inference.arguments import id_of, ids_of
from sasrecllm.inference.requests import NewItem, Title, one_history
from sasrecllm.inference.title_search import TitleSearch
from sasrecllm.types import UNKNOWN, Histories, IntArray


def items_of(catalog: Catalog, values: Any, where: str, *, ordered: bool = True) -> IntArray:
    """Index of every id; ``where`` names their origin in a refusal.

    Raises:
        DataError: an id is not in the catalogue, or is no id at all.
    """
    ids = ids_of(values, where, ordered=ordered)
    index = catalog.item_index(ids)
    lost = np.flatnonzero(index == UNKNOWN)
    if len(lost):
        name = ids[int(lost[0])]
        raise DataError(
            f"{where}: item {name!r} is not in the catalogue of {catalog.n_items} items"
            + (_ids_of_title(catalog, name) or did_you_mean(name, catalog.item_ids)),
            "use item ids as they stand in the items file that the run was prepared from",
        )
    return index


def _ids_of_title(catalog: Catalog, title: str) -> str:
    """Which items have this title, given where an id belongs; empty where none has."""
    ids = [i for i, t in zip(catalog.item_ids, catalog.titles, strict=True) if t == title]
    return f"; it is the title of item {', '.join(map(repr, ids[:3]))}" if ids else ""


def user_of(catalog: Catalog, value: Any, *, needed: bool) -> int:
    """Index of a user, UNKNOWN for None or a stranger.

    Raises:
        DataError: ``needed``, and there is no such user; or the value is no id.
    """
    user = None if value is None else id_of(value, "user")
    index = UNKNOWN if user is None else int(catalog.user_index([user])[0])
    if needed and user is None:
        raise DataError(
            "neither user nor history was given",
            "give a known user, or items of a history (--liked, history=)",
        )
    if needed and user is not None and index == UNKNOWN:
        raise DataError(
            f"user {user!r} is not in this run's data" + did_you_mean(user, catalog.user_ids),
            "give a known user, or for a new one the items of a history (--liked, history=)",
        )
    return index


def history_of(dataset: Dataset, user: int, items: IntArray, labels: Sequence[bool]) -> Histories:
    """What the data knows of ``user`` (UNKNOWN: nothing) and then ``items``, asked about at the end."""
    liked = np.array(labels, dtype=np.int8)
    times = np.arange(len(items), dtype=np.int64)
    if user == UNKNOWN:
        return one_history(UNKNOWN, items, liked, times, len(items))
    before = dataset.latest(np.array([user]))
    now = int(before.asked_at[0])
    return one_history(
        user,
        np.concatenate([before.items, items]),
        np.concatenate([before.labels, liked]),
        np.concatenate([before.times, now + times]),
        now + len(items),
    )


def entries_of(search: TitleSearch, entries: Sequence[str | Title]) -> tuple[IntArray, list[NewItem]]:
    """Indices of a history's entries; titles that the catalogue lacks get the indices behind its end.

    Args:
        search: the catalogue's titles.

    Returns:
        Index of each entry, and the items that have to be added for them.

    Raises:
        DataError: an id is not in the catalogue.
    """
    catalog = search.catalog
    titles = [e for e in dict.fromkeys(entries) if isinstance(e, Title)]
    found = {t: search.item_of(t.text) for t in titles}
    new = [t for t, index in found.items() if index == UNKNOWN]
    found |= {t: catalog.n_items + place for place, t in enumerate(new)}
    found_items = iter(items_of(catalog, [e for e in entries if isinstance(e, str)], "history"))
    items = [found[e] if isinstance(e, Title) else int(next(found_items)) for e in entries]
    return np.array(items, dtype=np.int64), named_titles(catalog, new)


def named_titles(catalog: Catalog, titles: Sequence[Title]) -> list[NewItem]:
    """Titles as items of their own, under ids that the catalogue does not hold."""
    taken = set(catalog.item_ids)
    return [
        NewItem(next(name for name in _names(number) if name not in taken), title.text)
        for number, title in enumerate(titles, 1)
    ]


def _names(number: int) -> Iterator[str]:
    text = f"title {number}"
    while True:
        yield text
        text += "'"
