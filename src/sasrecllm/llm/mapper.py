"""The mapping layer: encoder vectors to soft tokens of the language model.

Shared by the user slot and the item slot, as in the paper (Linear d→320, ReLU, Linear 320→hidden·k).
Two vectors in two places say nothing about each other until some layer of the language model has
learnt to multiply them; so the item's slot may also read the encoder's logit of the pair.
Encoder vectors are normalised first (on ML-1M item vectors spread by .02–.07, user vectors by
.5–1.1), and every soft token is scaled to the mean norm of the LLM's token embeddings, so that it
speaks as loudly as a word.

Legend: B prompts, S soft slots, E features of a slot (encoder width + 1), D those that are read (the
encoder's width of them, or all), K soft tokens per slot, H hidden size of the LLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sasrecllm.errors import CheckpointError, ConfigError, did_you_mean
from sasrecllm.former_settings import translated

KINDS = ("mlp", "linear")
SHAPE = ("kind", "tokens", "hidden", "encoder_logit")
"""Settings that a saved mapper brings with it."""

OLDER = {"encoder_logit": False}
"""Settings that parts saved before there was such a setting were trained with."""


def saved_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the ``config`` of a saved mapper says, whichever version saved it, in today's names."""
    found: dict[str, Any] = OLDER | translated({"mapper": config})["mapper"]
    return found


def slot_features(user_BD: Tensor, item_BD: Tensor, logits_B: Tensor) -> tuple[Tensor, Tensor]:
    """Features of the slots of a user and of an item, [B, E] each: a vector, then a logit.

    The user's has 0 in the logit's place: it stands before any candidate is known.
    """
    nothing_B1 = user_BD.new_zeros(len(user_BD), 1)
    return torch.cat([user_BD, nothing_B1], dim=1), torch.cat([item_BD, logits_B[:, None]], dim=1)


class Mapper(nn.Module):
    """Slot features [S, E] of users (kind 0) or items (kind 1), to soft tokens [S, K, H].

    Args:
        kind: ``mlp`` (the paper's) or ``linear``.
        width: of the encoder.
        encoder_logit: read the logit too, as loud as the whole vector; the paper reads vectors alone.
        hidden: units between the two layers of the MLP.
        llm_width: H.
        tokens: K.
        embedding_norm: norm that every soft token gets.
    """

    means_2D: Tensor
    stds_2D: Tensor
    embedding_norm: Tensor

    def __init__(
        self,
        kind: str,
        *,
        width: int,
        llm_width: int,
        hidden: int = 320,
        tokens: int = 1,
        encoder_logit: bool = False,
        embedding_norm: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ConfigError(
                f"mapper.kind is {kind!r}; allowed: {', '.join(KINDS)}{did_you_mean(kind, KINDS)}",
                "choose one of these",
            )
        self.config: dict[str, Any] = {
            "kind": kind, "width": width, "llm_width": llm_width, "hidden": hidden, "tokens": tokens,
            "encoder_logit": encoder_logit,
        }  # fmt: skip
        self.tokens, self.llm_width, self.width = tokens, llm_width, width
        self.reads = width + encoder_logit
        out = llm_width * tokens
        self.layers: nn.Module = (
            nn.Sequential(nn.Linear(self.reads, hidden), nn.ReLU(), nn.Linear(hidden, out))
            if kind == "mlp"
            else nn.Linear(self.reads, out)
        )
        self.register_buffer("means_2D", torch.zeros(2, self.reads))
        self.register_buffer("stds_2D", torch.ones(2, self.reads))
        self.register_buffer("embedding_norm", torch.tensor(float(embedding_norm)))

    @torch.no_grad()
    def fit_normalisation(self, user_BE: Tensor, item_BE: Tensor) -> None:
        """Take mean and spread of both kinds of slots from the training rows.

        The spread of vectors is one number a kind: directions keep their relative sizes.
        """
        for kind, features_BE in enumerate((user_BE, item_BE)):
            features_BD = features_BE[:, : self.reads]
            self.means_2D[kind] = features_BD.mean(0)
            spread_D = (features_BD - features_BD.mean(0)).square().mean(0)
            self.stds_2D[kind, : self.width] = spread_D[: self.width].mean().sqrt().clamp(min=1e-6)
            # One number beside D others: the root of D makes it as loud as they are together.
            self.stds_2D[kind, self.width :] = (
                (spread_D[self.width :] / self.width).sqrt().clamp(min=1e-6)
            )

    def forward(self, features_SE: Tensor, kinds_S: Tensor) -> Tensor:
        """Soft tokens [S, K, H] of the features [S, E] of slots of ``kinds_S`` (0 user, 1 item)."""
        normal = (features_SE[:, : self.reads] - self.means_2D[kinds_S]) / self.stds_2D[kinds_S]
        raw = self.layers(normal).view(-1, self.tokens, self.llm_width)
        size = raw.square().mean(-1, keepdim=True).add(1e-6).sqrt() * self.llm_width**0.5
        scaled: Tensor = raw / size * self.embedding_norm
        return scaled

    def load_checked(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Load, or refuse with both values.

        Raises:
            CheckpointError: another kind, width, language model width or number of tokens.
        """
        about = saved_settings(config)
        for key, mine in self.config.items():
            theirs = about.get(key)
            if theirs != mine:
                raise CheckpointError(
                    f"the mapper was trained with {key} = {theirs!r}, this run has {mine!r}",
                    "use the mapper's own settings, or train it again",
                )
        try:
            self.load_state_dict(dict(tensors), strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"the mapper's tensors do not fit: {error}", "train the mapper again"
            ) from error


def build_mapper(kind: str, *, seed: int = 0, **arguments: Any) -> Mapper:
    """A fresh mapper, the same for the same seed; see :class:`Mapper`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mapper(kind, **arguments)
