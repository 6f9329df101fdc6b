"""The parts that a run learns, and how each is kept: one row of ``PARTS`` for each.

A part of your own is a :class:`Part` named ``package.module:OBJECT`` in a stage's ``train`` or
``load``; what it is made of it keeps in ``system.own``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sasrecllm.baselines.table import BASELINES
from sasrecllm.encoders.checked_loading import load_checked
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.errors import ConfigError
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.score_fusion import FusionWeights
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.title_vectors import ReadTitles
from sasrecllm.plugins import resolve
from sasrecllm.runs.channels import (
    CHANNEL_SPLITS,
    LIST_FUSION,
    HasChannels,
    kept_in,
    kept_new_items,
    make_channels,
    tensors_of,
)
from sasrecllm.runs.folder import FOLD, ITEM_VECTORS
from sasrecllm.runs.kept_vectors import ItemVectors
from sasrecllm.types import IntArray

MODELS = ("llm", "encoder")
"""What a fusion calls the models of a run; its other components are baselines."""


class HasParts(HasChannels, Protocol):
    """What holds the parts: :class:`~sasrecllm.runs.system.System`."""

    fusion: FusionWeights | None
    list_fusion: ListFusion | None
    vectors: ItemVectors
    folds: list[SequentialEncoder]
    own: dict[str, Any]

    @property
    def encoder(self) -> SequentialEncoder:
        """The collaborative encoder."""
        ...

    @property
    def backbone(self) -> Backbone:
        """The language model with its adapter."""
        ...

    @property
    def model(self) -> SoftTokenLLM:
        """Language model and mapper."""
        ...

    @property
    def fold_of_user(self) -> IntArray:
        """Which fold encoder never saw each user, [n_users]."""
        ...


Kept = tuple[Mapping[str, Tensor], dict[str, Any]]
"""A part's tensors, and what rebuilds it."""


