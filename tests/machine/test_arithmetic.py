"""The number format that is faster is told by what the products took."""

import pytest
import torch

from sasrecllm.machine import arithmetic


@pytest.mark.parametrize(("half", "faster"), [(0.1, True), (0.6, True), (0.7, False), (2.0, False)])
def test_half_precision_is_chosen_where_its_products_take_much_less(monkeypatch, half, faster):
    """By a clock of our own: a product in half precision moves it by ``half``, another by 1."""
    now = [0.0]
    plain = torch.Tensor.__matmul__

    def product(a, b):
        now[0] += half if a.dtype == torch.bfloat16 else 1.0
        assert a.shape[1] == min(9, arithmetic.WIDEST) and b.shape == (9, 36)
        return plain(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    monkeypatch.setattr(arithmetic.time, "perf_counter", lambda: now[0])
    tried = arithmetic.bf16_is_faster.__wrapped__
    assert tried(9) is faster


def test_one_process_tries_once():
    arithmetic.bf16_is_faster.cache_clear()
    arithmetic.bf16_is_faster(8)
    arithmetic.bf16_is_faster(8)
    assert arithmetic.bf16_is_faster.cache_info().hits == 1
