"""The tests' own ground: the same examples in each run, ten times as many to fuzz, no luck."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def ground(request):
    """The module conftest.py."""
    plugins = request.config.pluginmanager.get_plugins()
    here = str(Path(__file__).with_name("conftest.py"))
    return next(p for p in plugins if getattr(p, "__file__", None) == here)


def examples(ground, profile, **own):
    """What a property with these @settings is tried with under the profile."""
    drawn = []

    @settings(**own)
    @given(st.integers())
    def prop(n):
        drawn.append((n, float(torch.rand(()))))

    ground._as_profiled(prop, settings.get_profile(profile))
    prop()
    return drawn


def test_a_property_has_the_same_examples_in_each_run(ground):
    first = examples(ground, "test", max_examples=9, derandomize=False, deadline=1)
    assert len(first) == 9 and first == examples(ground, "test", max_examples=9)


def test_fuzzing_tries_ten_times_as_many_and_others_each_time(ground):
    first = examples(ground, "fuzz", max_examples=9, derandomize=True)
    assert len(first) == 90 and first != examples(ground, "fuzz", max_examples=9, derandomize=True)


@settings(max_examples=6)
@given(st.integers())
def test_the_properties_of_this_suite_are_profiled(n):
    pass


def test_no_property_minds_a_slow_machine(request):
    used = test_the_properties_of_this_suite_are_profiled._hypothesis_internal_use_settings
    fuzzed = request.config.getoption("--hypothesis-profile") == "fuzz"
    assert used.deadline is None and used.database is None and used.derandomize is not fuzzed
    assert "too_slow" in {check.name for check in used.suppress_health_check}
    assert used.max_examples == (60 if fuzzed else 6)


def numbers():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.fixture
def drawn():
    return numbers()


def test_random_numbers_are_the_same_in_each_run_of_a_test(request, ground, drawn):
    mine = numbers()
    ground._seed(request.node.nodeid)
    assert mine == numbers()
    ground._seed("drawn")
    assert drawn == numbers()


def test_the_files_can_be_run_in_reversed_order(ground):
    items = [SimpleNamespace(nodeid=f"{name}.py::{test}") for name in "abc" for test in (1, 2)]
    config = SimpleNamespace(getoption={"--hypothesis-profile": None, "--reversed": True}.get)
    ground.pytest_collection_modifyitems(config, items)
    assert [i.nodeid for i in items] == [f"{name}.py::{test}" for name in "cba" for test in (1, 2)]


def test_whole_runs_come_before_what_is_tested_room_by_room(ground):
    names = ("tests/llm/test_a.py", "tests/test_b.py", "tests/data/ingest/test_c.py", "tests/test_d.py")
    items = [SimpleNamespace(nodeid=f"{name}::{test}") for name in names for test in (1, 2)]
    config = SimpleNamespace(getoption={"--hypothesis-profile": None, "--reversed": False}.get)
    ground.pytest_collection_modifyitems(config, items)
    ordered = [names[1], names[3], names[0], names[2]]
    assert [i.nodeid for i in items] == [f"{name}::{test}" for name in ordered for test in (1, 2)]


def test_a_shared_folder_is_made_once_and_each_process_has_its_own_copy(ground, tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        folder.mkdir()
        (folder / "x").write_text("as made")

    first, second = (ground._once(tmp_path / "place", tmp_path / n, make) for n in ("a", "b"))
    (first / "x").write_text("changed")
    assert ground._once(tmp_path / "place", tmp_path / "a", make) == first and len(made) == 1
    assert (second / "x").read_text() == "as made"


def test_what_could_not_be_made_is_made_again(ground, tmp_path):
    def fail(folder):
        folder.mkdir()
        raise OSError

    with pytest.raises(OSError):
        ground._once(tmp_path / "place", tmp_path / "copy", fail)
    assert ground._once(tmp_path / "place", tmp_path / "copy", Path.mkdir).is_dir()


def test_the_command_line_in_this_process_says_what_it_says_in_its_own(cli, tmp_path):
    command = ("recommend", tmp_path, "--user", "u1")
    own = cli(*command, expect=5, process=True)
    assert cli(*command, expect=5) == own and "run.json is missing" in own
    assert sys.argv[0] != "sasrecllm"
