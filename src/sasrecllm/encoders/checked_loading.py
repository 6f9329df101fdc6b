"""An encoder's tensors, loaded only where they fit: equal shapes do not mean an equal encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def without_users(
    state: Mapping[str, Tensor], config: Mapping[str, Any], users: Sequence[int]
) -> dict[str, Tensor] | None:
    """``state`` with zeros where the encoder keeps something of each of ``users``; None if it does not.

    What it keeps by user are tensors with "user" in their name and a row for each.
    """
    own = [k for k, t in state.items() if "user" in k and t.shape[:1] == (config.get("n_users"),)]
    if not own:
        return None
    blanked = dict(state)
    for name in own:
        blanked[name] = state[name].clone()
        blanked[name][list(users)] = 0
    return blanked
