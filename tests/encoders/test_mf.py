from __future__ import annotations

import numpy as np
import torch

from sasrecllm.encoders.mf import MF
from sasrecllm.types import Histories


def histories(users, items, labels):
    n = len(users)
    return Histories(
        np.array(users), np.array(items * n), np.array(labels * n, dtype=np.int8),
        np.arange(len(items) * n), np.arange(n + 1) * len(items), np.full(n, 99),
    )  # fmt: skip


def test_a_known_user_has_a_vector_and_any_other_the_mean_of_what_was_liked():
    for likes_only in (True, False):
        encoder = MF(n_items=5, n_users=2, width=4, likes_only=likes_only).eval()
        with torch.no_grad():
            encoder.user_table[1] = torch.randn(4)
        vectors = encoder.encode(histories([1, -1, 2, 0], [0, 3, 4], [1, 0, 1]))
        torch.testing.assert_close(vectors[0], encoder.user_table[1])
        torch.testing.assert_close(vectors[3], vectors[1])  # user 0 was never trained on
        liked = (encoder.item_table[0] + encoder.item_table[4]) / 2
        torch.testing.assert_close(vectors[1], liked)
        torch.testing.assert_close(vectors[2], liked)


def test_nothing_liked_is_the_zero_vector():
    encoder = MF(n_items=5, n_users=0, width=4).eval()
    assert torch.equal(encoder.encode(histories([-1], [1], [0])), torch.zeros(1, 4))
