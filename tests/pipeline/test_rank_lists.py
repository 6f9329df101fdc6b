"""Ranking lists of a run: lists whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sasrecllm.checkpoint import read_json
from sasrecllm.config import parse_config
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.opening import open_run


def test_a_run_on_implicit_feedback_ranks_the_whole_catalogue_and_fixed_lists(tmp_path):
    """A world in which the next item is the one before plus one: SASRec finds it, popularity cannot."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(150):
        start = rng.integers(0, 40)
        lines += [f"u{user},i{(start + k) % 40},{user * 100 + k}" for k in range(8)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    titles = ["item_id,title"] + [f"i{i},Title {i}" for i in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(titles))
    values = {
        "data": {
            "source": "files", "path": str(tmp_path / "log.csv"), "feedback": "implicit",
            "items_path": str(tmp_path / "items.csv"), "split": "leave-one-out",
        },
        "encoder": {"width": 32, "blocks": 1, "length": 10, "loss": "softmax", "dropout": 0.0,
                    "loop": {"epochs": 25, "lr": 0.005, "batch_size": 16, "patience": 25}},
        "strategy": "encoder-only", "fusion": {"enabled": False},
        "evaluation": {"resamples": 100, "ranking": {"negatives": 20}, "baselines": ["Markov chain"]},
    }  # fmt: skip
    run_all(open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True))

    results = read_json(tmp_path / "run/results.json")
    assert results["trivial"][-1] == "popularity"
    for kind in ("1 + 20 items", "whole catalogue"):
        lists = results["ranking"][kind]
        assert lists["lists"] == 150
        hr = {name: got["hr@10"] for name, got in lists["rows"].items()}
        assert hr["SASRec"][0] > 0.95 and hr["Markov chain"][0] > 0.95
        assert hr["popularity"][0] < 0.8
        assert hr["SASRec"][1] <= hr["SASRec"][0] <= hr["SASRec"][2]
    assert "Ranking, whole catalogue, 150 lists" in (tmp_path / "run/results.md").read_text()
    assert "whole catalogue, 150 lists" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize("when", ["never", "always"])
def test_ranking_is_asked_for_or_not(tmp_path, when):
    values = {
        "data": {"source": "known-world", "world": {"users": 60, "items": 60, "rows": 12}},
        "encoder": {"width": 8, "length": 5, "loop": {"epochs": 1}}, "strategy": "encoder-only",
        "fusion": {"enabled": False}, "evaluation": {"resamples": 100, "ranking": {"when": when}},
    }  # fmt: skip
    run = open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True)
    run_all(run)

    assert bool(read_json(run.folder.results)["ranking"]) == (when == "always")
