"""Rows of the SmolLM2 study side by side: what waits for what, and whose settings a soft row takes."""

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.smollm2 import BEST, Runner, take_over, weights, with_encoder
from sasrecllm.machine.progress import Progress
from sasrecllm.studies.plan import Cell, load_plan, settings_of
from sasrecllm.studies.run import Study

FILE = Path(__file__).parents[2] / "configs/studies/smollm2.yaml"
WHOLE = "text only, all weights at 1e-4"


@pytest.fixture
def plan():
    return load_plan(FILE)


def settings(plan, row):
    return settings_of(plan, Cell("ml-1m", row, 0), FILE.parent, Path("out"))


def test_a_soft_row_takes_the_settings_and_the_adapter_of_the_best(plan):
    take_over(plan, "soft tokens on the users of the words", WHOLE)
    got = settings(plan, "soft tokens on the users of the words")
    assert got.llm.lora.r == 0 and got.llm.dtype == "fp32"
    assert got.strategy[0]["load"]["adapter"].endswith("text-only-all-weights-at-1e-4/seed-0")
    # Its own settings stay, and other rows are as they were.
    assert got.mapper.llm_holdout_users == 0 and settings(plan, "soft tokens").llm.lora.r == 16


def test_an_encoder_that_is_brought_is_loaded_and_none_is_trained(plan):
    with_encoder(plan, Path("/brought/encoder"))
    for row in (r for r in plan.rows if r.startswith("soft tokens")):
        stages = settings(plan, row).strategy
        assert {s["task"] for s in stages} == {"answer"}
        assert stages[0]["load"]["encoder"] == "/brought/encoder"


def test_rows_that_load_the_best_text_only_row_wait_for_all_until_it_is_time_to_choose(plan, tmp_path):
    study = Study(plan, FILE, tmp_path, Progress(quiet=True))
    runner = Runner(study, 2, time.monotonic() + 1e6, time.monotonic() + 1e6)
    texts = {row for row in plan.rows if row.startswith(BEST)}
    follows = "soft tokens, dual-stage"
    assert runner.needed("soft tokens") == runner.needed("zero-shot") == set()
    assert runner.needed(follows) == texts | {"soft tokens"}
    runner.failed.add(WHOLE)
    assert runner.needed(follows) == texts - {WHOLE} | {"soft tokens"}
    runner.choose = time.monotonic() - 1
    assert runner.needed(follows) == {BEST, "soft tokens"}


def test_weights_tell_which_of_two_scores_knows_the_label():
    rng = np.random.default_rng(0)
    knows, noise = rng.normal(size=(2, 4000))
    labels = (rng.random(4000) < 1 / (1 + np.exp(-knows))).astype(int)
    first, second = weights(knows, noise, labels)
    assert first > 0.8 and abs(second) < 0.15
