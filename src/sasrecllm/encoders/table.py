"""The encoders by name: one row each."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sasrecllm.encoders.gru4rec import GRU4Rec
from sasrecllm.encoders.mf import MF
from sasrecllm.encoders.ncf import NCF
from sasrecllm.encoders.sasrec import SASRec
from sasrecllm.encoders.sequence import EncoderArguments, SequentialEncoder
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.plugins import resolve

ENCODERS: Mapping[str, type[SequentialEncoder]] = {
    SASRec.kind: SASRec,
    GRU4Rec.kind: GRU4Rec,
    MF.kind: MF,
    NCF.kind: NCF,
}
FROM_DATA = ("n_items", "n_users", "seen_items")
"""Arguments of every encoder that no setting gives."""


def build_encoder(kind: str, *, seed: int = 0, **arguments: Any) -> SequentialEncoder:
    """A fresh encoder, the same for the same ``seed``.

    ``build_encoder(**encoder.config)`` rebuilds one from its configuration.

    Args:
        kind: a row of :data:`ENCODERS`, or ``package.module:Class``.
        seed: of the first weights; the global generator is left as it was.
        arguments: of the encoder.  One that another encoder has and this one has not (``heads`` for
            a recurrent network) is left out, so that one set of settings builds them all.

    Raises:
        ConfigError: an unknown kind or argument, or a value out of its range.

    >>> build_encoder("mf", n_items=3, heads=2).config["kind"]
    'mf'
    """
    own = argument_names(kind)
    allowed = own.union(*map(argument_names, ENCODERS))
    for name in arguments:
        if name not in allowed:
            raise ConfigError(
                f"encoder: {name} is not an argument of {kind}; allowed: {', '.join(sorted(allowed))}"
                + did_you_mean(name, allowed),
                "rename or remove it",
            )
    cls = _class_of(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(**{name: value for name, value in arguments.items() if name in own})


def argument_names(kind: str) -> set[str]:
    """Keywords of an encoder's class; one that takes ``**shared`` has the shared ones too.

    Raises:
        ConfigError: there is no such class, or it is no encoder.
    """
    named = inspect.signature(_class_of(kind)).parameters
    shared = [p for p in named.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    own = {name for name, p in named.items() if p not in shared}
    return own | set(EncoderArguments.__annotations__) if shared else own


def refuse_arguments(kind: str, args: Iterable[str]) -> None:
    """Refuse ``encoder.args`` that the class does not take, or that are settings or data already.

    Raises:
        ConfigError: naming the argument and those that may be given.
    """
    taken = set[str]().union(*map(argument_names, ENCODERS))
    free = sorted(argument_names(kind) - taken)
    for name in args:
        if name not in free:
            place = f"write encoder.{name}" if name in taken else "rename or remove it"
            raise ConfigError(
                f"encoder.args has {name!r}; allowed for {kind}: {', '.join(free) or 'none'}"
                + did_you_mean(name, free),
                "it comes from the data: leave it out" if name in FROM_DATA else place,
            )


def _class_of(kind: str) -> type[SequentialEncoder]:
    cls = resolve(kind, ENCODERS, "encoder.kind")
    if not (inspect.isclass(cls) and issubclass(cls, SequentialEncoder)):
        raise ConfigError(
            f"encoder.kind is {kind!r}, which is no SequentialEncoder",
            "name a class that is made from sasrecllm.encoders.sequence.SequentialEncoder",
        )
    return cls
