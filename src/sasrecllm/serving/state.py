"""What the server answers with: a run, the items it was told, and how both change while it serves.

A :class:`Snapshot` never changes; a new item or a new run makes a new one, one change at a time.  So
every answer comes from exactly one snapshot.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import DataError
from sasrecllm.inference.requests import NewItem, Title
from sasrecllm.inference.title_search import TitleSearch, folded
from sasrecllm.inference.wishes import values_of
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stored_config, stored_data, stored_vectors
from sasrecllm.serving.problems import Problem
from sasrecllm.serving.store import Interaction, Store, StoredItem, Taken
from sasrecllm.serving.workers import SECONDS, RemoteSystem, Workers
from sasrecllm.types import UNKNOWN, FloatArray

SHOWN_HISTORY = 50
NOBODY = "neither the run nor the store knows this user"
Forget = Callable[[Sequence[str], Collection[str]], None]
"""(users, those of them whom the store knows); raises ``DataError`` where one is unknown to both."""
log = logging.getLogger("sasrecllm.serving")


class ServedSystem(Protocol):
    """What the server needs of :class:`~sasrecllm.inference.recommender.Recommender`."""

    catalog: Catalog
    dataset: Any

    def recommend(self, **asked: Any) -> Sequence[Any]:
        """A list of ``Recommendation``."""
        ...

    def scored(self, items: Sequence[str], **asked: Any) -> Sequence[Any]:
        """A list of ``Scored``."""
        ...

    def explain(self, item: str, **asked: Any) -> Any:
        """An ``Explanation``."""
        ...

    def with_items(self, items: Sequence[Any]) -> ServedSystem:
        """The same system with more items."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A run as it was loaded.

    Args:
        model: digest of its trained parts.
        taken: what it has of the store's feedback, which is not added to its users' rows again.
        new_item: makes what ``with_items`` takes of (item_id, title, attributes).
        title: makes a history entry of words.
        ready: whether it can answer now; may take its time to find out.
        vectors: of the run's items, of length one, [I, D], where it has some.
    """

    system: ServedSystem
    run: str
    model: str
    new_item: Callable[[str, str, Mapping[str, str | None]], Any]
    title: Callable[[str], Any]
    ready: Callable[[], bool] = lambda: True
    taken: Taken | None = None
    vectors: FloatArray | None = None


@dataclass(frozen=True)
class Snapshot:
    """A run with the items that the server was told."""

    loaded: Loaded
    system: ServedSystem
    added: Mapping[str, StoredItem]
    forgotten: frozenset[str] = frozenset()
    """Users who went from the run after it was loaded: nobody hears of them any more."""

    @property
    def catalog(self) -> Catalog:
        """The run's catalogue with the added items at its end."""
        return self.system.catalog

    @cached_property
    def titles(self) -> TitleSearch:
        """The titles, ready to be searched."""
        return TitleSearch(self.catalog, self.loaded.vectors)

    @cached_property
    def _values(self) -> list[tuple[str, str, int]]:
        """(attribute, value, how many items have it), the most frequent first."""
        found = [
            (name, value, count)
            for name in self.catalog.attributes
            for value, count in Counter(values_of(self.catalog, name)).items()
        ]
        return sorted(found, key=lambda row: -row[2])

    def holds(self, item: str) -> bool:
        """Whether the catalogue has this id."""
        return int(self.catalog.item_index([item])[0]) != UNKNOWN

    def knows(self, user: str) -> bool:
        """Whether the run has this user."""
        return self._index_of(user) != UNKNOWN

    def users(self, beginning: str) -> list[str]:
        """Ids of the run's users that begin so."""
        ids = self.catalog.user_ids  # empty where a user was forgotten
        return [u for u in ids if u and u.startswith(beginning) and u not in self.forgotten]

    def _index_of(self, user: str) -> int:
        return UNKNOWN if user in self.forgotten else int(self.catalog.user_index([user])[0])

    def item(self, index: int, near: bool = False) -> dict[str, Any]:
        """An item in plain values."""
        raw = self.catalog.item_id(index)
        attributes = {name: values[index] for name, values in self.catalog.attributes.items()}
        return {
            "item_id": raw,
            "title": self.catalog.title(index),
            "attributes": attributes,
            "added": raw in self.added,
            "near": near,
        }

    def search(self, query: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Items whose title holds all words of ``query``, or whose id it is, best first, and those near
        them in meaning; and how many hold it (``TitleSearch.search`` in inference.title_search)."""
        hits, count = self.titles.search(query, limit)
        return [self.item(*hit) for hit in hits], count

    def attributes(self, query: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Attribute values that hold every word of ``query`` in themselves or in the attribute's name;
        and how many there are."""
        words = folded(query).split()
        found = [
            {"attribute": name, "value": value, "items": count}
            for name, value, count in self._values
            if all(word in folded(f"{name} {value}") for word in words)
        ]
        return found[:limit], len(found)

    def history_of(self, user: str, feedback: Sequence[tuple[str, bool]]) -> dict[str, Any]:
        """The last of what is known of a user: rows of the run, then what the server was told."""
        lines: list[tuple[int, bool]] = []
        index = self._index_of(user)
        if index != UNKNOWN:
            data = self.loaded.system.dataset
            rows = slice(
                max(data.starts[index], data.starts[index + 1] - SHOWN_HISTORY), data.starts[index + 1]
            )
            lines = [
                (int(item), bool(label))
                for item, label in zip(data.items[rows], data.labels[rows], strict=True)
            ]
        items = self.catalog.item_index([item for item, _ in feedback])
        lines += [
            (int(i), liked) for i, (_, liked) in zip(items, feedback, strict=True) if i != UNKNOWN
        ]
        history = [
            {"item_id": self.catalog.item_id(i), "title": self.catalog.title(i), "liked": liked}
            for i, liked in lines[-SHOWN_HISTORY:]
        ]
        return {"user_id": user, "known": index != UNKNOWN, "history": history}


class ServingState:
    """The current snapshot and the ways to change it.

    Args:
        load: loads the run anew from where it lies; raises a ``SasrecllmError`` if it is damaged.
        forget: takes users out of the run where it lies; told which of them the store knows.
    Raises:
        SasrecllmError: the run or the store cannot be used.
    """

    def __init__(self, load: Callable[[], Loaded], store: Store, forget: Forget | None = None) -> None:
        self._load, self._forget = load, forget
        self.store = store
        self._changing = threading.Lock()
        self.draining = False
        self.reload_error: str | None = None
        self.current = self._snapshot(load())

    def feedback_of(self, user: str | None) -> list[tuple[str, bool]]:
        """What the store keeps of a user beside what is in the run."""
        if user is None:
            return []
        taken = self.current.loaded.taken
        of = self.store.interactions_of
        return of(user) if taken is None else of(user, taken=taken)

    def keep(self, kind: str, given: Any) -> Any:
        """Write what the server is told: ``items`` or ``interactions``."""
        return self.add_items(given) if kind == "items" else self.keep_interactions(given)

    def keep_interactions(self, interactions: Sequence[Interaction]) -> list[str]:
        """Store feedback; returns ids that the catalogue does not hold (yet)."""
        self.store.add_interactions(interactions)
        now = self.current
        return [i for i in dict.fromkeys(x.item_id for x in interactions) if not now.holds(i)]

    def add_items(self, items: Sequence[StoredItem]) -> tuple[int, int]:
        """Take items into the catalogue and the store: (added, changed).

        Raises:
            Problem: 409 where an id belongs to the run itself and has another title there.
        """
        with self._changing:
            return self._add_items(items)

    def _add_items(self, items: Sequence[StoredItem]) -> tuple[int, int]:
        now = self.current
        given = {i.item_id: i for i in items}
        own = now.loaded.system.catalog
        for raw, item in list(given.items()):
            index = int(own.item_index([raw])[0])
            if index == UNKNOWN:
                continue
            if own.title(index) != item.title:
                raise Problem(409, "an item of the run itself cannot get another title")
            del given[raw]
        fresh = [i for raw, i in given.items() if raw not in now.added]
        changed = [i for raw, i in given.items() if raw in now.added and now.added[raw] != i]
        if fresh or changed:
            added = {**now.added, **given}
            # What is only new goes on top of what stands; a new title needs all of them anew.
            system, more = (now.loaded.system, list(added.values())) if changed else (now.system, fresh)
            extended = _extended(system, more, now.loaded)
            following = replace(now, system=extended, added=added)
            self.store.add_items([*fresh, *changed])
            self.current = following
        return len(fresh), len(changed)

    def forget(self, user: str) -> None:
        """Take a user out of the run, the store and every answer from now on.

        The processes with the run hold his rows until they are loaded anew.

        Raises:
            Problem: 404 where nobody knows the user, 501 where this server cannot change its run.
            SasrecllmError: the run or the store cannot be changed.
        """
        in_store = self.store.users_among([user])
        if self._forget is None:
            if self.current.knows(user):
                raise Problem(501, "this server cannot change its run: give `sasrecllm forget`")
            if not in_store:
                raise Problem(404, NOBODY)
        else:
            try:
                self._forget([user], in_store)
            except DataError:
                raise Problem(404, NOBODY) from None
        with self._changing:
            now = self.current
            self.current = replace(now, forgotten=now.forgotten | {user})
        self.store.forget([user])

    def load_candidate(self) -> Loaded:
        """Load the run anew and let it answer once; the current one goes on serving.

        Raises:
            SasrecllmError: it is damaged; the current one stays.
        """
        candidate = self._load()
        first = candidate.system.catalog.item_id(0)
        candidate.system.recommend(history=[first], user=None, k=1, strict=False)
        return candidate

    def swap(self, candidate: Loaded) -> None:
        """Answer with ``candidate`` from now on; what is being answered ends with the old one."""
        with self._changing:
            self.current = self._snapshot(candidate)
        self.reload_error = None

    def _snapshot(self, loaded: Loaded) -> Snapshot:
        own = loaded.system.catalog
        stored = self.store.items()
        # A newer run may have been trained with what was once told.
        new = own.item_index([i.item_id for i in stored]) == UNKNOWN
        added = {i.item_id: i for i, is_new in zip(stored, new, strict=True) if is_new}
        return Snapshot(loaded, _extended(loaded.system, list(added.values()), loaded), added)


def _extended(system: ServedSystem, items: Sequence[StoredItem], loaded: Loaded) -> ServedSystem:
    if not items:
        return system
    return system.with_items([loaded.new_item(i.item_id, i.title, i.attributes) for i in items])


def load_run(folder: Path, workers: int, seconds: float = SECONDS) -> Loaded:
    """Load a finished run folder for serving, in so many processes.

    Args:
        seconds: after which a process that does not answer is replaced.

    Raises:
        CheckpointError: not a finished run, or a part of it is damaged.
    """
    where = choose_run(folder.resolve())  # a link may point elsewhere at the next reload
    processes = Workers(where.path, workers, seconds)
    data = stored_data(where)
    system: Any = RemoteSystem(processes, data.catalog, data)
    update = stored_config(where, None).update
    taken = Taken(update.store, update.told, frozenset(update.waiting)) if update.store else None
    name, vectors = where.path.name, stored_vectors(where)
    return Loaded(system, name, processes.model, NewItem, Title, processes.ready, taken, vectors)
