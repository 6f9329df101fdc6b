"""What a language model makes of titles: vectors of what it has read elsewhere about them.

A title is read in a sentence that names its kind, ``The movie "Heat (1995)"``, and its vector is the
hidden state of one layer there (a :class:`View` says which).  Hidden states of a language model lie in
a narrow cone, so they are taken along their principal directions, about their mean.

Legend: I titles, T tokens, H hidden size of the language model, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrecllm.errors import CheckpointError
from sasrecllm.llm.backbone import Backbone
from sasrecllm.machine.progress import Tell
from sasrecllm.ops.unit_rows import unit_rows
from sasrecllm.prompts.titles import TitleTokens, begins_with_bos, token_ids
from sasrecllm.types import UNKNOWN, FloatArray, IntArray

DEPTHS = (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
"""Shares of the blocks after which a state may be taken."""
POOLINGS = ("last", "mean")
"""The closing quotation mark, which has read all; or the mean over title and mark."""
DIRECTIONS = 128
"""Principal directions, at most."""
BATCH = 64
"""Titles that are read at once."""


class View(NamedTuple):
    """Which hidden state is a title's vector.

    Args:
        layer: blocks that have read it.
        pooling: one of :data:`POOLINGS`.
    """

    layer: int
    pooling: str

    def __str__(self) -> str:
        return f"layer {self.layer}, {'last token' if self.pooling == 'last' else 'mean of tokens'}"


def views_of(backbone: Backbone) -> list[View]:
    """The views of a language model among which one is chosen."""
    blocks = int(backbone.causal.config.get_text_config().num_hidden_layers)
    layers = sorted({max(1, round(share * blocks)) for share in DEPTHS})
    return [View(layer, pooling) for layer in layers for pooling in POOLINGS]


def usual_view(backbone: Backbone) -> View:
    """Where nothing can be chosen by: two thirds of the way, the last token."""
    blocks = int(backbone.causal.config.get_text_config().num_hidden_layers)
    return View(max(1, round(2 / 3 * blocks)), "last")


class TitleReader:
    """Reads titles with a language model.

    Args:
        item: what an item is called (``movie``).
        max_tokens: a longer title is cut.
    """

    def __init__(self, backbone: Backbone, item: str, max_tokens: int = 48) -> None:
        self.backbone, self.item, self.max_tokens = backbone, item, max_tokens
        tokenizer = backbone.tokenizer
        begin = [tokenizer.bos_token_id] if begins_with_bos(tokenizer) else []
        lead, tail = token_ids(tokenizer, [f'The {item} "', '"'], foreign=False)
        self._lead, self._tail = begin + lead, tail

    @torch.no_grad()
    def states(
        self, titles: Sequence[str], views: Sequence[View], progress: Tell | None = None
    ) -> dict[View, FloatArray]:
        """The hidden state of every title in each of ``views``, [I, H]; each title is read once.

        Args:
            progress: called with (done, all) titles.
        """
        tokens = TitleTokens(self.backbone.tokenizer, titles, self.max_tokens)
        width = self.backbone.hidden_size
        out = {view: np.empty((len(titles), width), dtype=np.float32) for view in views}
        order = np.argsort(tokens.lengths, kind="stable")  # little padding
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            rows = [self._lead + tokens.of(int(i)).tolist() + self._tail for i in part]
            for view, states in self._read(rows, views).items():
                out[view][part] = states
            if progress is not None:
                progress(min(start + BATCH, len(order)), len(order))
        return {view: states.astype(np.float64) for view, states in out.items()}

    def _read(self, rows: list[list[int]], views: Sequence[View]) -> dict[View, Any]:
        device = self.backbone.causal.get_input_embeddings().weight.device
        lengths = torch.tensor([len(row) for row in rows])
        ids_BT = torch.zeros((len(rows), int(lengths.max())), dtype=torch.int64)
        for row, ids in enumerate(rows):  # padded on the right: no real token sees a pad
            ids_BT[row, : len(ids)] = torch.tensor(ids)
        embeds = self.backbone.embed(ids_BT.to(device))
        hidden = self.backbone.causal.base_model(
            inputs_embeds=embeds, use_cache=False, output_hidden_states=True
        ).hidden_states
        at_T = torch.arange(ids_BT.shape[1])
        mine_BT = (at_T >= len(self._lead)) & (at_T < lengths[:, None])
        out = {}
        for view in views:
            states_BTH = hidden[view.layer].float().cpu()
            if view.pooling == "last":
                found_BH = states_BTH[torch.arange(len(rows)), lengths - 1]
            else:
                weights_BT = mine_BT / mine_BT.sum(1, keepdim=True)
                found_BH = torch.einsum("bt,bth->bh", weights_BT, states_BTH)
            out[view] = found_BH.numpy()
        return out


@dataclass(frozen=True)
class ReadTitles:
    """Vectors of the titles of a catalogue, and how that of another title is made.

    Args:
        vectors: of the catalogue's items, each of length one, [I, D].
        mean, directions: of their hidden states, [H] and [H, D].
        view: which hidden states.
        item: what an item is called in the sentence.
        max_tokens: longest title.
        backbone: digest of the language model.
    """

    vectors: FloatArray
    mean: FloatArray
    directions: FloatArray
    view: View
    item: str
    max_tokens: int
    backbone: str

    @classmethod
    def of(cls, reader: TitleReader, view: View, states_IH: FloatArray) -> ReadTitles:
        """Of what ``reader`` made of all titles of a catalogue, seen as ``view``."""
        mean, directions = principal(states_IH)
        vectors = along(states_IH, mean, directions)
        item, most, digest = reader.item, reader.max_tokens, reader.backbone.digest
        return cls(vectors, mean, directions, view, item, most, digest)

    def later(self, backbone: Backbone, titles: Sequence[str]) -> FloatArray:
        """Vectors of titles that the catalogue does not have, [N, D].

        Raises:
            CheckpointError: it is another language model.
        """
        if backbone.digest != self.backbone:
            raise CheckpointError(
                "the vectors of the items were read off their titles by another language model",
                "restore the language model that llm.backbone named, or train the run again",
            )
        reader = TitleReader(backbone, self.item, self.max_tokens)
        states = reader.states(titles, [self.view])[self.view]
        return along(states, self.mean, self.directions)

    def over(self, rows: IntArray, titles: Sequence[str], load: Callable[[], Backbone]) -> ReadTitles:
        """The same for a catalogue of another order, with titles that this one does not have.

        Args:
            rows: [N] item here of each item there; UNKNOWN for a new one.
            titles: [N] of the catalogue there.
            load: gives the language model, where a title must be read.

        Raises:
            CheckpointError: it is another language model.
        """
        vectors = self.vectors[np.maximum(rows, 0)]
        new = np.flatnonzero(rows == UNKNOWN)
        if len(new):
            vectors[new] = self.later(load(), [titles[i] for i in new.tolist()])
        return replace(self, vectors=vectors)

    def tensors(self) -> dict[str, Tensor]:
        """What is kept beside :meth:`about`."""
        kept = {"mean": self.mean, "directions": self.directions}
        out = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in kept.items()}
        return out | {"vectors": torch.from_numpy(self.vectors.astype(np.float32))}

    def about(self) -> dict[str, Any]:
        """How they were made, as plain values."""
        about = self.view._asdict() | {"item": self.item, "max_tokens": self.max_tokens}
        return about | {"backbone": self.backbone}

    @classmethod
    def from_kept(
        cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any], n_items: int
    ) -> ReadTitles:
        """What :meth:`tensors` and :meth:`about` gave.

        Raises:
            KeyError, TypeError, ValueError: something is missing, or is not what it should be.
        """
        vectors, mean, directions = (
            tensors[name].double().numpy() for name in ("vectors", "mean", "directions")
        )
        if vectors.shape != (n_items, directions.shape[-1]) or directions.shape[:1] != mean.shape:
            raise ValueError(f"vectors have the shape {vectors.shape}, directions {directions.shape}")
        view = View(int(about["layer"]), str(about["pooling"]))
        if view.pooling not in POOLINGS or view.layer < 0:
            raise ValueError(f"there is no {view}")
        item, most = str(about["item"]), int(about["max_tokens"])
        return cls(vectors, mean, directions, view, item, most, str(about["backbone"]))


def principal(states_IH: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean [H] and principal directions [H, D] of states, at most :data:`DIRECTIONS`."""
    mean = states_IH.mean(0)
    about = states_IH - mean
    values, directions = np.linalg.eigh(about.T @ about)
    count = min(DIRECTIONS, max(1, int((values > 1e-9 * values.max(initial=0)).sum())))
    return mean, directions[:, ::-1][:, :count]


def along(states_IH: FloatArray, mean: FloatArray, directions: FloatArray) -> FloatArray:
    """States along ``directions`` about ``mean``, each of length one (or zero), [I, D].

    In single precision, as they are kept.
    """
    unit_ID = unit_rows((states_IH - mean) @ directions)
    return unit_ID.astype(np.float32).astype(np.float64)
