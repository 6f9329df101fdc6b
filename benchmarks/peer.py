"""What the peer scripts share: settings, rows, and how `benchmarks/bench` speaks with them.

A peer script is `python benchmarks/peer_NAME.py ROWS.npz --loss bce|softmax|gbce`, in the environment
that benchmarks/peers.sh builds.  It says one JSON line about itself (version, note; or why it is
absent), trains a few batches unmeasured, and then one epoch from scratch for each line it is sent,
answering with its process CPU seconds and wall seconds.  By hand: `yes | head -3 | python ...`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

WIDTH, BLOCKS, HEADS, LENGTH, BATCH, DROPOUT, LR = 64, 2, 1, 50, 128, 0.2, 0.001
NEGATIVES = {"bce": 1, "gbce": 256}

Epoch = Callable[[], object]
Prepare = Callable[[np.ndarray, np.ndarray, str], Epoch]


def answer(version: str, losses: Mapping[str, str], prepare: Prepare) -> None:
    """Speak as the module says.

    Args:
        losses: what the peer can train, each with a remark for the table.
        prepare: from users, items (both [rows], oldest first within a user) and a loss to a function
            that trains a new model for one epoch; what it does before is not measured.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("--loss", default="softmax")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rows = np.load(asked.rows)
    # What the peer's libraries print goes to stderr, so that stdout holds the answers alone.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if asked.loss not in losses:
        _say(out, {"version": version, "absent": f"has no {asked.loss}"})
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # some leave logs and checkpoints behind
        few = rows["users"] < 2 * BATCH
        prepare(rows["users"][few], rows["items"][few], asked.loss)()
        epoch = prepare(rows["users"], rows["items"], asked.loss)
        _say(out, {"version": version, "note": losses[asked.loss]})
        for _ in sys.stdin:
            started, wall = time.process_time(), time.perf_counter()
            epoch()
            took = {"cpu": time.process_time() - started, "wall": time.perf_counter() - wall}
            _say(out, took)
        os.chdir("/")


def _say(out, line: Mapping[str, object]) -> None:
    print(json.dumps(line), file=out, flush=True)
