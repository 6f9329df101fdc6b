"""The GPU benchmark at its tiny size on a CPU: every step, a failed step, the table."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import steps
from benchmarks.gpu.table import table
from sasrecllm.ops.adapted_linear import adapted_linear

LORA = 2 * 8 * ((64 + 64) + (64 + 32))
"""Rank 8 on q_proj (64 -> 64) and v_proj (64 -> 2 heads of 16) of two layers."""
MAPPER = 64 * 320 + 320 + 320 * 64 + 64


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = steps.Place(tmp_path_factory.mktemp("gpu"), "cpu", steps.TINY)
    made = steps.weights(found)["parameters"]
    assert set(made) == {steps.SMALL, steps.LARGE} and min(made.values()) > 0
    return found


def test_both_stages_are_trained_by_the_loop_and_their_arithmetic_is_counted(place):
    found = steps.trained(place, steps.SMALL, "none")
    text, mapper = found["text, batch 4"], found["mapper, batch 4"]
    assert (text["trained"], mapper["trained"]) == (LORA, MAPPER)
    assert text["steps"] == mapper["steps"] == place.scale.steps
    for row in (text, mapper):
        assert row["rows_per_second"] > 0 and row["tokens_per_second"] > row["rows_per_second"]
        assert row["flops"] > 0
    assert found["rerank"]["seconds"] > 0 and found["reading"]["rows_per_second"] > 0
    assert found["weights_bytes"] > 0


def test_blocks_of_ours_and_of_the_library_are_compared(place, monkeypatch):
    found = steps.blocks(place)
    assert 0 < found["own, error"] <= 2 * found["library, error"] < 0.1
    assert all(found[f"own, {n} prompts of 12 tokens"]["rows_per_second"] > 0 for n in (4, 16, 32))
    monkeypatch.setattr(
        "sasrecllm.llm.blocks.adapted_linear", lambda *given: 1.2 * adapted_linear(*given)
    )
    with pytest.raises(ValueError, match="from single precision"):
        steps.blocks(place)


def test_nf4_holds_its_weights_in_fewer_bytes_and_does_the_same_arithmetic(place, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="the quant extra is not installed")
    # One kernel of attention for both: our own keeps what the library's makes again.
    monkeypatch.setattr("sasrecllm.llm.blocks.fits", lambda *_: False)
    plain, packed = (steps.trained(place, steps.LARGE, kind) for kind in ("none", "nf4"))
    assert packed["weights_bytes"] < plain["weights_bytes"]
    for stage in ("text, batch 4", "mapper, batch 4"):  # the same products, which another kernel makes
        asked = plain[stage]["operations_per_row"]
        assert packed[stage]["operations_per_row"] == pytest.approx(asked, rel=1e-6)


def test_the_recipe_is_a_whole_run_whose_trained_parameters_are_counted(place, cli, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="the quant extra is not installed")
    monkeypatch.setattr(steps, "_done", lambda command: cli(*command[3:], "--quiet"))
    found = steps.recipe(place)
    assert found["trained"] == LORA + MAPPER and found["wanted"] == 1_804_608
    assert found["steps"]["2-text"] == place.scale.recipe_steps
    assert all(auc is not None and 0 <= auc <= 1 for auc in found["rows"].values())


def test_a_run_under_torchrun_is_asked_for_on_the_device(place, monkeypatch):
    asked = []

    def done(command):
        asked.extend(map(str, command))
        (place.work / "torchrun").mkdir()
        (place.work / "torchrun/results.json").write_text(
            '{"rows": {"SASRec": {"metrics": {"auc": 0.5}}}}'
        )

    monkeypatch.setattr(steps, "_done", done)
    assert steps.torchrun(place)["rows"] == {"SASRec": 0.5}
    assert "torch.distributed.run" in asked and "device=cpu" in asked


@pytest.mark.slow
def test_a_step_that_fails_says_why_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    named = {step.name: step for step in steps.STEPS}
    monkeypatch.setattr(gpu, "STEPS", (named["135M bf16"], named["machine"]))  # no weights are made
    assert gpu.main([str(tmp_path), "--device", "cpu", "--tiny"]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["steps"]) == ["machine"] and found["steps"]["machine"]["peak_flops"] > 0
    assert "135M" in found["failed"]["135M bf16"]
    said = capsys.readouterr().out
    assert "135M bf16: FAILED" in said and "**135M bf16 failed**" in said
    assert (tmp_path / "gpu.md").read_text() == table(found)
    assert "Traceback" in (tmp_path / "gpu.log").read_text()


def test_the_table_of_a_result_is_printed_again(tmp_path, capsys):
    row = {"rows_per_second": 1234.4, "tokens_per_second": 5e5, "flops": 2e14, "peak_bytes": 2**31}
    found = {
        "date": "2026-11-26T14:00:00+00:00", "commit": None, "seed": 0, "tiny": False,
        "failed": {"recipe": "exit 1: no"},
        "versions": {"torch": "2.11.0"},
        "steps": {
            "machine": {"name": "A card", "peak_flops": 8e14, "matrix": 8192, "bytes_per_second": 3e12},
            "1.1B bf16": {"wall": 30.0, "weights_bytes": 2**31, "text, batch 16": row,
                          "rerank": {"seconds": 0.05, "rows_per_second": 2000.0}},
        },
    }  # fmt: skip
    (tmp_path / "gpu.json").write_text(json.dumps(found))
    assert gpu.main(["--table", str(tmp_path / "gpu.json")]) == 0
    said = capsys.readouterr().out
    assert "A card, 2026-11-26, seed 0, torch 2.11.0." in said and "800.0 TFLOP/s" in said
    assert "| 1.1B bf16 | text, batch 16 | 1,234 | 500,000 | 200.0 | 25% | 2.0 GiB |" in said
    assert "reranking 100 candidates: 50.0 ms" in said and "**recipe failed**: exit 1: no" in said
    again = dict(found, failed={"machine": "x"}, steps={"torchrun": {"wall": 9.0, "seconds": 8.0}})
    (tmp_path / "again.json").write_text(json.dumps(again))
    assert gpu.main(["--table", str(tmp_path / "gpu.json"), str(tmp_path / "again.json")]) == 0
    both = capsys.readouterr().out
    assert both.startswith(said.removesuffix("- **recipe failed**: exit 1: no\n"))
    assert "a whole tiny run: 8 s" in both and "machine failed" not in both and "recipe failed" in both


def test_attention_is_counted_where_heads_share_a_key():
    counted = steps._attention()
    flash = torch.ops.aten._scaled_dot_product_flash_attention
    q, own, shared = (2, 9, 7, 64), (2, 9, 7, 64), (2, 3, 7, 64)
    assert (
        counted[flash](q, shared, shared) == counted[flash](q, own, own) == 2 * 2 * 2 * 9 * 7 * 7 * 64
    )
    back = counted[torch.ops.aten._scaled_dot_product_flash_attention_backward]
    assert back(q, q, shared, shared) == back(q, q, own, own) > 0
