from __future__ import annotations

import math

import pytest
import torch

from sasrecllm.encoders import losses
from sasrecllm.encoders.next_item_negatives import uniform_negatives


def test_bce_is_minus_the_log_probability_of_the_label():
    logits, labels = torch.tensor([2.0, 2.0, -1.0]), torch.tensor([1, 0, 1])
    chance = torch.sigmoid(logits)
    wanted = -torch.log(torch.where(labels == 1, chance, 1 - chance))
    torch.testing.assert_close(losses.bce(logits, labels), wanted)


def test_full_softmax_by_hand_and_among_some_items_only():
    logits, targets = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([1])
    wanted = -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(0.5)))
    assert losses.full_softmax(logits, targets).item() == pytest.approx(wanted, abs=1e-6)
    among = torch.tensor([True, True, False])
    wanted = -math.log(math.exp(2) / (math.exp(1) + math.exp(2)))
    assert losses.full_softmax(logits, targets, among).item() == pytest.approx(wanted, abs=1e-6)


def test_sampling_every_other_item_once_is_the_full_softmax():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    full = losses.full_softmax(logits, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(losses.sampled_softmax(logits[:, 0], logits[:, 1:]), full)
    even = torch.full((4, 5), -math.log(5))
    corrected = losses.sampled_softmax(logits[:, 0], logits[:, 1:], log_q_QN=even)
    torch.testing.assert_close(corrected, full)


def test_the_corrected_loss_tends_to_the_full_softmax():
    generator = torch.Generator().manual_seed(0)
    logits_I = torch.randn(30, generator=generator)
    targets = torch.arange(30)
    drawn = uniform_negatives(targets, 20_000, torch.arange(30), generator)
    sampled = losses.sampled_softmax(logits_I, logits_I[drawn.items_QN], log_q_QN=drawn.log_q_QN)
    full = losses.full_softmax(logits_I.expand(30, -1), targets)
    torch.testing.assert_close(sampled, full, atol=0.03, rtol=0)
    uncorrected = losses.sampled_softmax(logits_I, logits_I[drawn.items_QN])
    assert (uncorrected - full).abs().min() > 1  # the correction is what makes them equal


def test_a_negative_that_is_the_positive_is_left_out():
    positive, negatives = torch.tensor([1.0]), torch.tensor([[1.0, 0.0]])
    masked = losses.sampled_softmax(positive, negatives, collides_QN=torch.tensor([[True, False]]))
    torch.testing.assert_close(masked, losses.sampled_softmax(positive, negatives[:, 1:]))


def test_gbce_is_bce_without_calibration_and_the_sampling_rate_with_all_of_it():
    positive, negatives = torch.tensor([0.3, -2.0]), torch.tensor([[0.1, -1.0], [0.7, 2.0]])
    rest = losses.bce(negatives, torch.zeros(2, 2)).sum(1)
    own = losses.bce(positive, torch.ones(2))
    plain = losses.gbce(positive, negatives, n_items=11, t=0.0)
    torch.testing.assert_close(plain, (own + rest) / 3)
    full = losses.gbce(positive, negatives, n_items=11, t=1.0)
    torch.testing.assert_close(full, (0.2 * own + rest) / 3)
    # t = .75, a = .2: beta = .2 (.75 (1 - 5) + 5) = .4
    torch.testing.assert_close(losses.gbce(positive, negatives, n_items=11), (0.4 * own + rest) / 3)


def test_no_common_shift_lowers_gbce_at_its_rest():
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    logits = torch.full((3, 9), losses.gbce_rest(8, 101), dtype=torch.float64) + shift
    losses.gbce(logits[:, 0], logits[:, 1:], n_items=101).sum().backward()
    torch.testing.assert_close(shift.grad, torch.zeros((), dtype=torch.float64))


def test_fully_calibrated_gbce_finds_the_probability_that_sampling_hides():
    """The minimum over one logit: p clicks with probability .3, drawn as a negative at rate a."""
    chance, n_items, count = 0.3, 101, 10
    rate = count / (n_items - 1)
    logit = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        nothing = torch.full((1, count), -1e4)
        as_positive = losses.gbce(logit, nothing, n_items=n_items, t=1.0)
        negatives = torch.cat([logit[None], torch.full((1, count - 1), -1e4)], dim=1)
        as_negative = losses.gbce(torch.full((1,), 1e4), negatives, n_items=n_items, t=1.0)
        value = (chance * as_positive + (1 - chance) * rate * as_negative).sum()
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.sigmoid(logit).item() == pytest.approx(chance, abs=1e-3)


def test_losses_stay_finite_at_extreme_logits():
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    negatives = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    values = [
        losses.bce(far, torch.tensor([0, 1])),
        losses.sampled_softmax(far, negatives),
        losses.gbce(far, negatives, n_items=10),
    ]
    torch.stack(values).sum().backward()
    assert torch.isfinite(torch.stack(values)).all() and torch.isfinite(far.grad).all()
