"""Neural collaborative filtering: NeuMF of He et al. (WWW 2017), user and item by their ids alone.

    logit = p_u · q_i  +  hᵀ relu(W₂ relu(W₁ [p'_u; q'_i] + b₁) + b₂)  +  biases

The first summand is the generalised matrix factorisation (their equation 9; its output weights are
absorbed by p_u, which loses nothing), the second the multi-layer perceptron with tables of its own
(equation 10), their sum the fused model (equation 12).  It reads no history: the user vector p_u is
the same after every prefix.

A user or an item that training never showed has the score of the biases alone: both summands are 0.
A user's p_u starts at 0 and leaves it with his first training row, so a user whose p_u is 0 is one who
was never trained on, also in an encoder that was trained without his fold.

Shape legend: B rows, L positions, C candidates, D width, U users, I items.
"""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasrecllm.encoders.sequence import EncoderArguments, SequentialEncoder
from sasrecllm.ops.attention import dropout


class NCF(SequentialEncoder):
    """GMF plus MLP over user and item ids.

    Args: see :class:`SequentialEncoder`; ``dropout`` acts on the user vector and the perceptron's
        input.  The perceptron's layers are 2 D → D → D / 2 → 1 wide.

    The whole catalogue at once costs B · I · D numbers, as a product of vectors does not.

    >>> encoder = NCF(n_items=5, n_users=2, width=8).eval()
    >>> encoder.score(torch.zeros(2, 8), torch.tensor([0, -1]), None).tolist() == [[0.0] * 5] * 2
    True
    """

    kind: ClassVar[str] = "ncf"

    def __init__(self, **shared: Unpack[EncoderArguments]) -> None:
        super().__init__(**shared)
        n_items, n_users, width = self.n_items, self.n_users, self.width
        self.user_table = nn.Parameter(torch.zeros(n_users, width))
        self.mlp_users = nn.Parameter(torch.randn(n_users, width) * 0.2)
        self.mlp_items = nn.Parameter(torch.randn(n_items, width) * 0.2)
        half = max(1, width // 2)
        self.first = nn.Linear(2 * width, width)
        self.second = nn.Linear(width, half)
        self.last = nn.Linear(half, 1, bias=False)  # a constant is the item biases' business

    def states(self, users_B: Tensor, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        """p_u after every prefix, [B, L + 1, D], all alike; 0 for a user never trained on."""
        user_BD = self._rows_or_zero(self.user_table, users_B, self._inside(users_B))
        user_BD = dropout(user_BD, self.dropout, self.training)
        return user_BD[:, None].expand(-1, items_BL.shape[1] + 1, -1)

    def score(self, user_BD: Tensor, users_B: Tensor, items_BC: Tensor | None) -> Tensor:
        """GMF, MLP and biases, shape [B, C]; biases alone for an unseen user or item."""
        everything = torch.arange(self.n_items, device=self.device)[None]
        items = everything if items_BC is None else items_BC  # [B, C], or [1, I] for all rows alike
        inside = (items >= 0) & (items < self.n_items)
        seen = inside & self.seen_items[torch.where(inside, items, 0)]
        trained_B = self._trained(users_B)
        gmf_BC = (self.item_vectors(items) * user_BD[:, None]).sum(-1)
        learnt_BC = gmf_BC + self._perceptron(users_B, items, seen)
        both_BC = seen & trained_B[:, None]
        # A zero user vector leaves the biases of the shared formula.
        biases_BC = super().score(torch.zeros_like(user_BD), users_B, items_BC)
        return torch.where(both_BC, learnt_BC, 0.0) + biases_BC

    def _perceptron(self, users_B: Tensor, items: Tensor, seen: Tensor) -> Tensor:
        user_BD = self._rows_or_zero(self.mlp_users, users_B, self._inside(users_B))
        item_BCD = self._rows_or_zero(self.mlp_items, items, seen)
        user_BD = dropout(user_BD, self.dropout, self.training)
        item_BCD = dropout(item_BCD, self.dropout, self.training)
        # W₁ [p'; q'] in two halves: a user is multiplied once for all of his candidates.
        of_user, of_item = self.first.weight[:, : self.width], self.first.weight[:, self.width :]
        joint_BCD = (user_BD @ of_user.T)[:, None] + F.linear(item_BCD, of_item, self.first.bias)
        hidden = F.relu(self.second(F.relu(joint_BCD)))
        return torch.squeeze(self.last(hidden), -1)

    def _trained(self, users_B: Tensor) -> Tensor:
        rows = self._rows_or_zero(self.user_table, users_B, self._inside(users_B))
        return self._inside(users_B) & ((rows != 0).any(-1) | self.training)

    def _inside(self, users_B: Tensor) -> Tensor:
        return (users_B >= 0) & (users_B < self.n_users)

    @staticmethod
    def _rows_or_zero(table: Tensor, index: Tensor, where: Tensor) -> Tensor:
        """Rows of ``table`` ``where`` it is true, else zeros; the table may be empty."""
        if not len(table):
            return table.new_zeros(*index.shape, table.shape[1])
        found = F.embedding(torch.where(where, index, 0), table)
        return torch.where(where[..., None], found, 0.0)
