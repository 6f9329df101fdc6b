"""The title prior: new items get what their words say, rare ones borrow, common ones stay."""

from __future__ import annotations

import numpy as np
import torch

from sasrecllm.encoders.prior import apply_prior, predict_rows
from sasrecllm.encoders.table import build_encoder

N_ITEMS, WIDTH = 60, 6


def world(noise: float = 0.0, new: int = 10):
    """Item vectors that are a linear function of four themes; the last ``new`` items are untrained."""
    rng = np.random.default_rng(0)
    theme = rng.integers(0, 4, N_ITEMS)
    features = np.eye(4)[theme]
    truth = rng.normal(size=(4, WIDTH + 1))[theme]
    counts = np.where(np.arange(N_ITEMS) < N_ITEMS - new, 50, 0)
    encoder = build_encoder(
        "sasrec", n_items=N_ITEMS, n_users=0, width=WIDTH, blocks=1, heads=1, length=4,
        seen_items=counts > 0,
    )  # fmt: skip
    own = np.where(counts[:, None] > 0, truth + noise * rng.normal(size=truth.shape), 77.0)
    with torch.no_grad():
        encoder.item_table[:N_ITEMS] = torch.from_numpy(own[:, :WIDTH]).float()
        encoder.item_bias[:N_ITEMS] = torch.from_numpy(own[:, WIDTH]).float()
    return encoder, features, counts, truth


def rows_of(encoder) -> np.ndarray:
    items = torch.arange(N_ITEMS)
    return np.c_[
        encoder.item_vectors(items).detach().numpy(), encoder.item_bias.detach().numpy()[:N_ITEMS]
    ]


def test_a_new_item_gets_the_vector_that_its_words_say_and_never_its_random_row():
    encoder, features, counts, truth = world()
    explained = apply_prior(encoder, features, counts, 2.0)
    assert explained > 0.98
    np.testing.assert_allclose(rows_of(encoder)[counts == 0], truth[counts == 0], atol=0.1)


def test_an_item_keeps_n_over_n_plus_rows_of_its_own_vector():
    encoder, features, counts, _ = world(noise=1.0)
    before = rows_of(encoder)
    counts = np.where(counts > 0, np.arange(N_ITEMS) + 1, 0)
    predicted, _ = predict_rows(
        features, np.where(counts[:, None] > 0, before, 0), counts / (counts + 5)
    )
    apply_prior(encoder, features, counts, 3.0)
    keep = (counts / (counts + 3.0))[:, None]
    trained = counts > 0
    want = (keep * before + (1 - keep) * predicted)[trained]
    np.testing.assert_allclose(rows_of(encoder)[trained], want, atol=1e-4)


def test_words_that_say_nothing_give_the_mean():
    rng = np.random.default_rng(1)
    own, features = rng.normal(size=(40, 3)), rng.normal(size=(40, 30))
    predicted, explained = predict_rows(features, own, np.ones(40))
    if explained == 0.0:
        np.testing.assert_allclose(predicted, np.tile(own.mean(0), (40, 1)))
    assert explained < 0.1 and np.abs(predicted - own.mean(0)).max() < np.abs(own - own.mean(0)).max()


def test_without_a_shared_word_or_a_trained_item_the_encoder_stays_as_it_was():
    encoder, features, counts, _ = world()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert apply_prior(encoder, np.zeros((N_ITEMS, 0)), counts, 2.0) is None
    assert apply_prior(encoder, features, np.zeros_like(counts), 2.0) is None
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
