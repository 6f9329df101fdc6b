"""Moving the touched rows alone: torch's AdamW where every row is touched, and nothing else moves."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sasrecllm.errors import ConfigError
from sasrecllm.ops.sparse_adamw import RowAdamW, clip_gradients
from sasrecllm.training.pretrain import LARGE_CATALOGUE, moves_touched_rows

# Ours adds the gradients of a row that stands twice, and the squares of the norm, in another order than
# torch: single precision (1e-7) times the number of terms.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
OPTIONS = {"lr": 0.05, "weight_decay": 0.1, "fused": True}


def pair():
    """The same table and vector twice."""
    torch.manual_seed(0)
    table, vector = torch.randn(6, 3), torch.randn(3)
    return [[nn.Parameter(table.clone()), nn.Parameter(vector.clone())] for _ in range(2)]


def loss(table, vector, rows, *, sparse):
    return ((F.embedding(rows, table, sparse=sparse) - 1) @ vector).square().sum()


def test_it_is_adamw_where_every_row_is_touched():
    ours, theirs = pair()
    mine, torchs = RowAdamW(ours, **OPTIONS), torch.optim.AdamW(theirs, **OPTIONS)
    for step in range(5):
        rows = torch.randperm(6, generator=torch.Generator().manual_seed(step)).repeat(2)
        for (table, vector), optimizer, sparse in ((ours, mine, True), (theirs, torchs, False)):
            optimizer.zero_grad()
            loss(table, vector, rows, sparse=sparse).backward()
            assert table.grad.is_sparse is sparse
            clip_gradients([table, vector], 0.5)
            optimizer.step()
        assert ours[0].grad.is_sparse  # it is there after the step, as every other is
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for a, b in zip(mine.state.values(), torchs.state.values(), strict=True):
        torch.testing.assert_close(dict(a), dict(b), **CLOSE)


def test_rows_that_are_not_touched_stand_still_with_their_moments():
    (table, vector), _ = pair()
    optimizer = RowAdamW([table, vector], **OPTIONS)
    loss(table, vector, torch.arange(6), sparse=True).backward()
    optimizer.step()
    before = {"table": table.detach().clone()} | {
        k: v.clone() for k, v in optimizer.state[table].items()
    }
    optimizer.zero_grad()
    loss(table, vector, torch.tensor([4, 1, 4]), sparse=True).backward()
    optimizer.step()
    after = {"table": table} | dict(optimizer.state[table])
    touched, others = torch.tensor([1, 4]), torch.tensor([0, 2, 3, 5])
    for name in ("table", "exp_avg", "exp_avg_sq"):
        assert torch.equal(after[name][others], before[name][others])
        assert (after[name][touched] != before[name][touched]).all()
    assert int(after["step"]) == 2


@settings(max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.floats(0.001, 100))
def test_clipping_is_torchs(rows, largest):
    ours, theirs = pair()
    for (table, vector), sparse in ((ours, True), (theirs, False)):
        loss(table, vector, torch.tensor(rows), sparse=sparse).backward()
    norm = clip_gradients(ours, largest)
    assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(theirs, largest)), rel=1e-5)
    torch.testing.assert_close(ours[0].grad.to_dense(), theirs[0].grad, **CLOSE)
    torch.testing.assert_close(ours[1].grad, theirs[1].grad, **CLOSE)


def test_clipping_dense_gradients_is_torchs():
    ours, theirs = pair()
    for table, vector in (ours, theirs):
        loss(table, vector, torch.arange(6), sparse=False).backward()
    norm = float(nn.utils.clip_grad_norm_(theirs, 0.5))
    assert clip_gradients(ours, 0.5) == pytest.approx(norm, rel=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)


@pytest.mark.parametrize(
    ("asked", "loss", "items", "expected"),
    [
        ("auto", "bce", LARGE_CATALOGUE, True),
        ("auto", "bce", LARGE_CATALOGUE - 1, False),
        ("auto", "softmax", LARGE_CATALOGUE, False),
        ("touched", "gbce", 3, True),
        ("all", "bce", LARGE_CATALOGUE, False),
    ],
)
def test_large_catalogues_move_touched_rows(asked, loss, items, expected):
    assert moves_touched_rows(asked, loss, items) is expected


def test_several_processes_move_all_rows(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not moves_touched_rows("auto", "bce", LARGE_CATALOGUE)
    with pytest.raises(ConfigError, match=r"encoder\.item_updates is touched"):
        moves_touched_rows("touched", "bce", 3)
