"""``evaluation.baselines``: further rows of a run's table, and names that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sasrecllm.baselines.table import ALWAYS
from sasrecllm.checkpoint import read_json
from sasrecllm.settings import Config

TINY = Path(__file__).parents[1] / "tiny.yaml"
ENCODER_ALONE = "strategy=[{name: encoder, task: encode, train: [encoder], row: NCF}]"


def run(folder, *settings):
    command = [sys.executable, "-m", "sasrecllm", "run", "--config", str(TINY), "--out", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [*command, *settings], capture_output=True, text=True, env=environment, timeout=280
    )


def test_no_further_rows_unless_asked_for():
    assert Config().evaluation.baselines == []


def test_further_rows_follow_the_trivial_ones_in_results_and_report(tmp_path):
    done = run(
        tmp_path / "run", "--quiet", ENCODER_ALONE, "encoder.kind=ncf", "fusion.enabled=false",
        "evaluation.ablations=false",
        "evaluation.baselines=[random, item mean, Markov chain, ItemKNN]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = read_json(tmp_path / "run/results.json")
    names = list(results["rows"])
    assert names[: len(ALWAYS)] == list(ALWAYS) == results["trivial"]
    assert names[-4:] == ["random", "Markov chain", "ItemKNN", "NCF"]
    assert len({row["rows"] for row in results["rows"].values()}) == 1
    lines = (tmp_path / "run/results.md").read_text(encoding="utf-8").splitlines()
    shown = [line.split("|")[1].strip(" *") for line in lines if line.startswith("|")]
    assert [name for name in shown if name in names][: len(names)] == names  # then come their lists
    assert "Markov chain" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("typo, nearest", [("ItemKN", "ItemKNN"), ("markov chain", "Markov chain")])
def test_an_unknown_name_is_refused_before_anything_is_prepared(tmp_path, typo, nearest):
    done = run(tmp_path / "run", f"evaluation.baselines=[{typo}]")
    assert done.returncode == 2
    assert f"evaluation.baselines has {typo!r}" in done.stderr
    assert f"did you mean {nearest!r}" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run/data").exists()
