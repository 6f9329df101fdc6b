"""The channels of the list fusion, one row each: what can fill lists of its own.

A channel is made of interactions (training rows, and after the fusion is fitted those of validation
too).  What is slow to make, sums over pairs of items and inverted matrices, is kept in arrays, so that
a server starts without making it again.

Legend: I items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.item_attributes import ItemAttributes, is_shared
from sasrecllm.baselines.pairs import Neighbours
from sasrecllm.baselines.recent import RecentPopularity
from sasrecllm.baselines.repeats import Repeats
from sasrecllm.baselines.table import BASELINES, Lists
from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.vectors import VectorLikeness
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.fusion.new_items_in_lists import NewItems
from sasrecllm.machine.progress import Tell
from sasrecllm.settings import CHANNELS as NAMES
from sasrecllm.settings import Config
from sasrecllm.types import FloatArray

MOST_PAIRS = 10**8
"""Pairs of likes of one user, over all users, up to which channels that count pairs are made."""

NEXT_ITEM, HABITS, TRENDING = "next-item encoder", "personal frequency", "trending"
NETWORK, LIST_FUSION = "next_item", "list_fusion"
"""The parts that keep that encoder, and the channels with their weights."""
NEW_ITEMS = "new items"
"""Before the names of what is kept of them."""
CHANNEL_SPLITS = ("train", "valid")
"""What the channels that are served are made of."""


class HasChannels(Protocol):
    """What channels are made of: :class:`~sasrecllm.runs.system.System`."""

    @property
    def config(self) -> Config:
        """The run's settings."""
        ...

    @property
    def dataset(self) -> Dataset:
        """The prepared data."""
        ...

    @property
    def next_item(self) -> SequentialEncoder:
        """The next-item encoder."""
        ...

    @property
    def item_vectors(self) -> FloatArray | None:
        """Vectors of the items, [I, D], where the run has any."""
        ...

    @property
    def words(self) -> WordLikeness:
        """Likeness of what the items are called."""
        ...

    def interactions(self, splits: Sequence[str]) -> TrainRows:
        """The rows of some splits."""
        ...


@dataclass(frozen=True)
class ChannelRow:
    """How a channel is made, of the run and the interactions, and what the fusion must know of it."""

    make: Callable[[HasChannels, TrainRows], ListChannel]
    facts: Lists = field(default_factory=Lists)


def _vectors(system: HasChannels) -> VectorLikeness:
    assert system.item_vectors is not None
    return VectorLikeness(system.item_vectors)


def _shared(system: HasChannels) -> dict[str, list[str | None]]:
    """The columns of the items of which two items share a value."""
    columns = system.dataset.catalog.attributes
    return {name: values for name, values in columns.items() if is_shared(values)}


_OF_RUN: Mapping[str, ChannelRow] = {
    TRENDING: ChannelRow(
        lambda _, rows: RecentPopularity(rows, RecentPopularity.SHORT, TRENDING), Lists(needs="times")
    ),
    "title words": ChannelRow(lambda s, _: s.words),
    "item attributes": ChannelRow(
        lambda s, rows: ItemAttributes.fit(_shared(s), rows), Lists(needs="attributes")
    ),
    "item vectors": ChannelRow(lambda s, _: _vectors(s), Lists(needs="vectors")),
    "repeats": ChannelRow(lambda _, rows: Repeats(rows), Lists(needs="repeats")),
    HABITS: ChannelRow(lambda _, rows: Repeats(rows, Repeats.HABIT, HABITS), Lists(needs="repeats")),
    NEXT_ITEM: ChannelRow(lambda s, _: EncoderScorer(NEXT_ITEM, s.next_item), Lists(needs="network")),
}
"""Channels that are no baseline of the table of P(like)."""


def _row(name: str) -> ChannelRow:
    if name in _OF_RUN:
        return _OF_RUN[name]
    baseline = BASELINES[name]
    assert baseline.lists is not None

    def make(_: HasChannels, rows: TrainRows) -> ListChannel:
        made = baseline(rows)
        assert isinstance(made, ListChannel)
        return made

    return ChannelRow(make, baseline.lists)


CHANNELS: Mapping[str, ChannelRow] = {name: _row(name) for name in NAMES}


