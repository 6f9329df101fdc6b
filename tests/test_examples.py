"""What the README and the examples say works as it is written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sasrecllm.config import load_config
from sasrecllm.studies.plan import cells_of, load_plan, settings_of

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize("name", ["quickstart.py", "own_encoder.py", "own_data.py"])
def test_examples_run(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), str(tmp_path)],
        cwd=ROOT / "examples", env=ENVIRONMENT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


STUDIES = set((ROOT / "configs/studies").glob("*.yaml"))
RECIPES = set((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", sorted(RECIPES - STUDIES), ids=lambda p: p.name)
def test_every_recipe_is_a_valid_configuration(path):
    from sasrecllm.stages.strategies import stages_of

    config = load_config(path)
    assert stages_of(config.strategy, config.fusion.enabled)


@pytest.mark.parametrize("path", sorted(STUDIES), ids=lambda p: p.name)
def test_every_study_is_a_valid_plan(path, tmp_path):
    plan = load_plan(path)
    assert all(settings_of(plan, cell, path.parent, tmp_path) for cell in cells_of(plan))


def test_make_is_the_whole_developer_interface():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("install", "format", "lint", "test", "demo"):
        assert re.search(rf"^{target}:", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