@dataclass(frozen=True)
class Part:
    """How one part is kept.

    Args:
        save: its tensors, and what rebuilds it.
        load: takes both back; raises ``CheckpointError`` or ``ValueError`` where they do not fit.
        requires: name -> digest of what it must have been trained with.
        count: how many parameters it has.
        begin: where an update goes on from it, makes of tensors and config of the run before those that
            this one begins with, and of whether it learns here; None where it is made anew.
    """

    save: Callable[[HasParts], tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    load: Callable[[HasParts, Mapping[str, Tensor], dict[str, Any]], None]
    requires: Callable[[HasParts], dict[str, str]]
    count: Callable[[HasParts], int]
    begin: Callable[[HasParts, Mapping[str, Tensor], dict[str, Any], bool], Kept] | None = None


def part_of(name: str) -> Part:
    """The row of a part: ours, a fold encoder's (``fold-0``), or ``package.module:OBJECT``.

    Raises:
        ConfigError: there is none of that name, or the object is none.
    """
    number = name.removeprefix(FOLD)
    if number != name and number.isdecimal():
        return _fold_encoder(int(number))
    found = resolve(name, PARTS, "a stage's part")
    if not isinstance(found, Part):
        raise ConfigError(
            f"a stage's part is {name!r}, which is no Part", "name a sasrecllm.runs.parts.Part"
        )
    return found


def of_catalog(system: HasParts) -> dict[str, str]:
    """What a part that knows items by number is trained with."""
    return {"catalog": system.dataset.catalog.digest}


def of_backbone(system: HasParts) -> dict[str, str]:
    """What a part of the language model is trained with."""
    return {"backbone": system.backbone.digest}


DIVISION = "division of the users into folds"
"""What a fold encoder must have been trained with."""


def division_of(fold_of_user: IntArray) -> str:
    """Digest of the fold of every user, [n_users]."""
    return hashlib.sha256(fold_of_user.tobytes()).hexdigest()


def _of_folds(system: HasParts) -> dict[str, str]:
    """Another division of the users would let a fold encoder read users that it has seen."""
    return of_catalog(system) | {DIVISION: division_of(system.fold_of_user)}


def _encoder(
    which: Callable[[HasParts], SequentialEncoder], requires: Callable[[HasParts], dict[str, str]]
) -> Part:
    return Part(
        save=lambda s: (which(s).state_dict(), which(s).config),
        load=lambda s, tensors, about: load_checked(which(s), tensors, about),
        requires=requires,
        count=lambda s: sum(p.numel() for p in which(s).parameters()),
        begin=lambda s, tensors, about, learns: _grown(s, which(s), tensors, about, learns),
    )


def _grown(
    system: HasParts,
    encoder: SequentialEncoder,
    tensors: Mapping[str, Tensor],
    about: dict[str, Any],
    learns: bool,
) -> Kept:
    """The encoder of the run before over this run's items and users.

    An item that it had not been shown gets the mean of those that it had, as it has had so far, and
    what sets the item apart in ``encoder``; a user whom it did not know, what he has there.  Where it
    does not learn, such an item stays one that it was not shown.
    """
    former = system.dataset.former
    assert former is not None
    present = encoder.state_dict()
    shown = tensors["seen_items"]
    items = torch.from_numpy(former.items)
    known = (items >= 0) & shown[items.clamp(min=0)]
    out = dict(present) if learns else present | {"seen_items": known}
    for name, old in tensors.items():
        if name == "seen_items" or name not in present:
            continue
        if "item" in name and len(old) == len(shown):
            apart = present[name] - present[name][known].mean(0, keepdim=True)
            mean = old[shown].mean(0, keepdim=True) + apart
            rows = known.view(-1, *[1] * (old.dim() - 1))
            out[name] = torch.where(rows, old[items.clamp(min=0)], mean)
        elif "user" in name and len(present[name]) == system.dataset.n_users:
            theirs = torch.from_numpy(former.users)
            rows = (theirs >= 0).view(-1, *[1] * (old.dim() - 1))
            out[name] = torch.where(rows, old[theirs.clamp(min=0)], present[name])
        else:
            out[name] = old
    return out, about | {"n_items": encoder.n_items, "n_users": encoder.n_users}


def _fold_encoder(number: int) -> Part:
    """Encoder ``number`` of those that never saw the users of a fold."""
    return _encoder(lambda s: s.folds[number], _of_folds)


def _fusion_tensors(system: HasParts) -> tuple[dict[str, Tensor], dict[str, Any]]:
    assert system.fusion is not None
    return {}, system.fusion.to_dict()


def _load_fusion(system: HasParts, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    weights = FusionWeights.from_dict(about)
    for name in weights.components:
        if name not in (*MODELS, *BASELINES, *system.config.fusion.components):
            raise ValueError(f"there is no component {name!r}")
    system.fusion = weights


def _list_tensors(system: HasParts) -> tuple[dict[str, Tensor], dict[str, Any]]:
    fusion = system.list_fusion
    assert fusion is not None
    return tensors_of(fusion.channels, fusion.new), fusion.to_dict()


def _load_lists(system: HasParts, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    names = [str(name) for name in about["channels"]]
    rows = system.interactions(CHANNEL_SPLITS)
    channels = make_channels(names, system, rows, kept_in(tensors, names))
    new = None if about["offset"] is None else kept_new_items(system, tensors, float(about["offset"]))
    system.list_fusion = ListFusion.from_dict(about, channels, system.dataset.n_items, new)


def _title_tensors(system: HasParts) -> tuple[dict[str, Tensor], dict[str, Any]]:
    assert system.vectors.read is not None
    return system.vectors.read.tensors(), system.vectors.read.about()


def _load_titles(system: HasParts, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    system.vectors.read = ReadTitles.from_kept(tensors, about, system.dataset.n_items)


def _grown_titles(
    system: HasParts, tensors: Mapping[str, Tensor], about: dict[str, Any], _: bool
) -> Kept:
    """Vectors of the run before, in this catalogue's order; titles that it did not have are read."""
    former = system.dataset.former
    assert former is not None
    before = ReadTitles.from_kept(tensors, about, len(tensors["vectors"]))
    found = before.over(former.items, system.dataset.catalog.titles, system.vectors.load)
    return found.tensors(), found.about()


PARTS: dict[str, Part] = {
    "encoder": _encoder(lambda s: s.encoder, of_catalog),
    "adapter": Part(
        save=lambda s: (s.backbone.adapter_tensors(), s.backbone.adapter_config),
        load=lambda s, tensors, about: s.backbone.load_adapter(dict(tensors), about),
        requires=of_backbone,
        count=lambda s: sum(t.numel() for t in s.backbone.adapter_tensors().values()),
        begin=lambda _, tensors, about, __: (tensors, about),
    ),
    "mapper": Part(
        save=lambda s: (s.model.mapper.state_dict(), s.model.mapper.config),
        load=lambda s, tensors, about: s.model.mapper.load_checked(tensors, about),
        requires=of_backbone,
        count=lambda s: sum(p.numel() for p in s.model.mapper.parameters()),
        begin=lambda _, tensors, about, __: (tensors, about),
    ),
    ITEM_VECTORS: Part(
        save=_title_tensors,
        load=_load_titles,
        requires=of_catalog,
        count=lambda _: 0,
        begin=_grown_titles,
    ),
    "next_item": _encoder(lambda s: s.next_item, of_catalog),
    LIST_FUSION: Part(save=_list_tensors, load=_load_lists, requires=of_catalog, count=lambda _: 0),
    "fusion": Part(save=_fusion_tensors, load=_load_fusion, requires=of_catalog, count=lambda _: 0),
}
"""What can be trained, loaded and swapped on its own."""
