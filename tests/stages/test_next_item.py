"""The run's own encoder is taken for lists where it is what would be trained, and only there.

What another one is made of decides whether a quick run's is kept.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sasrecllm import Config, SASRecLLM, fit
from sasrecllm.checkpoint import read_json
from sasrecllm.config import load_config
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import open_run
from sasrecllm.runs.stored import stored_data
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Work
from sasrecllm.stages.strategies import all_stages

TINY = Path(__file__).parents[1] / "tiny.yaml"
QUICK = {
    "strategy": "encoder-only",
    "data.feedback": "implicit",
    "data.split": "leave-one-out",
    "fusion.enabled": False,
    "encoder.width": 8,
    "encoder.blocks": 1,
    "encoder.length": 6,
    "encoder.loss": "softmax",
    "encoder.loop": Config().lists.next_item.loop.model_dump() | {"epochs": 1},
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
    "change",
    [
        {"encoder.loss": "bce"},
        {"encoder.item_bias": False},
        {"encoder.likes_only": False},
        {"encoder.loop.lr": 0.01},
    ],
)
def test_any_other_is_trained_beside_it(tmp_path, change):
    system, result = trained(tmp_path / "run", **change)
    assert result["steps"] > 0
    assert system.parts.next_item.config["item_bias"] and system.parts.next_item.config["likes_only"]


@pytest.fixture(scope="module")
def made_of(run, tmp_path_factory):
    """``made_of(*words)``: what the tiny run's next-item encoder would be made of."""
    folder = RunFolder(run)
    data = stored_data(folder)

    def made(*words, stage="next_item"):
        config = load_config(TINY, words)
        opened = open_run(tmp_path_factory.mktemp("made") / "run", config, "x", quiet=True)
        system = System.new(opened.folder, config, data, "cpu")
        work = Work(opened, data, system, all_stages(config))
        return work.stages[stage].kind.made_of(work, work.stages[stage])

    return made


def test_what_the_table_asks_changes_no_next_item_encoder(made_of):
    plain = made_of()
    assert plain is not None
    for words in (
        ("encoder.folds=0", "encoder.prior=titles", "encoder.loss=softmax"),
        ("strategy=encoder-only",),
        ("quick=true",),
        ("lists.next_item.seconds=5000",),  # the passes end first, either way
    ):
        assert made_of(*words) == plain, words


def test_another_encoder_training_or_seed_is_another(made_of):
    plain = made_of()
    for word in (
        "encoder.width=32",
        "encoder.dropout=0.4",
        "lists.next_item.seconds=0.0001",
        "lists.next_item.loop.lr=0.01",
        "lists.likes=30",
        "seed=3",
    ):
        assert made_of(word) != plain, word


def test_weights_of_lists_with_the_runs_own_row_among_them_are_the_runs_own(made_of):
    assert made_of(stage="lists") is None
    plain = made_of("lists.rerank=false", stage="lists")
    assert plain is not None and plain["next_item"] == made_of()
    assert made_of("lists.rerank=false", "quick=true", stage="lists") == plain
    assert made_of("lists.rerank=false", "lists.ridge=3", stage="lists") != plain
