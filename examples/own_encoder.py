"""An encoder of one's own, without touching the package: the mean of the liked items' vectors.

Run: python examples/own_encoder.py
"""

from __future__ import annotations

import torch
from torch import Tensor

import sasrecllm
from sasrecllm.encoders.sequence import SequentialEncoder


class MeanOfLikes(SequentialEncoder):
    """State j is the mean vector of the first j entries."""

    def states(self, users_B: Tensor, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        """Running means, [B, L + 1, D]."""
        sums_BLD = self.entry_vectors(items_BL, feedback_BL, None).cumsum(dim=1)
        counts_BL1 = (items_BL >= 0).cumsum(dim=1).clamp(min=1)[..., None]
        nothing_B1D = sums_BLD.new_zeros(len(users_B), 1, self.width)
        return torch.cat([nothing_B1D, sums_BLD / counts_BL1], dim=1)


if __name__ == "__main__":
    # In a YAML file the same is `encoder: {kind: "examples.own_encoder:MeanOfLikes"}`, which is
    # found only with PYTHONPATH=. from the root of a checkout: the current folder is not searched.
    system = sasrecllm.fit(
        strategy="encoder-only",
        encoder={"kind": MeanOfLikes, "width": 16, "loop": {"epochs": 2}},
        data={"source": "known-world", "world": {"users": 100, "items": 80, "rows": 12}},
        evaluation={"resamples": 100},
    )
    print(system.evaluate())
