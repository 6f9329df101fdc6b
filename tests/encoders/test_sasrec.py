from __future__ import annotations

import numpy as np
import pytest
import torch

from sasrecllm.encoders import losses
from sasrecllm.encoders.sasrec import SASRec
from sasrecllm.encoders.sequence import WindowQueries
from sasrecllm.encoders.table import build_encoder
from sasrecllm.errors import ConfigError
from sasrecllm.types import Histories


def trained(encoder, items, feedback, state, target, loss, steps=120, lr=3e-3):
    """Fit all windows at once; questions are [W] or [W, S] arrays of states and targets."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=lr, weight_decay=0.0)
    users = np.full(len(items), -1)
    window = np.repeat(np.arange(len(items)), state.size // len(items))
    encoder.train()
    queries = WindowQueries(users, items, feedback, window, state.reshape(-1))
    for _ in range(steps):
        value = loss(encoder.window_logits(queries, target)).mean()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    encoder.eval()
    with torch.no_grad():
        return encoder.window_logits(queries, target)


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec"])
def test_learns_which_item_follows_which(kind):
    """A cycle through a fixed permutation: the next item is certain, so HR@1 must come near 1."""
    rng = np.random.default_rng(0)
    following = np.roll(order := rng.permutation(20), -1)[np.argsort(order)]
    row = [rng.integers(0, 20, 60)]
    for _ in range(10):
        row.append(following[row[-1]])
    items = np.stack(row[:-1], axis=1)
    nexts = np.stack(row[1:], axis=1)
    state = np.tile(np.arange(1, 11), (60, 1))
    encoder = build_encoder(kind, n_items=20, width=32, length=10, dropout=0.1)
    target = torch.from_numpy(nexts.reshape(-1))
    logits = trained(encoder, items, None, state, None, lambda out: losses.full_softmax(out, target))
    assert (logits.argmax(1) == target).float().mean() > 0.98


def test_learns_labelled_rows_from_the_history():
    """A user of theme 0 or 1 likes that theme's items: the label depends on history and target."""
    rng = np.random.default_rng(0)
    theme = rng.integers(0, 2, 200)
    items = theme[:, None] + 2 * rng.integers(0, 10, (200, 5))  # parity of the item is its theme
    target = rng.integers(0, 20, 200)
    labels = torch.from_numpy((target % 2 == theme).astype(np.int64))
    encoder = build_encoder("sasrec", n_items=20, width=16, length=5, dropout=0.0)
    state = np.full(200, 5)
    logits = trained(encoder, items, None, state, target, lambda out: losses.bce(out, labels))
    assert ((logits > 0).long() == labels).float().mean() > 0.97


@pytest.mark.parametrize(("likes_only", "low", "high"), [(False, 0.97, 1.0), (True, 0.0, 0.7)])
def test_reads_dislikes_where_it_is_told_to(likes_only, low, high):
    """One item, liked or not, decides; an encoder blind to feedback cannot tell the rows apart."""
    feedback = np.random.default_rng(0).integers(0, 2, (100, 1))
    labels = torch.from_numpy(feedback[:, 0])
    encoder = build_encoder("sasrec", n_items=3, width=16, length=1, likes_only=likes_only)
    ones = np.ones(100, dtype=np.int64)
    logits = trained(
        encoder, np.zeros((100, 1), np.int64), feedback, ones, ones,
        lambda out: losses.bce(out, labels), steps=80, lr=1e-2,
    )  # fmt: skip
    accuracy = ((logits > 0).long() == labels).float().mean()
    assert low <= accuracy <= high


def test_the_order_of_a_history_matters():
    encoder = SASRec(n_items=5, width=8, length=3).eval()
    with torch.no_grad():
        encoder.positions.normal_()
    user = torch.tensor([-1])
    forth = encoder.states(user, torch.tensor([[0, 1, 2]]), None)
    back = encoder.states(user, torch.tensor([[1, 0, 2]]), None)
    assert not torch.allclose(forth[:, -1], back[:, -1], atol=1e-4)


def test_a_pad_inside_the_window_is_read_as_nothing():
    """The padding mask: an entry of -1 contributes neither an item nor the mean of all."""
    encoder = SASRec(n_items=5, width=8, length=3).eval()
    read = encoder.entry_vectors(torch.tensor([[1, -1, 5]]), None, None)[0]
    assert torch.equal(read[1], torch.zeros(8))
    torch.testing.assert_close(read[2], encoder.item_table.mean(0) * 8**0.5)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 10, "heads": 4}, ["width is 10", "heads is 4"]),
        ({"length": 0}, ["length is 0", "1 or more"]),
        ({"dropout": 1.0}, ["dropout is 1.0", "below 1"]),
        ({"dropout": -0.1}, ["dropout is -0.1"]),
        ({"heads": 0}, ["heads is 0"]),
        ({"blocks": 0}, ["blocks is 0"]),
        ({"n_items": 0}, ["n_items is 0"]),
        ({"n_users": -1}, ["n_users is -1"]),
        ({"seen_items": np.ones(3, dtype=bool)}, ["(3,)", "(5,)"]),
    ],
)
def test_refuses_bad_arguments_by_name(wrong, named):
    with pytest.raises(ConfigError) as refusal:
        SASRec(**({"n_items": 5} | wrong))
    for part in named:
        assert part in refusal.value.what


def test_a_history_that_neighbours_share_is_read_once(monkeypatch):
    """A like and the items drawn beside it; while the encoder learns, each draws dropout of its own."""
    encoder = build_encoder("sasrec", n_items=20, width=16, length=5, dropout=0.1)
    read = []
    plain = encoder.states
    monkeypatch.setattr(encoder, "states", lambda *given: read.append(len(given[0])) or plain(*given))
    two = Histories(
        np.array([0, 1]), np.array([1, 2, 3, 4, 5]), np.ones(5, dtype=np.int8), np.arange(5),
        np.array([0, 3, 5]), np.array([9, 9]),
    )  # fmt: skip
    rows = np.array([0, 0, 0, 1, 1, 0])
    encoder.eval()
    together, alone = encoder.encode(two.take(rows)), encoder.encode(two)
    assert read == [3, 2] and torch.allclose(together, alone[rows], atol=1e-6)
    encoder.train()
    encoder.encode(two.take(rows))
    assert read[-1] == 6
