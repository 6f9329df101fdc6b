"""The softmax over the whole catalogue: the plain one's numbers, without its table."""

import importlib

import pytest
import torch

from sasrecllm.encoders import losses
from sasrecllm.ops.catalogue_softmax import catalogue_softmax

module = importlib.import_module("sasrecllm.ops.catalogue_softmax")


@pytest.mark.parametrize("at_once", [1, 7 * 3, 10**6])
def test_catalogue_softmax_is_the_full_softmax_with_its_gradients(monkeypatch, at_once):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    states = (3 * torch.randn(10, 4, generator=generator)).double().requires_grad_()
    items = torch.randn(7, 4, generator=generator).double().requires_grad_()
    targets = torch.randint(7, (10,), generator=generator)
    plain = losses.full_softmax(states @ items.T, targets).sum()
    wanted = torch.autograd.grad(2.5 * plain, [states, items])
    fused = catalogue_softmax(states, items, targets)
    torch.testing.assert_close(fused, plain)
    torch.testing.assert_close(torch.autograd.grad(2.5 * fused, [states, items]), wanted)


def test_catalogue_softmax_makes_no_table_of_all_logits(monkeypatch):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 40)
    made, inner = [], torch.Tensor.__matmul__

    def watched(self, other):
        made.append(inner(self, other))
        return made[-1]

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    catalogue_softmax(torch.randn(30, 4), torch.randn(20, 4), torch.zeros(30, dtype=torch.long))
    assert len(made) == 15 and max(m.numel() for m in made) <= 40
