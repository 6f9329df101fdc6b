"""SASRec: self-attention over the ids of the user's past items (Kang & McAuley, ICDM 2018).

Differences from the paper, each for a reason: a learned start token stands before the first item,
so that a user without history has a state too; rows are padded on the right, so that position p is
the p-th entry of the window whatever the batch; blocks normalise before attention and feed-forward
(they then train without warm-up); feedback is added to the item where dislikes are read as well.

Shape legend: B rows, T = L + 1 positions with the start token, D width, H heads, E = D / H.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasrecllm.encoders.sequence import EncoderArguments, SequentialEncoder, at_least
from sasrecllm.errors import ConfigError
from sasrecllm.ops.attention import causal_attention, dropout


class SASRec(SequentialEncoder):
    """Self-attentive sequential recommendation; item vectors are shared by input and output.

    Args:
        blocks: attention blocks.
        heads: attention heads; must divide ``width``.
        Others: see :class:`SequentialEncoder`.

    Raises:
        ConfigError: a value is out of its range, or ``width`` is not a multiple of ``heads``.

    >>> encoder = SASRec(n_items=5, width=8, heads=2, length=3)
    >>> encoder.states(torch.tensor([-1]), torch.tensor([[4, 0, -1]]), None).shape
    torch.Size([1, 4, 8])
    """

    kind: ClassVar[str] = "sasrec"
    label: ClassVar[str] = "SASRec"

    def __init__(
        self,
        *,
        blocks: int = 2,
        heads: int = 1,
        **shared: Unpack[EncoderArguments],
    ) -> None:
        at_least("blocks", blocks, 1)
        at_least("heads", heads, 1)
        super().__init__(**shared)
        width = self.width
        if width % heads:
            raise ConfigError(
                f"encoder: width is {width} and heads is {heads}; allowed: a width that is a"
                " multiple of heads",
                f"set heads to a divisor of {width}",
            )
        self.heads = heads
        self.start = nn.Parameter(torch.randn(1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(self.length + 1, width) * 0.02)
        self.feedback = None if self.likes_only else nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, self.dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    @property
    def config(self) -> dict[str, Any]:
        """Kind and constructor arguments; see :class:`SequentialEncoder`."""
        return super().config | {"blocks": len(self.blocks), "heads": self.heads}

    def states(self, users_B: Tensor, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        """User vectors after every prefix, [B, L + 1, D]; the users themselves are not read."""
        hidden_BTD = self._inputs(items_BL, feedback_BL)
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD)
        states: Tensor = self.norm(hidden_BTD)
        return states

    def _inputs(self, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        start_B1D = self.start.expand(len(items_BL), 1, -1) * math.sqrt(self.width)
        entries_BLD = self.entry_vectors(items_BL, feedback_BL, self.feedback)
        whole_BTD = torch.cat([start_B1D, entries_BLD], dim=1)
        whole_BTD = whole_BTD + self.positions[: whole_BTD.shape[1]]
        return dropout(whole_BTD, self.dropout, self.training)


class _Block(nn.Module):
    """Causal self-attention and a feed-forward of the same width, each on top of what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, width)
        self.contract = nn.Linear(width, width)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """One block, shape kept."""
        hidden_BTD = hidden_BTD + self._drop(self._attend(self.norm_attention(hidden_BTD)))
        inner_BTD = self._drop(F.relu(self.expand(self.norm_forward(hidden_BTD))))
        return hidden_BTD + self._drop(self.contract(inner_BTD))

    def _attend(self, hidden_BTD: Tensor) -> Tensor:
        B, T, D = hidden_BTD.shape
        packed_BT3HE = self.query_key_value(hidden_BTD).view(B, T, 3, self.heads, D // self.heads)
        # Pads stand on the right, so the causal mask already hides them from every real entry.
        read_BTHE = causal_attention(packed_BT3HE, self.dropout, self.training)
        projected: Tensor = self.project(read_BTHE.reshape(B, T, D))
        return projected

    def _drop(self, values: Tensor) -> Tensor:
        return dropout(values, self.dropout, self.training)
