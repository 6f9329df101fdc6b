"""The run's own encoder is taken for lists where it is what would be trained, and only there."""

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM, fit
from sasrecllm.checkpoint import read_json
from sasrecllm.runs.folder import RunFolder

QUICK = {
    "strategy": "encoder-only",
    "data.feedback": "implicit",
    "data.split": "leave-one-out",
    "fusion.enabled": False,
    "encoder.width": 8,
    "encoder.blocks": 1,
    "encoder.length": 6,
    "encoder.loss": "softmax",
    "encoder.loop.epochs": 1,
    "lists.channels": ["popularity", "next-item encoder"],
    "lists.next_item.loop.epochs": 1,
    "evaluation.resamples": 100,
    "evaluation.ranking.when": "never",
}


def trained(folder, **changes) -> tuple[SASRecLLM, dict]:
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{(start + step) % 20}", 10 * user + step)
        for user, start in enumerate(rng.integers(0, 20, 60))
        for step in range(6)
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(20)], "title": [f"T{i}" for i in range(20)]}
    )
    system = fit(log, items, out=folder, quiet=True, **(QUICK | changes))
    (stage,) = [s for s in RunFolder(folder).stage_folders() if s.path.name.endswith("next_item")]
    return system, read_json(stage.about, result=dict)["result"]


def test_an_encoder_that_learns_the_next_like_is_taken_as_it_is(tmp_path):
    system, result = trained(tmp_path / "run")
    assert result == {"taken_from": "encoder"}
    for own, taken in zip(
        system.parts.encoder.state_dict().items(),
        system.parts.next_item.state_dict().items(),
        strict=True,
    ):
        assert own[0] == taken[0]
        np.testing.assert_array_equal(own[1].numpy(), taken[1].numpy())
    assert "is taken as it is" in (tmp_path / "run" / "log.txt").read_text("utf-8")


@pytest.mark.parametrize(
    "change", [{"encoder.loss": "bce"}, {"encoder.item_bias": False}, {"encoder.likes_only": False}]
)
def test_any_other_is_trained_beside_it(tmp_path, change):
    system, result = trained(tmp_path / "run", **change)
    assert result["steps"] > 0
    assert system.parts.next_item.config["item_bias"] and system.parts.next_item.config["likes_only"]
