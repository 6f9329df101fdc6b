"""An encoder's tensors, loaded only where they fit: equal shapes do not mean an equal encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.errors import CheckpointError

FREE = frozenset({"dropout"})
"""Settings that may differ from the checkpoint's: they change training, never a score."""


def load_checked(
    encoder: SequentialEncoder, state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Copy ``state`` into ``encoder``, or refuse and leave the encoder as it was.

    Args:
        state: tensors as ``encoder.state_dict()`` names them.
        config: the ``config`` of the encoder that the tensors were taken from.

    Raises:
        CheckpointError: another kind, heads, length, width, catalogue size, …; a tensor that is
            missing, unexpected or of another shape or type.  Both values are named.
    """
    mine = encoder.config
    for key in sorted(mine.keys() | config.keys()):
        if key not in FREE and mine.get(key) != config.get(key):
            raise CheckpointError(
                f"encoder checkpoint has {key} = {config.get(key)!r}, this encoder has"
                f" {mine.get(key)!r}",
                f"set the encoder's {key} to the checkpoint's, or train the encoder again",
            )
    wanted = encoder.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"encoder checkpoint lacks {missing} and has the unexpected {unexpected}",
            "it was written by another encoder or another version: train the encoder again",
        )
    for name, tensor in wanted.items():
        got = state[name]
        if got.shape != tensor.shape or got.dtype != tensor.dtype:
            raise CheckpointError(
                f"encoder checkpoint has {name} of {tuple(got.shape)} {got.dtype}, this encoder has"
                f" {tuple(tensor.shape)} {tensor.dtype}",
                "restore the checkpoint from a copy, or train the encoder again",
            )
    encoder.load_state_dict(dict(state), strict=True)
