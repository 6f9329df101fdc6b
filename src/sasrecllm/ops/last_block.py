"""The last block of a language model, at the only position that anybody reads.

Of the last block's output one position a prompt is used.  The other positions matter there as keys
and values alone, so their queries, their attention and their feed-forward are never computed: most of
the block, in both directions.  The block itself stays the library's: it is run once up to where it
hands keys and values to its cache, and once more for the positions that are read.

Legend: B prompts, T tokens, K keys, H hidden size, A attention heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Lock
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn


class _EnoughError(Exception):
    """The keys and values are known; the rest of this pass is not needed."""


class _KeysAndValues:
    """Stands for the block's cache: notes all keys and values first, gives them back afterwards."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.kept: Any = None

    def update(self, keys: Tensor, values: Tensor, *about: Any) -> Any:
        """What the block calls between its projections and its attention."""
        if self.kept is None:
            self.kept = (
                (keys, values) if self.cache is None else self.cache.update(keys, values, *about)
            )
            raise _EnoughError
        return self.kept


_ASKED: ContextVar[tuple[nn.Module, Tensor] | None] = ContextVar("_ASKED", default=None)
"""The block and the positions that this thread asks for: others may use the same model meanwhile."""

_HOOKED: WeakSet[nn.Module] = WeakSet()
_HOOKING = Lock()


@contextmanager
def at_positions(causal: Any, at_B: Tensor) -> Iterator[None]:
    """Inside the ``with`` the base model gives the states of positions ``at_B`` alone, [B, 1, H]."""
    block = causal.base_model.layers[-1]
    with _HOOKING:  # once and for good: hooks must not come and go while another thread runs them
        if block not in _HOOKED:
            block.register_forward_pre_hook(_narrowed, with_kwargs=True)
            _HOOKED.add(block)
    token = _ASKED.set((block, at_B))
    try:
        yield
    finally:
        _ASKED.reset(token)


def _narrowed(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The block's arguments for the positions that are read, after a first pass for the keys."""
    asked = _ASKED.get()
    if asked is None or asked[0] is not block:
        return args, kwargs
    at_B = asked[1]
    signature = inspect.signature(block.forward)
    given = dict(signature.bind(*args, **kwargs).arguments)
    given |= given.pop("kwargs", {})
    B, T, _ = given["hidden_states"].shape
    if T == 1:
        return args, kwargs
    place = "layer_past" if "layer_past" in signature.parameters else "past_key_values"
    given[place] = _KeysAndValues(given.get(place))
    with suppress(_EnoughError):
        block.forward(**given)
    rows = torch.arange(B, device=at_B.device)

    def here(tensor: Tensor) -> Tensor:
        return tensor.expand(B, *tensor.shape[1:])[rows, at_B][:, None]

    given["hidden_states"] = here(given["hidden_states"])
    for name in ("position_embeddings", "position_ids"):
        value = given.get(name)
        if value is not None:
            given[name] = tuple(map(here, value)) if isinstance(value, tuple) else here(value)
    mask_BATK = given.get("attention_mask")
    if mask_BATK is None:  # plainly causal: a position sees itself and what stands before it
        seen_BT = torch.arange(T, device=at_B.device) <= at_B[:, None]
        given["attention_mask"] = seen_BT[:, None, None]
    else:
        mask_BTAK = mask_BATK.transpose(1, 2)
        given["attention_mask"] = here(mask_BTAK).transpose(1, 2)
    return (), given
