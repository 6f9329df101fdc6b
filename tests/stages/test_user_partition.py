"""Words and soft tokens may be taught on users of their own (docs/protocol.md)."""

import numpy as np
import pytest

from sasrecllm.config import parse_config
from sasrecllm.data.ingest.sources import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.stages.strategies import planned
from sasrecllm.stages.user_partition import (
    answer_questions,
    choosing_questions,
    holdout_share,
    text_questions,
)

WORLD = known_world(users=120, items=120, rows=14, seed=1)
WORDS = {"item": "film", "items": "films", "consumed": "seen"}
DATA = prepare(Tables(WORLD.interactions, WORLD.items, "world", WORDS), split="given")
EVERYBODY = set(DATA.questions("train").histories.users)


class Partition:
    """A run's stages, and what each of them is taught on."""

    def __init__(self, share, strategy="hierarchical-freezing", seed=0):
        settings = {"strategy": strategy, "seed": seed, "mapper": {"llm_holdout_users": share}}
        config = parse_config(settings, "test")
        self.stages, self.seed = planned(config), seed
        self.share = holdout_share(config, self.stages)

    def text(self):
        return text_questions(DATA, self.share, self.seed)

    def of(self, stage):
        return answer_questions(DATA, self.stages[stage], self.share, self.seed)


def users(questions):
    return set(questions.histories.users)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_words_and_soft_tokens_meet_different_users_and_every_row_is_somebodys(share):
    made = Partition(share)
    text = users(made.text())
    for name in ("mapper", "soft"):
        asked = made.of(name)
        assert text.isdisjoint(users(asked)) and text | users(asked) == EVERYBODY
        assert len(users(asked)) == round(share * len(EVERYBODY))
        rows = np.concatenate([asked.rows, made.text().rows])
        assert sorted(rows) == sorted(DATA.questions("train").rows)
    assert users(made.of("text")) == text


def test_the_same_seed_keeps_the_same_users_and_a_larger_share_keeps_more_of_them():
    few, many = users(Partition(0.2).of("soft")), users(Partition(0.6).of("soft"))
    assert few < many
    assert users(Partition(0.2, seed=1).of("soft")) != few


@pytest.mark.parametrize("strategy", ["text-only", "dual-stage", "encoder-only"])
def test_nobody_is_kept_where_no_stage_would_read_them(strategy):
    """A live encoder has seen all users, so a stage that trains it gains nothing from fresh ones."""
    made = Partition(0.5, strategy)
    assert users(made.text()) == EVERYBODY
    for name, stage in made.stages.items():
        if stage.kind.asks_language_model:
            assert users(made.of(name)) == EVERYBODY


def test_a_share_of_the_validation_users_chooses_with_all_of_their_questions():
    valid = DATA.questions("valid")
    few, many = (choosing_questions(valid, share, 0) for share in (0.2, 0.6))
    everybody = users(valid)
    assert len(users(few)) == round(0.2 * len(everybody)) and users(few) < users(many)
    wanted = [row for row, u in zip(valid.rows, valid.histories.users, strict=True) if u in users(few)]
    assert list(few.rows) == wanted
    assert list(choosing_questions(valid, 1.0, 0).rows) == list(valid.rows)
    assert users(choosing_questions(valid, 0.2, 1)) != users(few)


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_share_still_has_both_answers(seed):
    chosen = choosing_questions(DATA.questions("valid"), 1e-9, seed)
    assert set(chosen.labels) == {0, 1}
    assert len(users(chosen)) < len(users(DATA.questions("valid"))) / 2
