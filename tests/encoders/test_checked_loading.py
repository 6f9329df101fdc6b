from __future__ import annotations

import pytest
import torch

from sasrecllm.encoders.checked_loading import load_checked, without_users
from sasrecllm.encoders.table import build_encoder
from sasrecllm.errors import CheckpointError

SETTINGS = {"kind": "sasrec", "n_items": 6, "n_users": 2, "width": 8, "heads": 2, "length": 4}


@pytest.mark.parametrize(
    ("key", "theirs"),
    [
        ("heads", 4),  # the shapes agree, the scores would not
        ("length", 5),
        ("width", 16),
        ("n_items", 7),
        ("n_users", 3),
        ("blocks", 1),
        ("kind", "gru4rec"),
        ("likes_only", False),
        ("item_bias", False),
    ],
)
def test_another_setting_is_refused_with_both_values(key, theirs):
    mine = build_encoder(**SETTINGS)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    other = build_encoder(**(SETTINGS | {key: theirs}), seed=1)
    with pytest.raises(CheckpointError) as refusal:
        load_checked(mine, other.state_dict(), other.config)
    if key != "kind":
        assert key in refusal.value.what
        assert repr(theirs) in refusal.value.what and repr(mine.config[key]) in refusal.value.what
    assert all(torch.equal(before[name], t) for name, t in mine.state_dict().items())


def test_missing_unexpected_and_misshapen_tensors_are_refused():
    mine = build_encoder(**SETTINGS)
    state = mine.state_dict()
    without = {k: v for k, v in state.items() if k != "norm.weight"}
    with pytest.raises(CheckpointError, match=r"lacks \['norm\.weight'\]"):
        load_checked(mine, without, mine.config)
    with pytest.raises(CheckpointError, match="unexpected \\['more'\\]"):
        load_checked(mine, state | {"more": torch.zeros(1)}, mine.config)
    with pytest.raises(CheckpointError, match="\\(3,\\)"):
        load_checked(mine, state | {"norm.weight": torch.zeros(3)}, mine.config)
    with pytest.raises(CheckpointError, match="float16"):
        load_checked(mine, state | {"norm.weight": torch.zeros(8).half()}, mine.config)


def test_a_missing_setting_is_refused():
    mine = build_encoder(**SETTINGS)
    config = {k: v for k, v in mine.config.items() if k != "heads"}
    with pytest.raises(CheckpointError, match="heads = None"):
        load_checked(mine, mine.state_dict(), config)


def test_another_dropout_is_welcome():
    mine, other = build_encoder(**SETTINGS), build_encoder(**SETTINGS, dropout=0.5, seed=1)
    load_checked(mine, other.state_dict(), other.config)
    assert torch.equal(mine.item_table, other.item_table)


@pytest.mark.parametrize("kind", ["mf", "ncf"])
def test_without_a_user_nothing_of_him_alone_is_left_and_all_else_stays(kind):
    encoder = build_encoder(kind, n_items=6, n_users=3, width=8, user_bias=True, seed=1)
    for name, tensor in encoder.state_dict().items():
        if "user" in name:
            tensor.copy_(torch.full_like(tensor, 2.0))
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    left = without_users(state, encoder.config, [1])
    assert left is not None and left.keys() == state.keys()
    own = {name for name in state if "user" in name}
    assert {"user_table", "user_bias"} <= own
    for name, tensor in left.items():
        if name in own:
            assert not tensor[1].any() and torch.equal(tensor[[0, 2]], state[name][[0, 2]])
            assert state[name][1].any()  # what was given is not changed
        else:
            assert torch.equal(tensor, state[name])
    load_checked(
        build_encoder(kind, n_items=6, n_users=3, width=8, user_bias=True), left, encoder.config
    )


def test_an_encoder_that_knows_nobody_by_name_has_nothing_to_forget():
    encoder = build_encoder(**SETTINGS)
    assert without_users(encoder.state_dict(), encoder.config, [0]) is None
