"""The next-item encoder's training: how long it waits, and when the run's own encoder is it already."""

from pathlib import Path

import pytest

from sasrecllm.config import load_config
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import open_run
from sasrecllm.runs.stored import stored_data
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Work
from sasrecllm.stages.next_item import STEPS_WAITED, with_patience
from sasrecllm.stages.plan import all_stages

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.mark.parametrize("examples", [1, 64, 450, 3_000, 100_000])
def test_it_waits_a_hundred_steps_however_short_a_pass_is(examples):
    steps = -(-examples // 64)
    waited = with_patience(3, examples, 64)
    assert waited >= 3 and waited * steps >= STEPS_WAITED
    assert waited == 3 or (waited - 1) * steps < STEPS_WAITED, "and not longer"


def test_no_early_stop_stays_none():
    assert with_patience(0, 10, 64) == 0


@pytest.fixture(scope="module")
def made_of(run, tmp_path_factory):
    """``made_of(*words)``: what the tiny run's next-item encoder would be made of."""
    folder = RunFolder(run)
    data = stored_data(folder)

    def made(*words):
        config = load_config(TINY, words)
        opened = open_run(tmp_path_factory.mktemp("made") / "run", config, "x", quiet=True)
        system = System.new(opened.folder, config, data, "cpu")
        work = Work(opened, data, system, all_stages(config))
        stage = work.stages["next_item"]
        return stage.kind.made_of(work, stage)

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
