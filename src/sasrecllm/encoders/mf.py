"""Matrix factorisation: one vector per user, one per item (Koren, Bell & Volinsky, Computer 2009).

It ignores the order of a history.  A user whom training never saw has no vector, so the mean vector
of what that user liked stands in (zero before the first like).  A user's vector starts at 0 and leaves
it with his first training row, so a zero row is a user who was never trained on, also in an encoder
that was trained without his fold.

Shape legend: B rows, L positions, D width.
"""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from sasrecllm.encoders.sequence import PAD, EncoderArguments, SequentialEncoder
from sasrecllm.ops.attention import dropout


class MF(SequentialEncoder):
    """User vector for a known user, mean of the liked items' vectors for any other.

    Args: see :class:`SequentialEncoder`; ``dropout`` acts on the user vector.

    >>> encoder = MF(n_items=5, n_users=2, width=8)
    >>> encoder.states(torch.tensor([0, -1]), torch.tensor([[4, 0], [1, -1]]), None).shape
    torch.Size([2, 3, 8])
    """

    kind: ClassVar[str] = "mf"

    def __init__(self, **shared: Unpack[EncoderArguments]) -> None:
        super().__init__(**shared)
        self.user_table = nn.Parameter(torch.zeros(self.n_users, self.width))
        # Larger than usual, as the other factor is 0: a product of two tiny factors hardly moves.
        nn.init.normal_(self.item_table, std=0.2)

    def states(self, users_B: Tensor, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        """User vectors after every prefix, [B, L + 1, D]; a known user has the same at each."""
        states_BLD = self._running_mean(items_BL, feedback_BL)
        inside_B = (users_B >= 0) & (users_B < self.n_users)
        if bool(inside_B.any()):
            own_BD = self.user_table[torch.where(inside_B, users_B, 0)]
            trained_B = inside_B & ((own_BD != 0).any(-1) | self.training)
            states_BLD = torch.where(trained_B[:, None, None], own_BD[:, None], states_BLD)
        return dropout(states_BLD, self.dropout, self.training)

    def _running_mean(self, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        counts_BL = items_BL != PAD
        if not self.likes_only and feedback_BL is not None:
            counts_BL = counts_BL & (feedback_BL == 1)
        weights_BL1 = counts_BL[..., None].to(self.item_table.dtype)
        sums = torch.cumsum(self.item_vectors(items_BL) * weights_BL1, dim=1)
        means = sums / torch.cumsum(weights_BL1, dim=1).clamp(min=1)
        return torch.cat([torch.zeros_like(means[:, :1]), means], dim=1)
