"""The low-rank update in one step against the same by single operations."""

import math

import pytest
import torch
import torch.nn.functional as F

from sasrecllm.ops.adapted_linear import adapted_linear

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""As a share of the largest entry: rounding of sums of some dozen products, 2⁻²⁴ or 2⁻⁹ each."""


def made(dtype=torch.float32, rows=(5, 7), inputs=24, outputs=16, rank=3):
    torch.manual_seed(0)
    values = torch.randn(*rows, inputs).to(dtype).requires_grad_()
    weight, bias = torch.randn(outputs, inputs).to(dtype), torch.randn(outputs).to(dtype)
    down, up = (torch.randn(*s, requires_grad=True) for s in ((rank, inputs), (outputs, rank)))
    return values, weight, bias, down, up


def gradients(out, *leaves):
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    return torch.autograd.grad((out.float() * weights).sum(), leaves)


def assert_near(got, wanted, dtype):
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        gap = (mine.float() - theirs.float()).abs().max()
        assert gap <= CLOSE[dtype] * theirs.float().abs().max()


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("with_bias", [True, False])
def test_output_and_gradients_are_those_of_the_single_operations(dtype, with_bias):
    values, weight, bias, down, up = made(dtype)
    bias = bias if with_bias else None
    plain = F.linear(values.float(), weight.float(), None if bias is None else bias.float())
    plain = (plain + 2.0 * values.float() @ down.T @ up.T).to(dtype)
    mine = adapted_linear(values, weight, bias, down, up, 2.0)
    assert_near([mine], [plain], dtype)
    leaves = (values, down, up)
    assert_near(gradients(mine, *leaves), gradients(plain, *leaves), dtype)


def test_dropout_takes_the_same_entries_forward_and_back():
    values, weight, _, down, up = made(inputs=400)
    torch.manual_seed(3)
    mine = adapted_linear(values, weight, None, down, up, 2.0, 0.3)
    torch.manual_seed(3)
    # With nothing but the update, and an identity before it, the output is the dropped input itself.
    eye = torch.eye(400)
    read = adapted_linear(values, torch.zeros(400, 400), None, eye, eye, 1.0, 0.3).detach()
    mask = (read != 0).float()
    torch.testing.assert_close(read, values.detach() * mask / 0.7)
    plain = F.linear(values, weight) + 2.0 * (values * mask / 0.7) @ down.T @ up.T
    assert_near([mine], [plain], torch.float32)
    leaves = (values, down, up)
    assert_near(gradients(mine, *leaves), gradients(plain, *leaves), torch.float32)


@pytest.mark.parametrize("p", [0.02, 0.05, 0.5, 0.9])
def test_the_share_dropped_is_the_one_asked_for(p):
    torch.manual_seed(0)
    count = 40_000
    one = torch.ones(1, 1)
    ones = torch.ones(count, 1)
    out = adapted_linear(ones, torch.zeros(1, 1), None, one, one, 1.0, p)
    kept = out[out != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)))
    deviation = math.sqrt(p * (1 - p) / count)
    assert abs(float((out == 0).float().mean()) - p) < 6 * deviation


def test_one_seed_drops_the_same_and_the_next_call_others():
    values, weight, _, down, up = made(inputs=400)
    torch.manual_seed(3)
    first, second = (adapted_linear(values, weight, None, down, up, 1.0, 0.5) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(adapted_linear(values, weight, None, down, up, 1.0, 0.5), first)
    assert not torch.equal(first, second)


def test_a_frozen_update_passes_the_gradient_on_and_keeps_no_input():
    values, weight, bias, down, up = made()
    down, up = down.detach(), up.detach()
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.shape) or t, lambda t: t):
        mine = adapted_linear(values, weight, bias, down, up, 2.0)
    assert set(held) == {weight.shape, down.shape, up.shape}
    plain = F.linear(values, weight, bias) + 2.0 * values @ down.T @ up.T
    assert_near(gradients(mine, values), gradients(plain, values), torch.float32)
