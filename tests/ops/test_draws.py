"""Random numbers of a shared batch: each process has those that one process would have there."""

import numpy as np
import pytest
import torch

from sasrecllm.ops.adapted_linear import adapted_linear
from sasrecllm.ops.attention import causal_attention, dropout
from sasrecllm.ops.draws import RowDropout, Rows, drawn, of_rows, share, shared


def seeded(make):
    torch.manual_seed(3)
    return make()


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 5, 2), (21, 5, 5)])
def test_the_rows_of_all_processes_are_those_of_one(shape):
    whole = seeded(lambda: drawn(shape, torch.rand))
    each = shape[0] // 7
    for mine in (np.arange(0, 7, 2), np.arange(1, 7, 2), np.array([4])):
        with of_rows(Rows(7, mine)):
            got = seeded(lambda m=mine: drawn((len(m) * each, *shape[1:]), torch.rand))
        assert torch.equal(got, whole.view(7, each, *shape[1:])[mine].reshape(got.shape))


def test_what_is_for_all_rows_alike_is_drawn_alike():
    with of_rows(Rows(7, np.array([1, 3, 5]))):
        assert torch.equal(seeded(lambda: drawn((1, 4), torch.rand)), seeded(lambda: torch.rand(1, 4)))


@pytest.mark.parametrize("layer", [RowDropout(0.4), lambda x: dropout(x, 0.4, True)])
def test_dropout_takes_away_what_one_process_would(layer):
    values, mine = torch.randn(9, 4, 6), np.array([1, 4, 8])
    whole = seeded(lambda: layer(values))
    assert (whole == 0).any()
    with of_rows(Rows(9, mine)):
        assert torch.equal(seeded(lambda: layer(values[mine])), whole[mine])


def test_a_low_rank_update_drops_what_one_process_would_forward_and_back():
    torch.manual_seed(0)
    weight, down, up = torch.randn(5, 6), torch.randn(2, 6), torch.randn(5, 2, requires_grad=True)

    def learnt(values):
        values = values.clone().requires_grad_()
        out = adapted_linear(values, weight, None, down, up, 2.0, 0.4)
        return out.detach(), torch.autograd.grad(out.sum(), values)[0]

    values, mine = torch.randn(9, 4, 6), np.array([1, 4, 8])
    whole = seeded(lambda: learnt(values))
    with of_rows(Rows(9, mine)):
        got = seeded(lambda: learnt(values[mine]))
    for part, all_rows in zip(got, whole, strict=True):
        torch.testing.assert_close(part, all_rows[mine])  # another size may take another kernel


def test_attention_takes_away_what_one_process_would():
    packed, mine = torch.randn(9, 4, 3, 2, 5), np.array([0, 7])
    whole = seeded(lambda: causal_attention(packed, 0.4, True))
    with of_rows(Rows(9, mine)):
        got = seeded(lambda: causal_attention(packed[mine], 0.4, True))
    torch.testing.assert_close(got, whole[mine])  # another size of batch may take another kernel


def test_nothing_is_dropped_in_evaluation():
    layer = RowDropout(0.4).eval()
    with of_rows(Rows(9, np.array([2]))):
        assert torch.equal(layer(torch.ones(1, 5)), torch.ones(1, 5))


def test_a_share_ends_with_its_block():
    with shared(np.arange(4), np.array([1])):
        assert share().mine.tolist() == [1]
    assert share() is None
