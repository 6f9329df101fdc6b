"""An update learns what is new and some old rows again, in steps that are in proportion to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sasrecllm.config import parse_config
from sasrecllm.data.former import HELD, LEARNT, NEW, Former
from sasrecllm.data.ingest.sources import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.sequences import windows
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.encoders.table import build_encoder
from sasrecllm.stages.list_budget import prompts_of
from sasrecllm.stages.replay import draw_towards, rows_to_learn, steps_of_update, windows_to_learn
from sasrecllm.stages.strategies import planned

WORLD = known_world(users=120, items=120, rows=14, seed=1)
WORDS = {"item": "film", "items": "films", "consumed": "seen"}
DATA = prepare(Tables(WORLD.interactions, WORLD.items, "world", WORDS), split="given")


@pytest.fixture
def later():
    """The same data as an update has it: the users of the last fifth are new, a few rows were held."""
    kinds = np.where(DATA.users >= 96, NEW, LEARNT).astype(np.int8)
    kinds[DATA.rows("train")[:10]] = HELD
    same = (np.arange(n) for n in (DATA.n_items, DATA.n_users))
    nobody = np.zeros(DATA.n_users, dtype=bool)
    former = Former(kinds, *same, np.zeros(DATA.n_users, dtype=np.int64), nobody, "")
    return replace(DATA, former=former)


@pytest.mark.parametrize("stretch", [1, 4])
def test_an_update_learns_all_that_is_new_and_as_much_again_of_what_is_old(later, stretch, monkeypatch):
    monkeypatch.setattr("sasrecllm.stages.replay.FEWEST_REPLAYED", 10)
    config = parse_config({"update": {"replay": 0.5}}, "test")
    train = DATA.rows("train")
    fresh = train[later.former.rows[train] != LEARNT]
    learnt = rows_to_learn(later, config, stretch)
    again = np.setdiff1d(learnt, fresh)
    assert np.isin(fresh, learnt).all() and (np.diff(learnt) > 0).all()
    assert len(again) == round(0.5 * len(fresh)) and np.isin(again, train).all()
    assert np.array_equal(learnt, rows_to_learn(later, config, stretch))
    other = rows_to_learn(later, parse_config({"update": {"replay": 0.5}, "seed": 1}, "test"), stretch)
    assert not np.array_equal(learnt, other)


def test_old_rows_of_a_user_are_drawn_together_so_that_they_share_a_window(later, monkeypatch):
    monkeypatch.setattr("sasrecllm.stages.replay.FEWEST_REPLAYED", 10)
    config = parse_config({"update": {"replay": 0.5}}, "test")
    cut = {
        stretch: len(
            windows(later, length=8, likes_only=False, rows=rows_to_learn(later, config, stretch))
        )
        for stretch in (1, 16)
    }
    of_new = rows_to_learn(later, parse_config({"update": {"replay": 0.0}}, "test"))
    new = len(windows(later, length=8, likes_only=False, rows=of_new))
    assert cut[16] - new < 0.5 * (cut[1] - new)


def test_an_encoder_is_asked_for_all_rows_of_the_windows_that_it_reads(later, monkeypatch):
    monkeypatch.setattr("sasrecllm.stages.replay.FEWEST_REPLAYED", 10)
    config = parse_config({"update": {"replay": 0.2}}, "test")
    encoder = build_encoder("sasrec", seed=0, n_items=DATA.n_items, length=8)
    train = DATA.rows("train")
    few = np.intersect1d(train[::2], rows_to_learn(later, config, stretch=16))
    cut = windows_to_learn(later, config, encoder, train[::2])
    assert len(cut) == len(windows(later, length=8, likes_only=True, rows=few))
    assert set(few) < set(cut.row) < set(train[::2])
    assert len(windows_to_learn(DATA, config, encoder, train).row) == len(train)


def test_weights_are_drawn_towards_fresh_ones_by_the_share_that_is_given():
    own, fresh = (build_encoder("sasrec", seed=seed, n_items=20) for seed in (0, 1))
    before = {name: p.detach().clone() for name, p in own.named_parameters()}
    draw_towards(own, fresh, 0.25)
    for (name, now), other in zip(own.named_parameters(), fresh.parameters(), strict=True):
        assert torch.allclose(now, 0.75 * before[name] + 0.25 * other)
        assert not now.equal(other) or before[name].equal(other)


def test_a_limit_on_steps_shrinks_with_the_rows_and_no_limit_stays_none(later, monkeypatch):
    """A budget's limit is for all rows: an update of a quarter of them may cost a quarter of it."""
    monkeypatch.setattr("sasrecllm.stages.replay.FEWEST_REPLAYED", 10)
    config = parse_config({"update": {"replay": 0.5}}, "test")
    share = len(rows_to_learn(later, config)) / len(DATA.rows("train"))
    assert 0.2 < share < 0.5
    assert steps_of_update(later, config, 1000) == pytest.approx(1000 * share, abs=1)
    assert steps_of_update(later, config, 1) == 1 and steps_of_update(later, config, 0) == 0


def test_prompts_of_an_update_are_those_of_its_steps(later, monkeypatch):
    monkeypatch.setattr("sasrecllm.stages.replay.FEWEST_REPLAYED", 10)
    given = {"strategy": "text-only", "update": {"replay": 0.5}, "llm": {"loop": {"batch_size": 16}}}
    config, open_end = (
        parse_config(given | {"llm": {"loop": {"batch_size": 16, "max_steps": steps}}}, "test")
        for steps in (20, 0)
    )
    few, all_of_them = (prompts_of(c, later, planned(c)) for c in (config, open_end))
    held_out = len(DATA.rows("valid")) + len(DATA.rows("test"))
    assert few - held_out == 3 * 16 * steps_of_update(later, config, 20) < all_of_them - held_out
