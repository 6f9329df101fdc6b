"""Peers in environments of their own: each trains on the same sequences, in turns with the package."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench.measure import Finding, Took, Work, absent, measured, paired
from sasrecllm.types import IntArray

SCRIPTS = Path(__file__).parents[1]
ENOUGH = 60.0
"""CPU seconds of a peer after which no further pair is begun: some need a minute for one epoch."""

PEERS = {
    "RecTools": "rectools",
    "RePlay": "replay",
    "RecBole": "recbole",
    "gSASRec's recipe": "gsasrec",
}


@dataclass(frozen=True)
class Rivalry:
    """What peers are measured at: the package's way, the sequences, the loss, the goal.

    ``equal`` tells whether the package's way passed its equality check; without it nothing is timed.
    """

    work: str
    ours: Work
    lists: list[IntArray]
    loss: str
    pairs: int
    goal: float | None
    equal: bool

    def absent(self, peer: str, why: str) -> Finding:
        """A row without a ratio."""
        return absent(self.work, peer, why, self.goal)


def against_peers(rivalry: Rivalry, folder: Path | None) -> list[Finding]:
    """A finding for each peer; those that cannot run are named with the reason.

    Args:
        folder: what benchmarks/peers.sh filled; None measures none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.npz"
        lengths = [len(row) for row in rivalry.lists]
        users = np.repeat(np.arange(len(lengths)), lengths)
        np.savez(rows, users=users, items=np.concatenate(rivalry.lists))
        return [_against(rivalry, peer, folder, rows) for peer in PEERS]


def _against(rivalry: Rivalry, peer: str, folder: Path | None, rows: Path) -> Finding:
    name = PEERS[peer]
    script = SCRIPTS / f"peer_{name}.py"
    python = None if folder is None else folder / name / "bin/python"
    if not rivalry.equal:
        return rivalry.absent(peer, "not measured: the package's way failed its equality check")
    if python is None or not python.is_file() or not script.is_file():
        return rivalry.absent(peer, "absent: benchmarks/peers.sh")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    command = [str(python), str(script), str(rows), "--loss", rivalry.loss]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            return _in_turns(rivalry, peer, process)
        except (BrokenPipeError, json.JSONDecodeError):
            process.kill()
            errors.seek(0)
            said = errors.read().strip().splitlines() or ["it said nothing"]
            return rivalry.absent(peer, f"failed: {said[-1][:100]}")


def _in_turns(rivalry: Rivalry, peer: str, process: subprocess.Popen[str]) -> Finding:
    """Pairs of epochs, the first side changing; the peer waits without work while ours is timed."""
    about = _line(process)
    if "absent" in about:
        return rivalry.absent(peer, f"{about['version']} {about['absent']}")
    ours: list[Took] = []
    theirs: list[Took] = []
    rivalry.ours()
    while len(theirs) < rivalry.pairs and sum(t.cpu for t in theirs) < ENOUGH:
        if len(theirs) % 2 == 0:
            ours.append(measured(rivalry.ours))
            theirs.append(_epoch(process))
        else:
            theirs.append(_epoch(process))
            ours.append(measured(rivalry.ours))
    said = [
        f"{peer} {about['version']}",
        about["note"],
        f"{len(theirs)} pairs" if len(theirs) > 1 else "1 pair",
    ]
    times = list(zip(ours, theirs, strict=True))
    note = ", ".join(part for part in said if part)
    return paired(rivalry.work, peer, times, goal=rivalry.goal, note=note)


def _epoch(process: subprocess.Popen[str]) -> Took:
    """One epoch of the peer, measured by itself."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    answer = _line(process)
    return Took(answer["cpu"], answer["wall"])


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found
