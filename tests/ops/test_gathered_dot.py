"""Products with chosen rows against the plain way, where few and where many rows fit at once."""

import pytest
import torch

from sasrecllm.ops import gathered_dot
from sasrecllm.ops.gathered_dot import chosen_products


def plain(states, table, items):
    return torch.einsum("qd,qcd->qc", states, table[items])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("at_once", [1, 30, 2**17])
def test_values_and_gradients_are_those_of_the_plain_way(monkeypatch, at_once, sparse):
    monkeypatch.setattr(gathered_dot, "NUMBERS_AT_ONCE", at_once)
    torch.manual_seed(0)
    states = torch.randn(7, 5, requires_grad=True)
    table = torch.randn(4, 5, requires_grad=True)
    items = torch.randint(0, 4, (7, 6))  # more candidates than rows: some stand twice
    wanted = torch.randn(7, 6)
    ours = chosen_products(states, table, items, sparse=sparse)
    theirs = plain(states, table, items)
    torch.testing.assert_close(ours, theirs)
    d_states, d_table = torch.autograd.grad((ours * wanted).sum(), (states, table))
    others = torch.autograd.grad((theirs * wanted).sum(), (states, table))
    assert d_table.is_sparse is sparse
    torch.testing.assert_close((d_states, d_table.to_dense()), others)


def test_a_frozen_table_and_frozen_states_get_no_gradient():
    states, table = torch.randn(3, 5), torch.randn(4, 5)
    items = torch.tensor([[0], [3], [3]])
    for learning in (states, table):
        learning.requires_grad_(True)
        chosen_products(states, table, items).sum().backward()
        assert learning.grad is not None
        learning.requires_grad_(False)
    assert not chosen_products(states, table, items).requires_grad


def test_no_question_and_no_candidate():
    states, table = torch.randn(0, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    empty = chosen_products(states, table, torch.zeros(0, 2, dtype=torch.int64))
    empty.sum().backward()
    assert empty.shape == (0, 2) and not table.grad.any()
    none = chosen_products(torch.randn(3, 5), table, torch.zeros(3, 0, dtype=torch.int64))
    assert none.shape == (3, 0)
