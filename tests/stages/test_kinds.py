"""The kinds of stages: one row each, and what a kind of one's own must be."""

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.runs.parts import part_of
from sasrecllm.settings import Config
from sasrecllm.stages.kind import Kind, Stage
from sasrecllm.stages.kinds import KINDS, kind_of


@pytest.mark.parametrize("name", KINDS)
def test_every_row_is_found_by_its_name_and_trains_parts_that_there_are(name):
    kind = KINDS[name]
    assert kind.name == name and kind_of(name, "a") is kind
    assert kind.may_train
    for parts in kind.may_train:
        for part in parts:
            part_of(part)


def test_a_typo_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'title_prior'"):
        kind_of("title-prior", "a")


def test_a_kind_that_does_not_say_what_it_may_train_may_train_any_part():
    stage = Stage("a", Kind(), ("mapper", "encoder"), prompt="soft")
    assert not stage.reads_crossfit, "it asks no language model"
    assert stage.kind.prompt(stage, {"a": stage}, Config()) is None
