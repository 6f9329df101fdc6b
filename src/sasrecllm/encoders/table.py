"""The encoders by name: one row each."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
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


def build_encoder(
    kind: str, *, seed: int = 0, args: Mapping[str, Any] | None = None, **arguments: Any
) -> SequentialEncoder:
    """A fresh encoder, the same for the same ``seed``.

    ``build_encoder(**encoder.config)`` rebuilds one from its configuration.

    Args:
        kind: a row of :data:`ENCODERS`, or ``package.module:Class``.
        seed: of the first weights; the global generator is left as it was.
        arguments: of the encoder.  One that another encoder has and this one has not (``heads`` for
            a recurrent network) is left out, so that one set of settings builds them all.
        args: further arguments, which this encoder has and no other needs to have (``encoder.args``).

    Raises:
        ConfigError: an unknown kind or argument, or a value out of its range.

    >>> build_encoder("mf", n_items=3, heads=2).config["kind"]
    'mf'
    """
    cls = encoder_class(kind)
    refuse_args(kind, args or {}, arguments)
    own = _argument_names(cls)
    known = own.union(*map(_argument_names, ENCODERS.values()))
    for name in arguments:
        if name not in known:
            raise ConfigError(
                f"encoder: {name} is not an argument of {kind}; allowed: {', '.join(sorted(known))}"
                + did_you_mean(name, known),
                "rename or remove it",
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(**{k: v for k, v in arguments.items() if k in own}, **(args or {}))


def encoder_class(kind: str) -> type[SequentialEncoder]:
    """The class of a row of :data:`ENCODERS`, or of ``package.module:Class``.

    Raises:
        ConfigError: there is none, or it is no encoder.
    """
    cls = resolve(kind, ENCODERS, "encoder.kind")
    if not (inspect.isclass(cls) and issubclass(cls, SequentialEncoder)):
        raise ConfigError(
            f"encoder.kind is {kind!r}, which is no SequentialEncoder",
            "name a class that is made from sasrecllm.encoders.sequence.SequentialEncoder",
        )
    return cls


def refuse_args(kind: str, args: Iterable[str], settings: Collection[str] = ()) -> None:
    """Refuse an argument in ``encoder.args`` that the encoder has not, or that is a setting.

    Args:
        settings: names of arguments that are settings of their own.

    Raises:
        ConfigError: with the arguments there are.
    """
    cls = encoder_class(kind)
    shared = {*EncoderArguments.__annotations__, "user_bias"}
    own = sorted(_argument_names(cls) - shared - {*settings})
    for name in args:
        if name in settings or name in shared:
            raise ConfigError(
                f"encoder.args has {name!r}, which is a setting of its own", f"set encoder.{name}"
            )
        if name not in _argument_names(cls):
            raise ConfigError(
                f"encoder.args has {name!r}; {kind} has: {', '.join(own) or 'no further arguments'}"
                + did_you_mean(name, own),
                "rename or remove it",
            )


def _argument_names(cls: type[SequentialEncoder]) -> set[str]:
    """Keywords of ``cls``; one that takes ``**shared`` has the shared ones too."""
    named = inspect.signature(cls).parameters
    shared = [p for p in named.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    own = {name for name, p in named.items() if p not in shared}
    return own | set(EncoderArguments.__annotations__) if shared else own