def usable(names: Iterable[str], system: HasChannels) -> tuple[list[str], list[str]]:
    """Those of ``names`` that this run has what they need for, and notes on those left out."""
    dataset = system.dataset
    there = {"": True, "times": dataset.has_times, "repeats": dataset.allow_seen, "network": True}
    there["vectors"] = system.item_vectors is not None
    there["attributes"] = bool(_shared(system))
    liked = dataset.users[dataset.labels == 1]
    counts = np.bincount(liked, minlength=dataset.n_users).astype(np.float64)
    few = float((counts**2).sum()) / 2 <= MOST_PAIRS
    kept, notes = [], []
    for name in names:
        row = CHANNELS[name]
        if row.facts.pairs and not few:
            notes.append(f"{name} is left out: more than {MOST_PAIRS:,} pairs of likes to count")
        elif there[row.facts.needs]:
            kept.append(name)
    return kept, notes


def make_channels(
    names: Sequence[str],
    system: HasChannels,
    rows: TrainRows,
    kept: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Tell | None = None,
) -> list[ListChannel]:
    """The channels ``names``, made of ``rows``.

    Args:
        kept: model -> attribute -> value of what was made before; made where it is absent.
        progress: called with (done, all) after every channel.
    """
    models = {model: dict(values) for model, values in (kept or {}).items()}
    found = []
    for name in names:
        row = CHANNELS[name]
        channel = row.make(system, rows)
        values = models.setdefault(row.facts.model or name, {})
        for attribute in row.facts.keeps:
            if attribute not in values:
                values[attribute] = _compact(getattr(channel, attribute))
            vars(channel)[attribute] = values[attribute]  # where a cached property keeps its value
        found.append(channel)
        if progress is not None:
            progress(len(found), len(names))
    return found


def new_items(system: HasChannels) -> NewItems:
    """The items of the catalogue that no training row likes."""
    liked_I = system.interactions(("train",)).means.likes > 0
    return NewItems.of(system.words, ~liked_I, liked_I)


def kept_new_items(system: HasChannels, tensors: Mapping[str, Tensor], offset: float) -> NewItems:
    """What :func:`tensors_of` wrote of the new items.

    Raises:
        KeyError, ValueError: something is missing, or is not what it should be.
    """
    start = f"{NEW_ITEMS}."
    arrays = {k.removeprefix(start): t.numpy() for k, t in tensors.items() if k.startswith(start)}
    return NewItems.from_arrays(system.words, arrays, system.dataset.n_items, offset)


def remade(names: Iterable[str], system: HasChannels) -> dict[str, Tensor]:
    """What the channels ``names`` keep, made anew of the system's data; see :func:`tensors_of`."""
    keeping = [name for name in names if CHANNELS[name].facts.keeps]
    rows = system.interactions(CHANNEL_SPLITS)
    return tensors_of(make_channels(keeping, system, rows), new_items(system))


def tensors_of(channels: Iterable[ListChannel], new: NewItems | None) -> dict[str, Tensor]:
    """What ``channels`` and new items keep: ``model.attribute`` or ``model.attribute.field``."""
    out: dict[str, Tensor] = {}
    if new is not None:
        out |= {f"{NEW_ITEMS}.{name}": torch.as_tensor(a) for name, a in new.arrays().items()}
    for channel in channels:
        row = CHANNELS[channel.name]
        for attribute in row.facts.keeps:
            value = getattr(channel, attribute)
            where = f"{row.facts.model or channel.name}.{attribute}"
            if not is_dataclass(value):
                out[where] = torch.as_tensor(value)
                continue
            for part in fields(value):
                out[f"{where}.{part.name}"] = torch.as_tensor(getattr(value, part.name))
    return out


def kept_in(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What :func:`tensors_of` wrote for the channels ``names``.

    Raises:
        KeyError: something is missing.
    """
    out: dict[str, dict[str, Any]] = {}
    for name in names:
        row = CHANNELS[name]
        for attribute, kind in row.facts.keeps.items():
            where = f"{row.facts.model or name}.{attribute}"
            if kind is np.ndarray:
                value: Any = tensors[where].numpy()
            else:
                parts = {f.name: tensors[f"{where}.{f.name}"].numpy() for f in fields(kind)}
                value = kind(**{k: int(v) if v.ndim == 0 else v for k, v in parts.items()})
            out.setdefault(row.facts.model or name, {})[attribute] = value
    return out


def _compact(value: Any) -> Any:
    """A table of pairs in half the memory, so that what is kept and what is made are the same."""
    if isinstance(value, Neighbours):
        return replace(
            value, items=value.items.astype(np.int32), values=value.values.astype(np.float32)
        )
    return value
