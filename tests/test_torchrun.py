"""Several processes that train one run: one lock for all of them, and one step to stop at."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sasrecllm.checkpoint import is_whole, read_json

TINY = Path(__file__).parent / "tiny.yaml"
LONG = ("strategy=encoder-only", "encoder.folds=0", "encoder.loop.epochs=9999",
        "encoder.loop.patience=0", "encoder.loop.save_every=1000000")  # fmt: skip


def until(condition, process):
    """Wait for something that a running process does, on a machine however busy."""
    give_up = time.monotonic() + 280
    while not condition():
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_holds_its_folder_once_and_stops_at_one_step_without_leaving_a_process(cli, tmp_path):
    out = tmp_path / "run"
    command = ["run", "--config", str(TINY), "--out", str(out), *LONG]
    with subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         "--local-addr", "127.0.0.1", "-m", "sasrecllm", *command],
        stderr=subprocess.PIPE, text=True,
    ) as job:  # fmt: skip
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
