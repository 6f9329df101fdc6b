"""What every encoder of the table obeys, whatever is inside it."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.encoders import losses
from sasrecllm.encoders.checked_loading import load_checked
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder as Encoder
from sasrecllm.encoders.sequence import WindowQueries
from sasrecllm.encoders.table import ENCODERS, build_encoder
from sasrecllm.types import Histories, Scorer, SequenceEncoder

N_ITEMS, N_USERS, LENGTH = 12, 4, 6
# Batches of other sizes, other chunks and other ways through the same formula take other kernels, which
# round single precision (1e-7) otherwise at each of some hundred additions.
close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
IDS_ONLY = {"ncf"}  # reads no history; unseen users and items have the biases alone
CASES = [(kind, likes_only) for kind in ENCODERS for likes_only in (True, False)]


def make(kind: str, likes_only: bool = False, **more: object) -> Encoder:
    """A small encoder with random weights everywhere, so that no term is zero by chance."""
    seen = np.ones(N_ITEMS, dtype=bool)
    seen[[3, 7]] = False
    arguments = {
        "n_items": N_ITEMS, "n_users": N_USERS, "width": 8, "heads": 2, "length": LENGTH,
        "likes_only": likes_only, "item_bias": True, "user_bias": True, "seen_items": seen,
    }  # fmt: skip
    encoder = build_encoder(kind, **(arguments | more))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return encoder.eval()


def histories(rows: list[list[int]], users: list[int], labels: list[list[int]] | None = None):
    flat = np.array([i for row in rows for i in row], dtype=np.int64)
    given = labels or [[1] * len(row) for row in rows]
    return Histories(
        users=np.array(users, dtype=np.int64),
        items=flat,
        labels=np.array([x for row in given for x in row], dtype=np.int8),
        times=np.arange(len(flat), dtype=np.int64),
        offsets=np.cumsum([0] + [len(r) for r in rows]).astype(np.int64),
        asked_at=np.full(len(rows), 10**6, dtype=np.int64),
    )


WORLD = histories(
    [[0, 1, 2], [], [5, 3, 11, 4, 8, 9, 10, 2, 6], [7], [-1, 2], [99, 2], [4, 4, 4, 1]],
    [0, 1, 2, -1, 3, 77, 1],
    [[1, 0, 1], [], [1, 1, 0, 0, 1, 0, 1, 1, 0], [1], [1, 1], [1, 1], [0, 0, 0, 0]],
)
CANDIDATES = np.array([[i, (i + 5) % N_ITEMS, 3, -1, 99] for i in range(len(WORLD))])


@pytest.fixture(params=CASES, ids=str)
def encoder(request) -> Encoder:
    return make(*request.param)


def test_obeys_the_protocols_and_names_itself_as_in_the_table(encoder):
    assert isinstance(encoder, SequenceEncoder)
    assert isinstance(EncoderScorer("x", encoder), Scorer)
    assert type(encoder) is ENCODERS[encoder.config["kind"]]


def test_batch_size_and_order_never_change_a_score(encoder):
    whole = EncoderScorer("x", encoder).score(WORLD, CANDIDATES)
    assert np.isfinite(whole).all()
    for b in range(len(WORLD)):
        one = EncoderScorer("x", encoder).score(WORLD.take(np.array([b])), CANDIDATES[b : b + 1])
        np.testing.assert_allclose(one[0], whole[b], atol=1e-5, rtol=1e-5)
    order = np.random.default_rng(0).permutation(len(WORLD))
    turned = EncoderScorer("x", encoder).score(WORLD.take(order), CANDIDATES[order])
    np.testing.assert_allclose(turned, whole[order], atol=1e-5, rtol=1e-5)


def test_a_chunked_batch_scores_as_a_whole_one(encoder, monkeypatch):
    whole = encoder.encode(WORLD)
    monkeypatch.setattr("sasrecllm.encoders.sequence.ROWS_AT_ONCE", 2)
    close(encoder.encode(WORLD), whole)


def test_right_padding_and_the_future_reach_no_earlier_state(encoder):
    users = torch.tensor([0, -1])
    items = torch.tensor([[1, 3, 5], [2, 2, 8]])
    feedback = torch.tensor([[1, 0, 1], [0, 1, 1]])
    short = encoder.states(users, items, feedback)
    pad, zeros = torch.full((2, 3), -1), torch.zeros(2, 3, dtype=torch.long)
    padded = encoder.states(users, torch.cat([items, pad], 1), torch.cat([feedback, zeros], 1))
    close(padded[:, :4], short)
    for j in range(3):
        other, turned = items.clone(), feedback.clone()
        other[:, j:], turned[:, j:] = 9, 1 - turned[:, j:]
        changed = encoder.states(users, other, turned)
        close(changed[:, : j + 1], short[:, : j + 1])
        if j < 2:  # the world can tell: what comes later does change an unknown user's later states
            same = torch.allclose(changed[1, -1], short[1, -1], atol=1e-4)
            assert same == (encoder.config["kind"] in IDS_ONLY)


def test_states_agree_with_encode(encoder):
    read = (WORLD.liked() if encoder.likes_only else WORLD).last(LENGTH)
    vectors = encoder.encode(WORLD)
    for b in range(len(WORLD)):
        row = read.take(np.array([b]))
        items = row.padded(np.where(row.items < 0, N_ITEMS, row.items), -1)
        labels = row.padded(row.labels.astype(np.int64), 0)
        grids = torch.from_numpy(items), torch.from_numpy(labels)
        states = encoder.states(torch.from_numpy(row.users), *grids)
        close(states[0, len(row.items)], vectors[b])


def test_only_the_newest_entries_count(encoder):
    full = histories([list(range(N_ITEMS))], [-1])
    tail = histories([list(range(N_ITEMS - LENGTH, N_ITEMS))], [-1])
    close(encoder.encode(full), encoder.encode(tail))


def test_dislikes_are_invisible_exactly_where_only_likes_are_read(encoder):
    both = histories([[0, 1, 2]], [-1], [[1, 0, 1]])
    likes = histories([[0, 2]], [-1])
    same = torch.allclose(encoder.encode(both), encoder.encode(likes), atol=1e-4)
    assert same == (encoder.likes_only or encoder.config["kind"] in {"mf", *IDS_ONLY})


def test_an_empty_history_and_an_empty_batch_are_answered(encoder):
    assert torch.isfinite(encoder.encode(histories([[]], [-1]))).all()
    nobody = WORLD.take(np.array([], dtype=np.int64))
    assert encoder.encode(nobody).shape == (0, 8)
    assert encoder.logits(nobody, np.zeros((0, 3), dtype=np.int64)).shape == (0, 3)
    user, item, logits = encoder.pair(nobody, np.zeros(0, dtype=np.int64))
    assert (user.shape, item.shape, logits.shape) == ((0, 8), (0, 8), (0,))


def test_an_unseen_item_is_the_mean_of_the_seen_ones_everywhere(encoder):
    seen = encoder.seen_items
    mean = encoder.item_table[seen].mean(0)
    unseen = torch.tensor([3, 7, -1, N_ITEMS, 10**6])
    close(encoder.item_vectors(unseen), mean.expand(5, -1))
    close(encoder.item_vectors(torch.tensor([[2]]))[0, 0], encoder.item_table[2])
    scores = encoder.logits(histories([[1]], [0]), np.array([[3, 7, -1, N_ITEMS]]))[0]
    close(scores, scores[0].expand(4))
    by_hand = encoder.encode(histories([[1]], [0]))[0] @ mean + encoder.item_bias[seen].mean()
    if encoder.config["kind"] in IDS_ONLY:
        by_hand = encoder.item_bias[seen].mean()
    close(scores[0], by_hand + encoder.user_bias[0])
    read = [encoder.encode(histories([[1, i, 2]], [-1])) for i in (3, -1, N_ITEMS)]
    close(read[0], read[1])
    close(read[0], read[2])


def test_the_mean_is_not_stale_after_training_or_loading(encoder):
    before = encoder.item_vectors(torch.tensor([3])).clone()
    with torch.no_grad():
        encoder.item_table += 1.0
    close(encoder.item_vectors(torch.tensor([3])), before + 1.0)
    other = build_encoder(**encoder.config)
    load_checked(other, encoder.state_dict(), encoder.config)
    close(other.item_vectors(torch.tensor([3])), before + 1.0)


def test_an_unknown_user_has_no_bias(encoder):
    for user in (-1, N_USERS, 10**6):
        with_bias = encoder.logits(histories([[1]], [user]), np.array([[2]]))
        vector = encoder.encode(histories([[1]], [user]))[0]
        by_hand = vector @ encoder.item_table[2] + encoder.item_bias[2]
        close(with_bias[0, 0], by_hand)


def test_pair_and_the_whole_catalogue_agree_with_logits(encoder):
    targets = CANDIDATES[:, 0]
    user_BD, item_BD, logits_B = encoder.pair(WORLD, targets)
    close(user_BD, encoder.encode(WORLD))
    close(item_BD, encoder.item_vectors(torch.from_numpy(targets)))
    close(logits_B, encoder.logits(WORLD, targets[:, None])[:, 0])
    every = encoder.logits(WORLD)
    assert every.shape == (len(WORLD), N_ITEMS)
    picked = every[torch.arange(len(WORLD)), torch.from_numpy(targets)]
    close(picked, logits_B)


def test_window_logits_agree_with_logits(encoder):
    items = np.array([[1, 2, 4, 0], [5, 6, -1, -1]])
    feedback = np.ones_like(items)
    users = np.array([0, -1])
    window, state = np.array([0, 0, 0, 1, 1]), np.array([0, 2, 4, 1, 2])
    target = np.array([4, 0, 3, 9, 11])
    asked = histories(
        [items[w, :s].tolist() for w, s in zip(window, state, strict=True)], users[window].tolist()
    )
    of = (users, items, feedback, window, state)
    one = encoder.window_logits(WindowQueries(*of), target)
    close(one, encoder.logits(asked, target[:, None])[:, 0])
    several = np.stack([target, target[::-1]], axis=1)
    grid = encoder.window_logits(WindowQueries(*of), several)
    close(grid, encoder.logits(asked, several))
    every = encoder.window_logits(WindowQueries(*of), None)
    close(every, encoder.logits(asked))


def test_window_softmax_is_the_softmax_of_the_window_logits_among_seen_items(encoder):
    items = np.array([[1, 2, 4, 0], [5, 6, -1, -1]])
    of = (np.array([0, -1]), items, np.ones_like(items), np.array([0, 0, 1]), np.array([0, 3, 2]))
    target = torch.tensor([4, 0, 9])
    encoder.eval()
    plain = losses.full_softmax(
        encoder.window_logits(WindowQueries(*of), None), target, encoder.seen_items
    ).sum()
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(plain, parameters, allow_unused=True)
    fused = encoder.window_softmax(WindowQueries(*of), target)
    got = torch.autograd.grad(fused, parameters, allow_unused=True)
    close(fused, plain)
    for parameter, a, b in zip(parameters, got, wanted, strict=True):
        zero = torch.zeros_like(parameter)
        a, b = zero if a is None else a, zero if b is None else b
        close(a, b, rtol=1e-4)


def test_evaluation_is_deterministic_and_dropout_lives_in_training_only(encoder):
    close(encoder.encode(WORLD), encoder.encode(WORLD))
    encoder.train()
    assert not torch.equal(encoder.encode(WORLD), encoder.encode(WORLD))
    scorer = EncoderScorer("x", encoder)
    first = scorer.score(WORLD, CANDIDATES)
    np.testing.assert_allclose(scorer.score(WORLD, CANDIDATES), first, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator(encoder):
    config = encoder.config
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a, b, c = build_encoder(**config), build_encoder(**config), build_encoder(**config, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a.item_table, b.item_table)
    assert not torch.equal(a.item_table, c.item_table)


def test_the_config_is_json_and_rebuilds_the_same_scores(encoder):
    config = json.loads(json.dumps(encoder.config))
    assert config == encoder.config
    other = build_encoder(**config)
    load_checked(other, encoder.state_dict(), config)
    assert torch.equal(other.seen_items, encoder.seen_items)
    close(other.eval().logits(WORLD, CANDIDATES), encoder.logits(WORLD, CANDIDATES))


def test_gradient_reaches_every_parameter(encoder):
    encoder.train()
    users, items = np.array([0, 1, -1]), np.array([[1, 2, 4], [5, 6, 3], [0, 1, 8]])
    feedback = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1]])
    window, state = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)
    logits = encoder.window_logits(WindowQueries(users, items, feedback, window, state), np.arange(12))
    (logits * torch.arange(1, 13)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.integers(-1, N_ITEMS + 1), max_size=LENGTH + 3), min_size=1, max_size=5),
    st.integers(-1, N_USERS),
    st.sampled_from(CASES),
)
def test_any_history_scores_alone_as_in_company(rows, user, case):
    encoder = make(*case)
    labels = [[(i + k) % 2 for k, i in enumerate(row)] for row in rows]
    batch = histories(rows, [user] * len(rows), labels)
    candidates = np.tile(np.arange(-1, N_ITEMS + 1), (len(rows), 1))
    scores = EncoderScorer("x", encoder).score(batch, candidates)
    alone = EncoderScorer("x", encoder).score(batch.take(np.array([0])), candidates[:1])
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(alone[0], scores[0], atol=1e-5, rtol=1e-5)
