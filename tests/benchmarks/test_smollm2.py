"""Rows of the SmolLM2 study side by side: what waits for what, and whose settings a soft row takes."""

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.smollm2 import Runner, memory, weights, with_encoder
from sasrecllm.machine.progress import Progress
from sasrecllm.studies.plan import Cell, load_plan, settings_of
from sasrecllm.studies.run import Study

FILE = Path(__file__).parents[2] / "configs/studies/smollm2.yaml"


@pytest.fixture
def plan():
    return load_plan(FILE)


def settings(plan, row):
    return settings_of(plan, Cell("ml-1m", row, 0), FILE.parent, Path("out"))


def test_an_encoder_that_is_brought_is_loaded_and_none_is_trained(plan):
    with_encoder(plan, Path("/brought/encoder"))
    for row in (r for r in plan.rows if r.startswith("soft tokens")):
        stages = settings(plan, row).strategy
        assert {s["task"] for s in stages} == {"answer"}
        assert stages[0]["load"]["encoder"] == "/brought/encoder"


def test_what_is_known_by_heart_is_told_of_the_words_the_encoder_and_the_cross_fitted_ones(run):
    found = memory(run, 300)
    assert found["stage"] == "text"
    for part in ("taught", "valid"):
        assert 0 <= found[part]["words"] <= 1 and 0 <= found[part]["encoder"] <= 1
    assert found["taught"]["encoder, cross-fitted"] != found["taught"]["encoder"]
    assert "weights of words and encoder, cross-fitted" in found["taught"]


def test_rows_wait_for_those_that_they_load_parts_of(plan, tmp_path):
    runner = Runner(Study(plan, FILE, tmp_path, Progress(quiet=True)), 2, time.monotonic() + 1e6)
    assert runner.needed("soft tokens") == runner.needed("zero-shot") == set()
    assert runner.needed("soft tokens, dual-stage") == {"text only", "soft tokens"}


def test_weights_tell_which_of_two_scores_knows_the_label():
    rng = np.random.default_rng(0)
    knows, noise = rng.normal(size=(2, 4000))
    labels = (rng.random(4000) < 1 / (1 + np.exp(-knows))).astype(int)
    first, second = weights(knows, noise, labels)
    assert first > 0.8 and abs(second) < 0.15
