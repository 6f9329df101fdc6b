"""An update that is killed: the run before stays and is served, and the same command ends whole."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import read_json
from sasrecllm.runs.folder import RunFolder
from tests.conftest import ENVIRONMENT, SLOW
from tests.updates.test_update import digests

KILLED = """
import os, signal, sys

last = sys.argv[1]
for name in ("rename", "replace"):
    def moved(source, target, *, _move=getattr(os, name), **how):
        _move(source, target, **how)
        if os.fspath(target).endswith(last):
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, name, moved)

sys.argv = ["sasrecllm", *sys.argv[2:]]
from sasrecllm.cli import main
main()
"""
"""``sasrecllm`` that is killed in the very moment in which a file of this name stands."""


@pytest.fixture(scope="module")
def never_killed(old, new, cli):
    cli("update", old, new / "days.csv", "--items", new / "items.csv", "--quiet", "--promote", "never")
    return old.with_name("shop-2")


def test_an_update_that_is_killed_three_times_ends_as_if_it_had_not_been(
    old, new, never_killed, cli, tmp_path
):
    """After the first stage, after the results, and after the table that decides on promotion."""
    live = tmp_path / "live"
    live.symlink_to(old, target_is_directory=True)
    command = ["update", live, new / "days.csv", "--items", new / "items.csv", "--quiet"]
    command = [*map(str, command), "--promote", "always"]
    before, folder = digests(old), tmp_path / "shop-2"
    command += ["--out", str(folder)]
    for last in ("1-encoder/stage.json", "results.json", "update.json"):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, last, *command], env=ENVIRONMENT, timeout=SLOW
        )
        assert done.returncode == -signal.SIGKILL, last
        assert digests(old) == before, last
        assert live.resolve() == old.resolve(), last
        assert SASRecLLM.from_pretrained(live).recommend(user="u1", k=3), last
    trained = digests(folder / "stages")
    cli(*command)
    assert live.resolve() == folder.resolve() and digests(old) == before
    assert digests(folder / "stages") == trained, "what stood was trained again"
    systems = [SASRecLLM.from_pretrained(run) for run in (never_killed, folder)]
    data = systems[0].dataset
    assert data.digest == systems[1].dataset.digest
    test = data.questions("test")
    whole, resumed = (s.score(test.histories, test.targets[:, None]) for s in systems)
    # Other processes add up in another order.
    assert np.abs(whole - resumed).max() < 1e-4
    tables = [read_json(RunFolder(run).update)["metrics"]["auc"] for run in (never_killed, folder)]
    assert tables[1]["after"][0] == pytest.approx(tables[0]["after"][0], abs=1e-2)
    assert tables[1]["before"][0] == pytest.approx(tables[0]["before"][0], abs=1e-6)
