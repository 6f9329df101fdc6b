"""One side of a comparison in a process of its own: what its memory peaks at, and what it takes.

``python -m benchmarks.bench.isolated SIDE ARGUMENT...`` does the work of one row of ``SIDES`` and
prints one JSON line.  The peak is what the process held at most above what it held once all was
imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench.measure import Took, measured
from sasrecllm.errors import EnvironmentRefusal

STATUS = Path("/proc/self/status")
ROOT = Path(__file__).parents[2]


def took_isolated(side: str, *arguments: object, threads: int = 1) -> tuple[Took, float]:
    """What ``side`` of :data:`SIDES` takes in a new process, and its peak memory in MB.

    Raises:
        EnvironmentRefusal: the process failed, or this system does not tell a process's peak.
    """
    found = _isolated(side, *arguments, threads=threads)
    return Took(found["cpu"], found["wall"]), found["peak"]


def held_isolated(side: str, *arguments: object) -> float:
    """Peak memory of a new process that does ``side``, all that it holds, MB; raises the same."""
    return _isolated(side, *arguments, threads=1)["held"]


def _isolated(side: str, *arguments: object, threads: int) -> dict[str, float]:
    if not STATUS.is_file():
        raise EnvironmentRefusal(f"{STATUS} is not here: peaks are read there", "measure on Linux")
    count = {k: str(threads) for k in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", __name__, side, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | count, cwd=ROOT)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise EnvironmentRefusal(f"bench: {side} failed: {said[-1][:200]}", "run it by hand")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak() -> float:
    """The most that this process has held so far, MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024


def forget_peak() -> float:
    """Let the peak begin at what is held now; MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def _training(stage: str, way: str, size: str) -> Callable[[], Any]:
    from benchmarks.bench import language

    language.train_one("tiny", stage, "ours")  # imports
    return lambda: language.train_one(size, stage, way)


def _pretrained(folder: str, does: str) -> Callable[[], Any]:
    from benchmarks.bench import trainer

    return partial(trainer.alone, folder, does)


def _softmax(way: str, share: str) -> Callable[[], Any]:
    from benchmarks.bench import encoder

    encoder.public(encoder.generated(4), "softmax")  # imports
    lists = encoder.generated(int(encoder.USERS * float(share)))
    return lambda: {"ours": encoder.public, "padded": encoder.padded}[way](lists, "softmax")


def _ingest(log: str, items: str, folder: str) -> Callable[[], Any]:
    from sasrecllm.data.ingest.sources import load_tables
    from sasrecllm.data.prepare import prepare

    def work() -> None:
        dataset = prepare(
            load_tables("files", path=log, items_path=items),
            feedback="ratings", threshold=4.0, split="global-time",
        )  # fmt: skip
        dataset.save(Path(folder))

    return work


def _parts(log: str, items: str, folder: str) -> Callable[[], Any]:
    from sasrecllm.data.card import card_of
    from sasrecllm.data.dataset import Dataset

    prepared = _ingest(log, items, folder)

    def work() -> None:
        prepared()
        card_of(Dataset.load(Path(folder)))

    return work


def _bare(log: str) -> Callable[[], Any]:
    """The frame library's own read of a log and its sort: what ingestion is measured against."""
    import polars as pl

    return lambda: pl.read_csv(log).sort("user_id", "timestamp")


SIDES: Mapping[str, Callable[..., Callable[[], Any]]] = {
    "training": _training,
    "pretrained": _pretrained,
    "softmax": _softmax,
    "ingest": _ingest,
    "parts": _parts,
    "bare": _bare,
}


def main() -> None:
    """Do one side and tell."""
    work = SIDES[sys.argv[1]](*sys.argv[2:])
    before = forget_peak()
    took = measured(work)
    held = peak()
    print(json.dumps({"cpu": took.cpu, "wall": took.wall, "peak": held - before, "held": held}))


if __name__ == "__main__":
    main()
