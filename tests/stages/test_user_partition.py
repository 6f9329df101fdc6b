"""Words and soft tokens may be taught on users of their own (docs/protocol.md)."""

from pathlib import Path

import numpy as np
import pytest

from sasrecllm.config import parse_config
from sasrecllm.data.ingest.sources import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import Run
from sasrecllm.stages.user_partition import answer_questions, text_questions

WORLD = known_world(users=120, items=120, rows=14, seed=1)
WORDS = {"item": "film", "items": "films", "consumed": "seen"}
DATA = prepare(Tables(WORLD.interactions, WORLD.items, "world", WORDS), split="given")
EVERYBODY = set(DATA.questions("train").histories.users)


def run(share, strategy="hierarchical-freezing", seed=0):
    settings = {"strategy": strategy, "seed": seed, "mapper": {"llm_holdout_users": share}}
    return Run(Path("nowhere"), parse_config(settings, "test"), "test", Progress(quiet=True))


def users(questions):
    return set(questions.histories.users)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_words_and_soft_tokens_meet_different_users_and_every_row_is_somebodys(share):
    made = run(share)
    text = users(text_questions(made, DATA))
    for name in ("mapper", "soft"):
        asked = answer_questions(made, DATA, made.stages[name])
        assert text.isdisjoint(users(asked)) and text | users(asked) == EVERYBODY
        assert len(users(asked)) == round(share * len(EVERYBODY))
        rows = np.concatenate([asked.rows, text_questions(made, DATA).rows])
        assert sorted(rows) == sorted(DATA.questions("train").rows)
    assert users(answer_questions(made, DATA, made.stages["text"])) == text


def test_the_same_seed_keeps_the_same_users_and_a_larger_share_keeps_more_of_them():
    few, many = (users(answer_questions(r, DATA, r.stages["soft"])) for r in (run(0.2), run(0.6)))
    assert few < many
    other = run(0.2, seed=1)
    assert users(answer_questions(other, DATA, other.stages["soft"])) != few


@pytest.mark.parametrize("strategy", ["text-only", "dual-stage", "encoder-only"])
def test_nobody_is_kept_where_no_stage_would_read_them(strategy):
    """A live encoder has seen all users, so a stage that trains it gains nothing from fresh ones."""
    made = run(0.5, strategy)
    assert users(text_questions(made, DATA)) == EVERYBODY
    for stage in made.stages.values():
        if stage.task == "answer":
            assert users(answer_questions(made, DATA, stage)) == EVERYBODY
