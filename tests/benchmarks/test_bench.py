"""The bench measures what it says: equality first, no ratio without it, absent peers by name."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bench import (
    data,
    device,
    encoder,
    growth,
    isolated,
    language,
    measure,
    memory,
    peers,
    quality,
    start,
    trainer,
)
from benchmarks.bench.measure import Finding, compare, largest_gap, matrix_rate
from benchmarks.bench.random_prompts import BATCH, built, prompts
from benchmarks.bench.run import WORKS, Asked, bench, pinned, table
from sasrecllm.config import load_config
from sasrecllm.encoders import losses
from sasrecllm.errors import ConfigError, EnvironmentRefusal
from sasrecllm.llm.prefix import score_candidates
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.opening import open_run
from sasrecllm.training.batches import plan_epoch
from sasrecllm.training.loop import fit

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


def test_sides_alternate_and_the_ratio_is_theirs_over_ours(monkeypatch):
    order = []
    monkeypatch.setattr(measure, "ENOUGH", 0.0)
    found = compare("w", "r", lambda: order.append("a"), lambda: order.append("b"), pairs=3, goal=1e9)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found.low <= found.ratio <= found.high and found.verdict == "missed"


@pytest.mark.parametrize("loss", ["bce", "softmax", "gbce"])
def test_bucketed_training_has_the_gradients_of_the_padded_way(loss):
    assert encoder.gradient_gap(encoder.generated(40), loss) < 1e-4


def test_a_wrong_gradient_would_be_seen(monkeypatch):
    true = encoder._plain_loss
    monkeypatch.setattr(encoder, "_plain_loss", lambda *a: true(*a) * 1.01)
    assert encoder.gradient_gap(encoder.generated(40), "softmax") > 1e-3


def test_the_reference_way_trains_and_scores_the_same():
    model, p, way = (
        built("tiny", 500),
        prompts(8, 500, 80),
        language.reference_way,
    )
    for parts, soft in (({"adapter"}, False), ({"mapper"}, True)):
        model.learn(parts)
        assert language._gradient_gap(model, p, np.arange(8), soft, way) < 1e-3
    findings = language.bench_rerank("tiny", 1, 12)
    assert all(f.ratio is not None for f in findings)


def test_batches_of_two_plans_hold_as_many_tokens_and_only_one_shares_histories():
    p = prompts(4000, 500, 80)
    assert len(p.histories) / len(np.unique(p.histories)) == pytest.approx(1.83, abs=0.05)
    assert all(len(ids) == n for ids, n in zip(p.ids, p.lengths, strict=True))
    plans = [plan_epoch(p.lengths, BATCH, 0, 0, b) for b in (None, p.histories)]
    alone, shared = (np.concatenate(language.spread(plan, p.lengths)) for plan in plans)
    assert abs(p.lengths[alone].sum() / p.lengths[shared].sum() - 1) < 0.02
    assert len(np.unique(p.histories[shared])) < 0.8 * len(np.unique(p.histories[alone]))


def test_absent_peers_are_named_and_the_floor_is_counted(tmp_path):
    found = {f.rival: f for f in encoder.bench("bce", 1, tmp_path, 0.02)}
    for peer in peers.PEERS:
        assert "absent" in found[peer].note and found[peer].ratio is None
    floor = found["floor (operations over matrix rate)"]
    assert floor.theirs > 0 and floor.ours > 0
    assert "absent" in table(list(found.values()), {"date": "d", "matrix_rate": 1e9, "pairs": 1})


def rivals(tmp_path, name, **changed):
    """A peers folder with this interpreter in it, and what is measured there."""
    home = tmp_path / name / "bin"
    home.mkdir(parents=True)
    python = home / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    lists = encoder.generated(20)
    given = dict(work="w", ours=lambda: sum(range(1000)), lists=lists, loss="bce", pairs=2, goal=3.0,
                 equal=True)  # fmt: skip
    return peers.Rivalry(**(given | changed)), tmp_path


def test_a_peer_trains_in_turns_with_ours_and_is_named_with_its_version(tmp_path):
    called = []
    rivalry, folder = rivals(tmp_path, "gsasrec", ours=lambda: called.append(1))
    found = {f.rival: f for f in peers.against_peers(rivalry, folder)}
    measured = found.pop("gSASRec's recipe")
    assert measured.ratio > 0 and measured.theirs > 0 and measured.wall > 0 and len(called) == 3
    assert f"torch {torch.__version__}" in measured.note and "2 pairs" in measured.note
    assert {f.note for f in found.values()} == {"absent: benchmarks/peers.sh"}


@pytest.mark.parametrize(("negatives", "t"), [(1, 0.0), (7, 0.75)])
def test_the_recipe_written_here_has_the_papers_loss_and_reads_no_future(monkeypatch, negatives, t):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    recipe = importlib.import_module("peer_gsasrec")
    torch.manual_seed(0)
    model = recipe.Model(30).eval()
    ids = torch.zeros(4, recipe.peer.LENGTH + 1, dtype=torch.long)
    for row, n in enumerate((2, 9, 30, 51)):
        ids[row, -n:] = torch.randint(1, 31, (n,))
    torch.manual_seed(1)
    found = recipe.batch_loss(model, ids, 30, negatives, t)
    torch.manual_seed(1)
    drawn = torch.randint(1, 31, (4, recipe.peer.LENGTH, negatives))
    real = ids[:, 1:] > 0
    state = model(ids[:, :-1])[real]
    plus = (state * model.items(ids[:, 1:][real])).sum(1)
    minus = torch.einsum("qd,qnd->qn", state, model.items(drawn[real]))
    assert found.item() == pytest.approx(
        losses.gbce(plus, minus, n_items=30, t=t).mean().item(), rel=1e-5
    )
    changed = ids.clone()
    changed[:, -2] = 1 + changed[:, -2] % 30
    before, after = model(ids[:, :-1]), model(changed[:, :-1])
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-4)


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ('print(\'{"version": "1.0", "absent": "has no bce"}\')', "1.0 has no bce"),
        ("raise SystemExit('numpy is too new')", "failed: numpy is too new"),
        ('print(\'{"version": "1.0", "note": ""}\'); input(); 1 / 0', "failed: ZeroDivisionError"),
        ("pass", "failed: it said nothing"),
    ],
)
def test_a_peer_that_cannot_run_is_named_with_the_reason(tmp_path, monkeypatch, script, note):
    rivalry, folder = rivals(tmp_path, "replay")
    monkeypatch.setattr(peers, "SCRIPTS", tmp_path)
    (tmp_path / "peer_replay.py").write_text(script)
    found = {f.rival: f for f in peers.against_peers(rivalry, folder)}["RePlay"]
    assert found.ratio is None and found.note.startswith(note)


def test_no_peer_is_timed_where_our_gradients_are_wrong(tmp_path):
    rivalry, folder = rivals(tmp_path, "gsasrec", equal=False)
    found = {f.rival: f for f in peers.against_peers(rivalry, folder)}["gSASRec's recipe"]
    assert found.ratio is None and "equality" in found.note


def test_threads_are_pinned_and_put_back(monkeypatch):
    """On a machine of four cores, whatever this one has."""
    now = {"threads": 3, "cores": {4, 5, 6, 7}}
    monkeypatch.setattr(torch, "get_num_threads", lambda: now["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: now.update(threads=n))
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: now["cores"], raising=False)
    set_cores = lambda who, cores: now.update(cores=set(cores))  # noqa: E731
    monkeypatch.setattr(os, "sched_setaffinity", set_cores, raising=False)
    with pinned(2):
        assert now == {"threads": 2, "cores": {4, 5}}
    assert now == {"threads": 3, "cores": {4, 5, 6, 7}}
    with pinned(None):
        assert now == {"threads": 3, "cores": {4, 5, 6, 7}}


@pytest.mark.soak
def test_this_machines_cores_are_pinned_and_put_back():
    before, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    with pinned(1):
        assert torch.get_num_threads() == 1 and len(os.sched_getaffinity(0)) == 1
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == (before, cores)


TINY = Asked(("tiny",), 1)


def test_the_command_prints_a_table_and_writes_what_it_found(tmp_path, capsys):
    bench("topk", TINY, [1, 2], tmp_path / "b.json")
    said = json.loads((tmp_path / "b.json").read_text())
    assert {"date", "versions", "matrix_rate", "findings"} <= set(said)
    out = capsys.readouterr().out
    assert len(said["findings"]) == 6 and out.count("| top-10 of 60 items") == 2
    assert [f["threads"] for f in said["findings"]] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("work", "asked", "threads", "match"),
    [
        ("rerankk", TINY, [1], "did you mean 'rerank'"),
        ("topk", Asked(("a", "c")), [1], "--size is 'c'"),
        ("topk", TINY, [0], "--threads"),
        ("topk", TINY, [], "--threads"),
    ],
)
def test_what_is_not_known_is_refused(work, asked, threads, match):
    with pytest.raises(ConfigError, match=match):
        bench(work, asked, threads)


def test_memory_is_measured_apart_and_a_failure_there_is_named():
    found = isolated._isolated("softmax", "padded", 0.005, threads=1)
    assert found["held"] > found["peak"] >= 0, "all that it holds, and what it holds above imports"
    with pytest.raises(EnvironmentRefusal, match="KeyError"):
        isolated.took_isolated("softmax", "another way", 0.005)


def test_a_pretrained_models_processes_are_judged_by_all_that_they_hold(monkeypatch):
    done = []

    def held(side, folder, does):
        assert side == "pretrained"
        trainer.alone(folder, does)
        done.append(does)
        return 1300.0

    monkeypatch.setattr(memory, "held_isolated", held)
    assert [found.verdict for found in memory.pretrained("tiny")] == ["reached", "missed"]
    assert done == ["train", "list"]


@pytest.mark.soak
def test_memory_is_that_of_the_work_alone():
    few, many = (isolated.took_isolated("softmax", "padded", share)[1] for share in (0.005, 0.05))
    assert 0 < few < many


@pytest.mark.soak
def test_the_floor_is_below_what_it_took(tmp_path):
    (floor,) = [f for f in encoder.bench("bce", 1, tmp_path, 0.02) if f.rival.startswith("floor")]
    assert 0 < floor.theirs < floor.ours


@pytest.mark.soak
def test_the_reference_way_holds_the_logits_of_the_vocabulary():
    ways = ("ours", "reference")
    ours, theirs = (isolated.took_isolated("training", "adapter", way, "tiny")[1] for way in ways)
    # 16 prompts of 100 to 200 tokens, 32,000 logits of 4 bytes each.
    assert theirs > 16 * 100 * 32_000 * 4 / 2**20 > 4 * ours
    assert memory.finding("w", "r", ours, theirs, 4.0).verdict == "reached"


def test_ingest_is_measured_on_a_log_that_it_can_read():
    speed, held = data.bench(2_000, 1, 1)
    assert speed.theirs > 0 and speed.ours > 0 and held.unit == "MB" and held.ours >= 0


def test_parts_are_measured_on_a_folder_that_it_can_read():
    (held,) = data.bench_parts(2_000, 1)
    assert held.unit == "MB" and held.ours >= 0 and "by the clock" in held.note


def test_an_index_is_measured_beside_the_exact_one_with_its_recall():
    for found in WORKS["index"](TINY):
        assert found.ratio is not None and found.ratio > 0
        assert float(found.note.split()[1].rstrip("%")) > 80


def test_starts_are_timed_and_a_missing_run_is_named(tmp_path):
    helped, first = start.bench(tmp_path, 1)
    assert helped.ours > 0 and "by the clock" in helped.note
    assert first.ratio is None and "make demo" in first.note
    assert all("make demo" in f.note for f in quality.bench(tmp_path, 1))


def test_quality_tells_the_difference_and_the_spread_of_seeds():
    found = quality.finding("w", "r", np.array([[0.70, 0.71], [0.72, 0.71], [0.74, 0.72]]))
    assert found.ours == pytest.approx(0.72) and found.theirs == pytest.approx(0.7133, abs=1e-4)
    assert "difference +0.0067, between seeds ±0.0200" in found.note


def test_quality_trains_both_ways_on_a_finished_run(tmp_path, monkeypatch):
    options = ["strategy=text-only", "fusion.enabled=false", "evaluation.ablations=false"]
    config = load_config(ROOT / "tests" / "tiny.yaml", options)
    run_all(open_run(tmp_path / "run", config, "test", quiet=True))
    trained = []
    monkeypatch.setattr(quality, "fit", lambda task, loop: trained.append(task) or fit(task, loop))
    encoder, answers = quality.bench(tmp_path / "run", 2)
    for found in (encoder, answers):
        assert 0.3 < found.ours < 0.8 and found.unit == "AUC"
    # Ours and theirs in turn, for two seeds: only ours may plan by lengths and by histories.
    assert [len(np.unique(task.lengths)) > 1 for task in trained[:4]] == [True, False] * 2
    assert [task.prefix_ids is not None for task in trained[4:]] == [True, False] * 2


def test_growth_finds_the_slope_of_what_it_is_given(monkeypatch):
    axes = [growth.Axis("squares", "2", [10, 100, 1000], lambda n: (n, n**2 / 1e6))]
    monkeypatch.setattr(growth, "AXES", axes)
    (found,) = growth.bench("", 1)
    assert found.ratio == pytest.approx(2.0) and "last step 2.00" in found.note
    drawn = growth.picture([found])
    assert "squares" in drawn and "slope 2.00" in drawn


@pytest.mark.parametrize("axis", growth.AXES, ids=lambda axis: axis.name)
def test_every_axis_of_growth_can_be_measured(axis):
    size, seconds = axis.cost(max(64, axis.sizes[0] // 20))
    assert size > 0 and seconds > 0


def test_a_device_that_is_absent_is_named_and_the_same_code_runs_on_a_cpu():
    assert "not measured" in device.bench("cuda:7", "tiny", 1)[0].note
    found = device.bench("cpu", "tiny", 1)
    assert all(f.ours > 0 for f in found[:3])


def test_one_packed_sequence_scores_as_prompts_do():
    model, asked = built("tiny", 32_000), language.listed(7)
    ours = score_candidates(model, *asked)
    torch.testing.assert_close(device.packed(model, *asked), ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("parts", [{"adapter"}, {"mapper"}])
def test_the_trainer_trains_the_same_rows_by_the_librarys_own_operations(tmp_path, parts):
    shape = trainer.SHAPES["tiny"]
    trainer.save(str(tmp_path), shape)
    p, rows = prompts(40, shape["vocab_size"], mean=50), np.arange(20)
    mine = trainer.loaded(str(tmp_path), "fp32")
    plain = trainer.by_the_library(trainer.loaded(str(tmp_path), "fp32"))
    assert not any("forward" in vars(m) for m in plain.modules())
    assert trainer.gradient_gap(mine, plain, p, rows[:4], parts, "mapper" in parts) < 1e-4
    for model, way in (
        (mine, lambda: trainer.train(mine, p, rows, parts)),
        (plain, lambda: trainer.trained_by_trainer(trainer.Rival(plain, p, parts), rows, False)),
    ):
        before = {n: q.detach().clone() for n, q in model.named_parameters()}
        way()
        moved = {n for n, q in model.named_parameters() if not torch.equal(q, before[n])}
        assert moved and all(("lora_" in n) == ("adapter" in parts) for n in moved)


def test_helpers():
    assert matrix_rate(64, 0.05) > 1e6
    assert largest_gap(torch.ones(3), np.array([1, 2, 1])) == 1.0
    assert largest_gap(torch.ones(3), torch.ones(4)) == float("inf")
    assert Finding("w", "r", 1, 2, 2.0, 2.0, 2.0, goal=2.0).verdict == "reached"
