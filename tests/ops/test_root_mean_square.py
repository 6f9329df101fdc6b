"""RMSNorm in one step against its definition."""

import pytest
import torch

from sasrecllm.ops.root_mean_square import rms_norm

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""As a share of the largest entry: rounding by 2⁻²⁴ and 2⁻⁹, at each of some steps."""


@pytest.mark.parametrize("dtype", CLOSE)
def test_output_and_gradient_are_those_of_the_definition(dtype):
    torch.manual_seed(0)
    values = (3 * torch.randn(4, 5, 24)).to(dtype).requires_grad_()
    weight = torch.randn(24).to(dtype)
    size = (values.float().square().mean(-1, keepdim=True) + 0.1).sqrt()
    plain = values.float() / size * weight.float()
    mine = rms_norm(values, weight, 0.1)
    weights = torch.linspace(-1, 1, plain.numel()).view_as(plain)
    got = [mine, *torch.autograd.grad((mine.float() * weights).sum(), values)]
    wanted = [plain, *torch.autograd.grad((plain * weights).sum(), values)]
    assert mine.dtype == dtype
    for a, b in zip(got, wanted, strict=True):
        assert (a.float() - b.float()).abs().max() <= CLOSE[dtype] * b.float().abs().max()
