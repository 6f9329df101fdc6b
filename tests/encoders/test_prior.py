"""The title prior: new items get what their words say, rare ones borrow, common ones stay."""

from __future__ import annotations

import numpy as np
import torch

from sasrecllm.encoders.prior import apply_prior, out_of_fold, predict_rows, write_rows
from sasrecllm.encoders.prior import rows_of as all_rows
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


def test_an_item_says_nothing_of_what_is_predicted_of_it_as_if_it_were_new():
    encoder, features, counts, truth = world(noise=0.3)
    own, weights = rows_of(encoder), counts / (counts + 5.0)
    theirs = np.hstack([features, np.eye(N_ITEMS)])  # a feature of its own by which to know it again
    told, _ = predict_rows(theirs, own, weights)
    asked = out_of_fold(theirs, own, weights)
    trained = counts > 0
    noise = (own - truth)[trained]
    assert np.corrcoef((told - truth)[trained].ravel(), noise.ravel())[0, 1] > 0.5
    assert np.corrcoef((asked - truth)[trained].ravel(), noise.ravel())[0, 1] < 0.2
    np.testing.assert_allclose(asked[~trained], told[~trained])
    assert np.corrcoef(asked[trained].ravel(), truth[trained].ravel())[0, 1] > 0.9


def test_where_nothing_can_be_predicted_what_is_new_has_the_mean():
    rng = np.random.default_rng(0)
    own, features = rng.normal(size=(40, 3)), rng.normal(size=(40, 30))
    predicted, explained = predict_rows(features, own, np.ones(40))
    assert explained == 0.0
    assert np.array_equal(out_of_fold(features, own, np.ones(40)), predicted)


def test_rows_are_written_as_they_are_read():
    encoder, *_ = world()
    changed = all_rows(encoder) + 1.0
    write_rows(encoder, changed)
    np.testing.assert_allclose(all_rows(encoder), changed, atol=1e-5)  # kept in single precision
