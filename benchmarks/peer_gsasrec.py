"""gSASRec's recipe in plain torch on the rows of `python -m benchmarks.bench sasrec`: one epoch.

See peer.py for how it is run.  The project gSASRec-pytorch is on no package registry; this follows
its recipe (Petrov & Macdonald, "gSASRec", RecSys 2023) and is written afresh: every sequence padded on
the left to one length, in random order, 256 negatives drawn for every position, pads included, gBCE
(t = 0.75) on all positions and masked after, attention as explicit products, item vectors shared by
input and output, Adam.  Cheaper than the original where it makes no difference: rows are padded once
before the epoch, and the loss is a softplus instead of powers of probabilities in double precision.
With `--loss bce` there is one negative, and t = 0 is plain BCE.  Width and blocks are the bench's.
"""

from __future__ import annotations

import numpy as np
import peer
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOSSES = {
    "bce": "written afresh; padded to 50, one negative",
    "gbce": "written afresh; padded to 50, 256 negatives",
}
T = {"bce": 0.0, "gbce": 0.75}


class Block(nn.Module):
    """Causal attention with normalised queries, then a feed-forward, each with its residual."""

    def __init__(self) -> None:
        super().__init__()
        width = peer.WIDTH
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(peer.DROPOUT)

    def forward(self, rows: Tensor, real: Tensor, hidden: Tensor) -> Tensor:
        """Rows [B, L, D]; ``real`` [B, L, 1]: 0 at pads; ``hidden`` [B, L, L]: True where unread."""
        asked = self.before(rows)
        weights = self.query(asked) @ self.key(rows).transpose(1, 2) / peer.WIDTH**0.5
        weights = torch.nan_to_num(weights.masked_fill(hidden, float("-inf")).softmax(-1))
        middle = self.between(self.drop(weights) @ self.value(rows) + asked)
        return (self.drop(self.outer(self.drop(self.inner(middle)))) + middle) * real


class Model(nn.Module):
    """Items and places in, a vector for each position out; id 0 is the pad."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, peer.WIDTH)
        self.places = nn.Embedding(peer.LENGTH, peer.WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(peer.BLOCKS))
        self.drop, self.norm = nn.Dropout(peer.DROPOUT), nn.LayerNorm(peer.WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        """[B, L] to [B, L, D]."""
        real = (ids > 0).float()[..., None]
        later = torch.ones(peer.LENGTH, peer.LENGTH, dtype=torch.bool).triu(1)
        hidden = later | (ids == 0)[:, None, :]
        rows = self.drop(self.items(ids) + self.places.weight) * real
        for block in self.blocks:
            rows = block(rows, real, hidden)
        return self.norm(rows)


def prepare(users: np.ndarray, items: np.ndarray, loss: str) -> peer.Epoch:
    """Sequences padded on the left to LENGTH inputs and one more target."""
    ends = np.flatnonzero(np.diff(users, append=-1)) + 1
    grid = np.zeros((len(ends), peer.LENGTH + 1), dtype=np.int64)
    for row, (start, end) in enumerate(zip(np.r_[0, ends[:-1]], ends, strict=True)):
        last = items[start:end][-peer.LENGTH - 1 :] + 1
        grid[row, -len(last) :] = last
    n_items, padded = int(items.max()) + 1, torch.from_numpy(grid)

    def epoch() -> None:
        model = Model(n_items).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=peer.LR)
        for rows in torch.randperm(len(padded)).split(peer.BATCH):
            optimizer.zero_grad()
            batch_loss(model, padded[rows], n_items, peer.NEGATIVES[loss], T[loss]).backward()
            optimizer.step()

    return epoch


def batch_loss(model: Model, ids: Tensor, n_items: int, negatives: int, t: float) -> Tensor:
    """Mean gBCE over the real positions of padded rows [B, L + 1]."""
    inputs, targets = ids[:, :-1], ids[:, 1:]
    drawn = torch.randint(1, n_items + 1, (*targets.shape, negatives))
    both = model.items(torch.cat([targets[..., None], drawn], dim=-1))
    logits = torch.einsum("bld,blnd->bln", model(inputs), both)
    rate = negatives / (n_items - 1)
    beta = rate * (t * (1 - 1 / rate) + 1 / rate)
    each = torch.cat([beta * F.softplus(-logits[..., :1]), F.softplus(logits[..., 1:])], dim=-1)
    real = (targets > 0).float()[..., None]
    return (each * real).sum() / (real.sum() * (negatives + 1))


if __name__ == "__main__":
    peer.answer(f"on torch {torch.__version__}", LOSSES, prepare)
