"""The bench measures what it says: equality first, no ratio without it, absent peers by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sasrecllm.bench import encoder, language
from sasrecllm.bench.measure import Finding, compare, largest_gap, matrix_rate
from sasrecllm.bench.run import bench, table
from sasrecllm.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_nothing_is_timed_where_the_results_differ():
    called = []
    found = compare("w", "r", lambda: called.append(1), lambda: called.append(2), pairs=2,
                    difference=0.1, allowed=0.01, goal=1.0)  # fmt: skip
    assert found.ratio is None and not called and "not equal" in found.verdict
    nan = compare("w", "r", called.clear, called.clear, pairs=1, difference=float("nan"), allowed=1.0)
    assert nan.ratio is None


def test_sides_alternate_and_the_ratio_is_theirs_over_ours():
    order = []
    found = compare("w", "r", lambda: order.append("a"), lambda: order.append("b"), pairs=3, goal=1e9)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found.low <= found.ratio <= found.high and found.verdict == "missed"


@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_bucketed_training_has_the_gradients_of_the_padded_way(loss):
    assert encoder.gradient_gap(encoder.generated(40), loss) < 1e-4


def test_a_wrong_gradient_would_be_seen(monkeypatch):
    true = encoder._plain_loss
    monkeypatch.setattr(encoder, "_plain_loss", lambda *a: true(*a) * 1.01)
    assert encoder.gradient_gap(encoder.generated(40), "softmax") > 1e-3


def test_the_reference_way_trains_and_scores_the_same():
    model, p, way = language.built("tiny", 500), language.prompts(8, 500, 80), language.reference_way()
    for parts, soft in (({"adapter"}, False), ({"mapper"}, True)):
        model.learn(parts)
        assert language._gradient_gap(model, p, soft, way) < 1e-3
    findings = language.bench_rerank("tiny", 1, 12)
    assert all(f.ratio is not None for f in findings)


def test_absent_peers_are_named_and_the_floor_is_below_what_it_took(tmp_path):
    found = {f.rival: f for f in encoder.bench("bce", 1, tmp_path, 0.02)}
    assert "absent" in found["RecTools"].note and found["RecTools"].ratio is None
    floor = found["floor (operations over matrix rate)"]
    assert 0 < floor.theirs < floor.ours
    assert "absent" in table(
        list(found.values()), {"date": "d", "threads": 1, "matrix_rate": 1e9, "pairs": 1}
    )


def test_the_command_prints_a_table_and_writes_what_it_found(tmp_path, capsys):
    bench("topk", "tiny", 1, None, tmp_path / "b.json")
    said = json.loads((tmp_path / "b.json").read_text())
    assert {"date", "threads", "versions", "matrix_rate", "findings"} <= set(said)
    assert len(said["findings"]) == 3 and "| top-10 of" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="did you mean 'rerank'"):
        bench("rerankk", "tiny", 1, None, None)
    with pytest.raises(ConfigError, match="--size"):
        bench("topk", "c", 1, None, None)


def test_helpers():
    assert matrix_rate(64, 0.05) > 1e6
    assert largest_gap(torch.ones(3), np.array([1, 2, 1])) == 1.0
    assert largest_gap(torch.ones(3), torch.ones(4)) == float("inf")
    assert Finding("w", "r", 1, 2, 2.0, 2.0, 2.0, goal=2.0).verdict == "reached"
