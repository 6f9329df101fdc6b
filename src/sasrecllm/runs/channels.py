"""The channels of the list fusion, one row each: what can fill lists of its own.

A channel is made of interactions (training rows, and after the fusion is fitted those of validation
too).  What is slow to make, sums over pairs of items and inverted matrices, is kept in arrays, so that
a server starts without making it again.

Legend: I items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from sasrecllm.baselines.als import ALS
from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.ease import EASE
from sasrecllm.baselines.knn import ItemKNN
from sasrecllm.baselines.markov import MarkovChain
from sasrecllm.baselines.pairs import Neighbours, PairTable
from sasrecllm.baselines.recent import RecentPopularity
from sasrecllm.baselines.repeats import Repeats
from sasrecllm.baselines.sequence_rules import SequenceRules
from sasrecllm.baselines.table import BASELINES
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.trivial import Popularity
from sasrecllm.baselines.words import WordLikeness
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.settings import Config

MOST_PAIRS = 10**8
"""Pairs of likes of one user, over all users, up to which channels that count pairs are made."""

NEXT_ITEM = "next-item encoder"
NETWORK, LIST_FUSION = "next_item", "list_fusion"
"""The parts that keep that encoder, and the channels with their weights."""
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

    def interactions(self, splits: Sequence[str]) -> TrainRows:
        """The rows of some splits."""
        ...


@dataclass(frozen=True)
class ChannelRow:
    """How a channel is made, and what of it is kept.

    Args:
        make: of the run and the interactions.
        needs: ``times`` or ``repeats`` (items of the history may be served) of the data, ``network``
            where the next-item encoder is trained for it.
        keeps: attribute -> its class; what is slow to make.
        model: channels of one ``model`` share what they keep; the channel's own name without.
        pairs: whether making it counts the pairs of every user's likes.
    """

    make: Callable[[HasChannels, TrainRows], ListChannel]
    needs: Literal["", "times", "repeats", "network"] = ""
    keeps: Mapping[str, type] = field(default_factory=dict)
    model: str = ""
    pairs: bool = False


def _baseline(name: str) -> Callable[[HasChannels, TrainRows], ListChannel]:
    def make(_: HasChannels, rows: TrainRows) -> ListChannel:
        made = BASELINES[name](rows)
        assert isinstance(made, ListChannel)
        return made

    return make


def _words(system: HasChannels, _: TrainRows) -> ListChannel:
    catalog = system.dataset.catalog
    return WordLikeness.fit(catalog.titles, catalog.attributes)


_EASE: dict[str, Any] = {
    "keeps": {"kept": np.ndarray, "weights": np.ndarray}, "model": "EASE", "pairs": True,
}  # fmt: skip

CHANNELS: Mapping[str, ChannelRow] = {
    "popularity": ChannelRow(lambda _, rows: Popularity(rows.means)),
    "recent popularity": ChannelRow(lambda _, rows: RecentPopularity(rows), needs="times"),
    "EASE": ChannelRow(lambda _, rows: EASE(rows), **_EASE),
    "fading EASE": ChannelRow(_baseline("fading EASE"), **_EASE),
    "sequence rules": ChannelRow(lambda _, rows: SequenceRules(rows), keeps={"rules": Neighbours}),
    "sequence cosine": ChannelRow(_baseline("sequence cosine"), keeps={"rules": Neighbours}),
    "ItemKNN": ChannelRow(lambda _, rows: ItemKNN(rows), keeps={"neighbours": Neighbours}, pairs=True),
    "Markov chain": ChannelRow(lambda _, rows: MarkovChain(rows), keeps={"transitions": PairTable}),
    "ALS": ChannelRow(lambda _, rows: ALS(rows), keeps={"item_factors": np.ndarray}),
    "title words": ChannelRow(_words),
    "repeats": ChannelRow(lambda _, rows: Repeats(rows), needs="repeats"),
    NEXT_ITEM: ChannelRow(lambda s, _: EncoderScorer(NEXT_ITEM, s.next_item), needs="network"),
}


def usable(names: Iterable[str], dataset: Dataset) -> tuple[list[str], list[str]]:
    """Those of ``names`` that this data has what they need for, and notes on those left out."""
    there = {"": True, "times": dataset.has_times, "repeats": dataset.allow_seen, "network": True}
    liked = dataset.users[dataset.labels == 1]
    counts = np.bincount(liked, minlength=dataset.n_users).astype(np.float64)
    few = float((counts**2).sum()) / 2 <= MOST_PAIRS
    kept, notes = [], []
    for name in names:
        row = CHANNELS[name]
        if row.pairs and not few:
            notes.append(f"{name} is left out: more than {MOST_PAIRS:,} pairs of likes to count")
        elif there[row.needs]:
            kept.append(name)
    return kept, notes


def make_channels(
    names: Sequence[str],
    system: HasChannels,
    rows: TrainRows,
    kept: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[ListChannel]:
    """The channels ``names``, made of ``rows``.

    Args:
        kept: model -> attribute -> value of what was made before; made where it is absent.
    """
    models = {model: dict(values) for model, values in (kept or {}).items()}
    found = []
    for name in names:
        row = CHANNELS[name]
        channel = row.make(system, rows)
        values = models.setdefault(row.model or name, {})
        for attribute in row.keeps:
            if attribute not in values:
                values[attribute] = _compact(getattr(channel, attribute))
            vars(channel)[attribute] = values[attribute]  # where a cached property keeps its value
        found.append(channel)
    return found


def remade(names: Iterable[str], system: HasChannels) -> dict[str, Tensor]:
    """What the channels ``names`` keep, made anew of the system's data; see :func:`tensors_of`."""
    keeping = [name for name in names if CHANNELS[name].keeps]
    return tensors_of(make_channels(keeping, system, system.interactions(CHANNEL_SPLITS)))


def tensors_of(channels: Iterable[ListChannel]) -> dict[str, Tensor]:
    """What ``channels`` keep, flat: ``model.attribute`` or ``model.attribute.field``."""
    out: dict[str, Tensor] = {}
    for channel in channels:
        row = CHANNELS[channel.name]
        for attribute in row.keeps:
            value = getattr(channel, attribute)
            where = f"{row.model or channel.name}.{attribute}"
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
        for attribute, kind in row.keeps.items():
            where = f"{row.model or name}.{attribute}"
            if kind is np.ndarray:
                value: Any = tensors[where].numpy()
            else:
                parts = {f.name: tensors[f"{where}.{f.name}"].numpy() for f in fields(kind)}
                value = kind(**{k: int(v) if v.ndim == 0 else v for k, v in parts.items()})
            out.setdefault(row.model or name, {})[attribute] = value
    return out


def _compact(value: Any) -> Any:
    """A table of pairs in half the memory, so that what is kept and what is made are the same."""
    if isinstance(value, Neighbours):
        return replace(
            value, items=value.items.astype(np.int32), values=value.values.astype(np.float32)
        )
    return value
