"""NCF: the formula by hand, the biases alone for strangers, and a world that a product cannot fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sasrecllm.encoders.ncf import NCF
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import WindowQueries
from sasrecllm.types import Histories

NOTHING = np.array([], dtype=np.int64)


def nobody_did_anything(users):
    n = len(users)
    zeros = np.zeros(n + 1, dtype=np.int64)
    return Histories(np.array(users), NOTHING, NOTHING.astype(np.int8), NOTHING, zeros, zeros[:n] + 9)


def ready(**more) -> NCF:
    """Four items, of which training shows all but the last; random weights, user 2 never trained."""
    torch.manual_seed(0)
    seen = np.array([1, 1, 1, 0], dtype=bool)
    encoder = NCF(n_items=4, n_users=3, width=6, seen_items=seen, **{"user_bias": True, **more})
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        encoder.user_table[2] = 0
    return encoder.eval()


def test_the_formula_by_hand():
    e = ready()
    got = e.logits(nobody_did_anything([1, 0]), np.array([[0, 2], [1, 1]]))
    for row, (user, items) in enumerate([(1, (0, 2)), (0, (1, 1))]):
        for column, item in enumerate(items):
            joint = torch.cat([e.mlp_users[user], e.mlp_items[item]])
            hidden = F.relu(e.second(F.relu(e.first(joint))))
            value = e.user_table[user] @ e.item_table[item] + e.last(hidden)[0]
            value = value + e.item_bias[item] + e.user_bias[user]
            torch.testing.assert_close(got[row, column], value)


@pytest.mark.parametrize("user", [-1, 2, 3, 99])
def test_a_stranger_has_the_items_biases_alone(user):
    e = ready()
    got = e.logits(nobody_did_anything([user]), np.array([[0, 1, 3, -1]]))[0]
    mean = e.item_bias[:3].mean()
    own = e.user_bias[2] if user == 2 else torch.tensor(0.0)  # random here; 0 where never trained
    torch.testing.assert_close(got, torch.stack([e.item_bias[0], e.item_bias[1], mean, mean]) + own)


def test_an_unseen_item_has_the_biases_alone():
    e = ready()
    got = e.logits(nobody_did_anything([0]), np.array([[3, -1, 4]]))[0]
    torch.testing.assert_close(got, (e.item_bias[:3].mean() + e.user_bias[0]).expand(3))
    bare = ready(item_bias=False, user_bias=False)
    assert (bare.logits(nobody_did_anything([0, -1]), np.array([[3], [1]])) == 0).all()


def test_a_user_table_may_be_empty():
    e = NCF(n_items=4, n_users=0, width=6, user_bias=True)
    assert torch.isfinite(e.logits(nobody_did_anything([-1, 0]))).all()


def trained(steps=150):
    """Like where user and item are both even or both odd; users 6 and 7 and items 8, 9 never appear."""
    torch.manual_seed(1)
    seen = np.arange(10) < 8
    encoder = NCF(n_items=10, n_users=8, width=8, dropout=0.0, seen_items=seen, user_bias=True)
    users, items = (grid.reshape(-1) for grid in np.meshgrid(np.arange(6), np.arange(8)))
    labels = torch.from_numpy(((users + items) % 2 == 0).astype(np.float32))
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.02, weight_decay=0.01)
    encoder.train()
    nothing = np.full((len(users), 1), -1)
    queries = WindowQueries(
        users, nothing, None, np.arange(len(users)), np.zeros(len(users), dtype=int)
    )
    for _ in range(steps):
        optimiser.zero_grad()
        logits = encoder.window_logits(queries, items)
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimiser.step()
    return encoder, users, items, labels.numpy()


def test_it_learns_who_likes_what_and_keeps_strangers_at_the_biases():
    encoder, users, items, labels = trained()
    scores = EncoderScorer("NCF", encoder).score(nobody_did_anything(users), items[:, None])[:, 0]
    assert ((scores > 0) == (labels == 1)).all()  # no sum of a user's and an item's number could
    assert (encoder.user_table[6:] == 0).all() and (encoder.user_table[:6] != 0).any(1).all()
    for user in (6, 7, -1):
        got = encoder.logits(nobody_did_anything([user]), np.arange(8)[None])[0]
        torch.testing.assert_close(got, encoder.item_bias[:8])
