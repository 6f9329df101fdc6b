from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.encoders.crossfit import CrossFitted, procrustes
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.table import build_encoder
from sasrecllm.errors import ConfigError
from sasrecllm.types import Histories, SequenceEncoder

FOLDS = np.array([0, 1, -1, 0, 1])
TARGETS = np.array([1, 2, 3, 4, 5, 6])


def some_histories() -> Histories:
    items = np.array([1, 2, 3, 4, 5, 6, 7, 0, 3])
    offsets = np.array([0, 2, 3, 6, 6, 8, 9])
    labels = np.ones(9, dtype=np.int8)
    users = np.array([0, 1, 2, 3, 4, -1])
    return Histories(users, items, labels, np.arange(9), offsets, np.full(6, 99))


def random_rotation(width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator))[0]


def turned(encoder, rotation):
    """A copy of an MF encoder whose whole space is rotated: the same logits, other vectors."""
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        other.item_table.copy_(encoder.item_table @ rotation)
        other.user_table.copy_(encoder.user_table @ rotation)
    return other


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_procrustes_finds_the_rotation_of_a_rotated_copy(width, seed):
    generator = torch.Generator().manual_seed(seed + 1)
    source = torch.randn(4 * width, width, generator=generator)
    rotation = random_rotation(width, seed)
    found = procrustes(source, source @ rotation)
    torch.testing.assert_close(found, rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(found @ found.T, torch.eye(width), atol=1e-5, rtol=0)


def test_procrustes_is_the_nearest_rotation_where_none_is_exact():
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 30, 4, generator=generator)
    best = (source @ procrustes(source, target) - target).norm()
    for seed in range(50):
        assert best <= (source @ random_rotation(4, seed) - target).norm()


def test_a_rotated_fold_comes_back_into_the_full_encoders_space():
    full = build_encoder("mf", n_items=40, n_users=0, width=4).eval()
    with torch.no_grad():
        full.item_table.normal_(generator=torch.Generator().manual_seed(0))
    folds = [turned(full, random_rotation(4, seed)) for seed in (1, 2)]
    cross = CrossFitted(full, folds, FOLDS)
    user, item, logits = cross.pair(some_histories(), TARGETS)
    wanted = full.pair(some_histories(), TARGETS)
    for got, want in zip((user, item, logits), wanted, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_only_items_that_both_saw_fit_the_rotation():
    full = build_encoder("mf", n_items=40, n_users=0, width=4).eval()
    rotation = random_rotation(4, 1)
    fold = turned(full, rotation)
    fold.mark_seen(np.arange(40) < 30)
    with torch.no_grad():
        fold.item_table[30:] = 1e3  # an unseen row is whatever initialisation left there
    cross = CrossFitted(full, [fold], np.zeros(3, dtype=np.int64))
    torch.testing.assert_close(cross.rotations_KDD[0], rotation.T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["sasrec", "mf"])
def test_each_user_is_read_by_the_encoder_that_never_saw_that_user(kind):
    full, *folds = (
        build_encoder(kind, n_items=9, n_users=5, width=4, user_bias=True, seed=s) for s in range(3)
    )
    for encoder in (full, *folds):
        with torch.no_grad():
            encoder.user_bias.normal_(generator=torch.Generator().manual_seed(0))
    cross = CrossFitted(full, folds, FOLDS)
    histories = some_histories()
    user, item, logits = cross.pair(histories, TARGETS)
    candidates = np.stack([TARGETS, TARGETS[::-1]], axis=1)
    for b, k in enumerate([0, 1, -1, 0, 1, -1]):
        one = histories.take(np.array([b]))
        if k >= 0:
            nobody = np.array([-1])
            one = Histories(nobody, one.items, one.labels, one.times, one.offsets, one.asked_at)
        encoder = folds[k] if k >= 0 else full
        own_user, own_item, own_logit = encoder.pair(one, TARGETS[b : b + 1])
        torch.testing.assert_close(logits[b], own_logit[0])
        torch.testing.assert_close(user[b] @ item[b], own_user[0] @ own_item[0])
        rotation = cross.rotations_KDD[k] if k >= 0 else torch.eye(4)
        torch.testing.assert_close(user[b], own_user[0] @ rotation)
        torch.testing.assert_close(
            cross.logits(histories, candidates)[b], encoder.logits(one, candidates[b : b + 1])[0]
        )
    torch.testing.assert_close(cross.encode(histories), user)
    assert cross.logits(histories).shape == (6, 9)


def test_is_an_encoder_and_scores_like_one():
    full, fold = (build_encoder("sasrec", n_items=9, width=4, seed=s) for s in (0, 1))
    cross = CrossFitted(full, [fold], np.array([0, -1]))
    assert isinstance(cross, SequenceEncoder)
    scores = EncoderScorer("x", cross).score(some_histories(), TARGETS[:, None])
    np.testing.assert_allclose(scores[:, 0], cross.pair(some_histories(), TARGETS)[2], atol=1e-5)
    empty = some_histories().take(np.array([], dtype=np.int64))
    assert [tuple(t.shape) for t in cross.pair(empty, TARGETS[:0])] == [(0, 4), (0, 4), (0,)]


def test_training_mode_brings_no_dropout_back_and_no_gradient_flows():
    full, fold = (build_encoder("sasrec", n_items=9, width=4, dropout=0.5, seed=s) for s in (0, 1))
    cross = CrossFitted(full, [fold], np.array([0, 0, -1])).train()
    first, again = (cross.pair(some_histories(), TARGETS)[0] for _ in range(2))
    torch.testing.assert_close(first, again)
    assert not first.requires_grad
    assert not cross.item_vectors(torch.tensor([1])).requires_grad


def test_what_was_saved_comes_back():
    def build(seed: int) -> CrossFitted:
        encoders = [build_encoder("sasrec", n_items=9, width=4, seed=seed + s) for s in range(3)]
        return CrossFitted(encoders[0], encoders[1:], FOLDS)

    mine, other = build(0), build(10)
    other.load_state_dict(mine.state_dict())
    for got, want in zip(
        other.pair(some_histories(), TARGETS), mine.pair(some_histories(), TARGETS), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_foreign_folds_are_refused():
    full = build_encoder("sasrec", n_items=9, width=4)
    with pytest.raises(ConfigError, match="width = 8"):
        CrossFitted(full, [build_encoder("sasrec", n_items=9, width=8)], FOLDS)
    with pytest.raises(ConfigError, match="n_items = 8"):
        CrossFitted(full, [build_encoder("sasrec", n_items=8, width=4)], FOLDS)
    with pytest.raises(ConfigError, match="user 1 has fold 1"):
        CrossFitted(full, [full], FOLDS)
    with pytest.raises(ConfigError, match="0 folds"):
        CrossFitted(full, [], FOLDS)
