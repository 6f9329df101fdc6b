"""Several processes that train one run: one lock for all of them, one step to stop at, one result."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sasrecllm.checkpoint import is_whole, read_json

TINY = Path(__file__).parent / "tiny.yaml"
LONG = ("strategy=encoder-only", "encoder.folds=0", "encoder.loop.epochs=9999",
        "encoder.loop.patience=0", "encoder.loop.save_every=1000000")  # fmt: skip
SHORT = ("fusion.enabled=false", "evaluation.ranking.when=never", "evaluation.ablations=false",
         "lists.enabled=false")  # fmt: skip
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
SMOLLM2 = Path(__file__).parents[1] / ".cache/smollm2-135m"
MORTAL = '''
"""The command line; DIES=RANK:N kills the process of that rank as it begins its N-th step."""
import os, signal
from sasrecllm.cli import main
from sasrecllm.training import loop
begun, step = 0, loop._Fit._train_step
def mortal(fit, batch):
    global begun
    begun += 1
    if os.environ.get("DIES") == os.environ.get("RANK", "0") + ":" + str(begun):
        os.kill(os.getpid(), signal.SIGKILL)
    step(fit, batch)
loop._Fit._train_step = mortal
main()
'''


def until(condition, process):
    """Wait for something that a running process does, on a machine however busy."""
    give_up = time.monotonic() + 280
    while not condition():
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.05)


def command_of(processes, *words, program="sasrecllm"):
    """A command of sasrecllm under torchrun, on a free port of its own choice."""
    job = ["torch.distributed.run", "--nproc-per-node", str(processes), "--standalone",
           "--local-addr", "127.0.0.1", "-m"] if processes > 1 else []  # fmt: skip
    return [sys.executable, "-m", *job, program, *map(str, words)]


def trained(processes, out, *settings, program="sasrecllm", **environment):
    """How training in ``out`` ended: its exit code and what it said."""
    words = ("train", "--config", TINY, "--out", out, "--quiet", *SHORT, *settings)
    done = subprocess.run(
        command_of(processes, *words, program=program), capture_output=True, text=True, timeout=800,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    return done.returncode, done.stderr


def validations(out):
    """Stage -> what each validation found, as the curve of the run has it."""
    found = {}
    for path in sorted(out.glob("stages/*/metrics.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        found[path.parent.name] = [(r["step"], r["valid"]) for r in lines if "valid" in r]
    return found


def losses(out, stage):
    """Step -> its loss, as the curve of the run has it."""
    lines = map(json.loads, (out / "stages" / stage / "metrics.jsonl").read_text().splitlines())
    return {r["step"]: r["loss"] for r in lines if "loss" in r}


def assert_alike(out, reference):
    """Another number of processes adds up in another order: single precision rounds at each sum, and
    after dozens of steps that turns round a pair or two of nearly equal scores, each worth less than
    1e-4 of an AUC."""
    got, wanted = validations(out), validations(reference)
    assert got.keys() == wanted.keys() and any(wanted.values())
    for stage, points in wanted.items():
        assert [step for step, _ in got[stage]] == [step for step, _ in points], stage
        for (_, one), (_, other) in zip(got[stage], points, strict=True):
            assert one == pytest.approx(other, abs=1e-4), stage


@pytest.mark.slow
def test_a_job_holds_its_folder_once_and_stops_at_one_step_without_leaving_a_process(cli, tmp_path):
    out = tmp_path / "run"
    command = ["run", "--config", str(TINY), "--out", str(out), *LONG]
    with subprocess.Popen(command_of(2, *command), stderr=subprocess.PIPE, text=True) as job:
        checkpoints = out / "stages/1-encoder/checkpoints"
        until(lambda: list(checkpoints.glob("step-*[0-9]")), job)
        workers = psutil.Process(job.pid).children(recursive=True)
        assert "is in use by process" in cli(*command, expect=2)
        before = max(int(p.name[5:]) for p in checkpoints.glob("step-*[0-9]"))
        job.send_signal(signal.SIGTERM)
        said = job.communicate(timeout=280)[1]
    assert not [w for w in workers if w.is_running() and w.status() != psutil.STATUS_ZOMBIE]
    assert said.count("stopped by SIGTERM; the same torchrun command goes on from the last") == 1, said
    assert "Connection closed" not in said and "in use" not in said
    last = max(checkpoints.glob("step-*[0-9]"))
    assert is_whole(last) and read_json(last / "state.json")["step"] > before


@pytest.fixture
def killed(tmp_path):
    """Trains in a folder until a process of that rank dies in its step: RANK:N."""
    (tmp_path / "mortal.py").write_text(MORTAL)
    found = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def until_death(processes, out, stage, dies, *settings, **sharing):
        code, said = trained(processes, out, *settings, program="mortal",
                             PYTHONPATH=found, DIES=dies, **sharing)  # fmt: skip
        assert code, said
        if processes == 2:
            assert "another process of this job has ended" in said or "stopped by SIGTERM" in said, said
            assert "Traceback" not in said.split("torch/distributed")[0], said
        assert not list(out.rglob("*.tmp*"))
        checkpoints = list((out / "stages" / stage / "checkpoints").glob("step-*"))
        assert all(map(is_whole, checkpoints))
        return max(read_json(p / "state.json")["step"] for p in checkpoints)

    return until_death


@pytest.mark.slow
@pytest.mark.parametrize(
    "sharing", [{}, pytest.param(FSDP2, marks=pytest.mark.soak)], ids=["ddp", "fsdp2"]
)
def test_a_killed_process_costs_nothing_and_any_number_of_others_goes_on(tmp_path, killed, sharing):
    """Killed twice under two processes and once alone; with the dropout of the configuration."""
    settings = ("strategy=encoder-only", "encoder.folds=0")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert trained(1, whole, *settings)[0] == 0
    steps = validations(whole)["1-encoder"][-1][0]
    assert steps >= 20, "the steps of the deaths below"
    for processes, dies in ((2, "1:8"), (1, "0:9"), (2, "0:7")):
        killed(processes, cut, "1-encoder", dies, *settings, **sharing)
    code, said = trained(1, cut, *settings)
    assert code == 0, said
    assert_alike(cut, whole)


@pytest.mark.soak
@pytest.mark.parametrize("sharing", [{}, FSDP2], ids=["ddp", "fsdp2"])
def test_every_stage_trains_the_same_under_two_processes(tmp_path, sharing):
    deep = "llm.offline.layers=3"
    assert trained(1, tmp_path / "one", deep)[0] == 0
    code, said = trained(2, tmp_path / "two", deep, **sharing)
    assert code == 0, said
    assert ("sharded over 2 processes" in (tmp_path / "two/log.txt").read_text()) == bool(sharing)
    assert_alike(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2: make smollm2")
def test_a_pretrained_model_goes_on_after_kills_under_ddp_fsdp2_and_alone(tmp_path, killed):
    """Two processes (DDP), one, two (FSDP2, which makes the first validation), one; dropout and all.

    Of its thirty blocks the first four, for eight processes load it.  In single precision: what a
    machine that is faster in half would choose rounds a hundredth of a gradient.  The loss of every
    step is asked for too, since few rows make a coarse AUC.
    """
    small = tmp_path / "smollm2"
    config = AutoConfig.from_pretrained(SMOLLM2, num_hidden_layers=4)
    AutoModelForCausalLM.from_pretrained(SMOLLM2, config=config).save_pretrained(small)
    AutoTokenizer.from_pretrained(SMOLLM2).save_pretrained(small)
    settings = ("strategy=text-only", f"llm.backbone={small}", "llm.dtype=fp32",
                "data.world.users=24", "llm.loop.max_steps=6", "llm.loop.save_every=1",
                "llm.loop.batch_size=4", "llm.loop.evals_per_epoch=2",
                "llm.lora.dropout=0.1")  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code, said = trained(1, whole, *settings)
    assert code == 0, said
    assert [step for step, _ in validations(whole)["1-text"]] == [3, 6]
    deaths = [(2, "1:2", {}, 1), (1, "0:2", {}, 2), (2, "0:3", FSDP2, 4)]
    for processes, dies, sharing, step in deaths:
        assert killed(processes, cut, "1-text", dies, *settings, **sharing) == step
    assert (cut / "log.txt").read_text().count("sharded over 2 processes") == 1
    code, said = trained(1, cut, *settings)
    assert code == 0, said
    assert_alike(cut, whole)
    assert losses(cut, "1-text") == pytest.approx(losses(whole, "1-text"), abs=1e-4)
