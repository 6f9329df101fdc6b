"""GRU4Rec: a recurrent network over the ids of the user's past items (Hidasi et al., ICLR 2016).

Unlike the paper it starts from a learned state, and shares item vectors between input and output.

Shape legend: B rows, L positions, D width, N layers.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from sasrecllm.encoders.sequence import EncoderArguments, SequentialEncoder, at_least
from sasrecllm.ops.attention import dropout


class GRU4Rec(SequentialEncoder):
    """Gated recurrent units; state j is the hidden state after j entries, through one linear map.

    Args:
        blocks: recurrent layers.
        Others: see :class:`SequentialEncoder`.

    Raises:
        ConfigError: a value is out of its range.

    >>> encoder = GRU4Rec(n_items=5, width=8, length=3)
    >>> encoder.states(torch.tensor([-1]), torch.tensor([[4, 0, -1]]), None).shape
    torch.Size([1, 4, 8])
    """

    kind: ClassVar[str] = "gru4rec"

    def __init__(self, *, blocks: int = 2, **shared: Unpack[EncoderArguments]) -> None:
        at_least("blocks", blocks, 1)
        super().__init__(**shared)
        width = self.width
        self.start = nn.Parameter(torch.zeros(blocks, 1, width))
        self.feedback = None if self.likes_only else nn.Parameter(torch.randn(2, width) * 0.02)
        self.recurrent = nn.GRU(width, width, num_layers=blocks, batch_first=True)
        self.project = nn.Linear(width, width)

    @property
    def config(self) -> dict[str, Any]:
        """Kind and constructor arguments; see :class:`SequentialEncoder`."""
        return super().config | {"blocks": self.recurrent.num_layers}

    def states(self, users_B: Tensor, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        """User vectors after every prefix, [B, L + 1, D]; the users themselves are not read."""
        inputs_BLD = self._drop(self.entry_vectors(items_BL, feedback_BL, self.feedback))
        start_NBD = self.start.expand(-1, len(items_BL), -1).contiguous()
        read_BLD, _ = self.recurrent(inputs_BLD, start_NBD)
        states: Tensor = self.project(self._drop(torch.cat([start_NBD[-1][:, None], read_BLD], dim=1)))
        return states

    def _drop(self, values: Tensor) -> Tensor:
        return dropout(values, self.dropout, self.training)
