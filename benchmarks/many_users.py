"""Lists of many users on Ray with a worker killed half-way: what they cost, and whether all are there.

    python -m benchmarks.many_users OUT [--users 1000000] [--sample 2000]

Makes a log of so many users (five rows each, 2,000 items of twenty themes), trains a small encoder on
it for a moment, and lets ``sasrecllm recommend --users --ray local`` list ten items for everybody.
Once half of the parts stand, one worker gets SIGKILL.  Then every user must have ten items, each place
once, and a sample must have what one process without Ray gives.  CPU seconds and memory are those of
the command and all processes that it started, looked at every two seconds.  A second call takes the
log and the run that stand in OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

import sasrecllm
from sasrecllm.batch.jobs import recommend_all
from sasrecllm.batch.part_files import parts_folder
from sasrecllm.runs.folder import RunFolder

ROWS, ITEMS, THEMES, K = 5, 2000, 20, 10
HOW: dict[str, Any] = {
    "strategy": "encoder-only",
    "data": {"order": "time", "split": "given"},
    "encoder": {
        "prior": "none", "width": 32, "length": 10, "folds": 0, "item_updates": "all",
        "loop": {"epochs": 1, "max_steps": 300, "batch_size": 256, "patience": 0},
    },
    "lists": {"enabled": False},
    "fusion": {"enabled": False},
    "evaluation": {"ablations": False, "ranking": {"when": "never"}, "resamples": 100},
}  # fmt: skip
"""What the run is trained with: enough for lists that differ from user to user."""


def tables(users: int, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A log in which every user keeps to a theme and likes three of four of its items; the items."""
    rng = np.random.default_rng(seed)
    rows = users * ROWS
    user = np.repeat(np.arange(users), ROWS)
    theme = np.where(rng.random(rows) < 0.8, user % THEMES, rng.integers(0, THEMES, rows))
    place = (ITEMS // THEMES * rng.random(rows) ** 2).astype(int)  # some are met more often
    split = np.full(rows, "train", dtype=object)
    last = np.arange(users) * ROWS + ROWS - 1
    held_out = rng.choice(last, min(4000, users // 5), replace=False)
    split[held_out[::2]], split[held_out[1::2]] = "valid", "test"
    log = pl.DataFrame(
        {
            "user_id": pl.Series(user).cast(pl.String).str.zfill(7),
            "item_id": pl.Series(theme + THEMES * place).cast(pl.String),
            "label": (rng.random(rows) < np.where(theme == user % THEMES, 0.75, 0.4)).astype(int),
            "timestamp": np.tile(np.arange(ROWS), users) * 86400 + rng.integers(0, 86400, rows),
            "split": split.astype(str),
        }
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    items = pl.DataFrame(
        {
            "item_id": [str(i) for i in range(ITEMS)],
            "title": [f"Theme {i % THEMES}, number {i // THEMES}" for i in range(ITEMS)],
        }
    )
    return log, items


def trained(out: Path, users: int) -> Path:
    """The run that makes the lists; the file of users lies beside it."""
    run = out / "run"
    if not RunFolder(run).is_sealed():
        log, items = tables(users)
        log.select(pl.col("user_id").unique(maintain_order=True)).write_parquet(out / "users.parquet")
        sasrecllm.fit(log, items, out=run, config=HOW)
    return run


class Watched:
    """CPU seconds and memory of a process and of all that it started."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.peak = process, 0
        self.seconds: dict[int, float] = {}
        self.workers: dict[int, psutil.Process] = {}

    def look(self) -> None:
        """Once; a process that is gone counts with what it had when last seen."""
        memory = 0
        for one in [self.process, *self.process.children(recursive=True)]:
            try:
                with one.oneshot():
                    times, name = one.cpu_times(), " ".join(one.cmdline())
                    memory += one.memory_full_info().pss
            except psutil.Error:
                continue
            self.seconds[one.pid] = times.user + times.system
            if name.startswith("ray::") and "Worker" in name:
                self.workers[one.pid] = one
        self.peak = max(self.peak, memory)


def listed(run: Path, users: Path, lists: Path, parts: int) -> dict[str, Any]:
    """The command, with one of its workers killed once half of the parts stand."""
    command = [sys.executable, "-m", "sasrecllm", "recommend", run, "--users", users, "--out", lists]
    command += ["-k", K, "--ray", "local", "--quiet"]
    started, killed = time.monotonic(), ""
    with subprocess.Popen([str(word) for word in command]) as job:
        watched = Watched(psutil.Process(job.pid))
        while job.poll() is None:
            watched.look()
            stand = len(list(parts_folder(lists).glob("part-*.parquet")))
            alive = [pid for pid, worker in watched.workers.items() if worker.is_running()]
            if not killed and stand >= parts // 2 and alive:
                os.kill(alive[0], signal.SIGKILL)
                killed = f"worker {alive[0]} of {len(alive)} at {stand} of {parts} parts"
                print(killed, flush=True)
            time.sleep(2)
    wall, cpu = time.monotonic() - started, sum(watched.seconds.values())
    return {
        "exit": job.returncode, "killed": killed, "workers seen": len(watched.workers),
        "wall s": round(wall), "cpu s": round(cpu), "peak MiB": watched.peak >> 20,
    }  # fmt: skip


def checked(users: Path, lists: Path) -> dict[str, Any]:
    """Whether everybody has ten different items, at each place one."""
    asked = pl.read_parquet(users)["user_id"]
    got = pl.read_parquet(lists, columns=["user_id", "rank", "item_id"])
    return {
        "rows": got.height,
        "users without a list": len(set(asked) - set(got["user_id"].unique())),
        "strangers": len(set(got["user_id"].unique()) - set(asked)),
        "rows twice": got.height - got.n_unique(["user_id", "rank"]),
        "items twice in a list": got.height - got.n_unique(["user_id", "item_id"]),
        "lists of another length": got.group_by("user_id").len().filter(pl.col("len") != K).height,
    }


def sampled(run: Path, out: Path, lists: Path, count: int) -> dict[str, Any]:
    """How many places in a sample differ from what one process gives, and what that took."""
    users, alone = out / "sample.parquet", out / "alone.parquet"
    alone.unlink(missing_ok=True)
    pl.read_parquet(out / "users.parquet").sample(count, seed=0).write_parquet(users)
    started = time.process_time()
    recommend_all(run, users, alone, k=K)
    spent = time.process_time() - started
    ours = pl.read_parquet(alone)
    asked = ours.lazy().select("user_id").unique()
    theirs = pl.scan_parquet(lists).join(asked, on="user_id", how="semi").collect()
    both = ours.join(theirs, on=["user_id", "rank"], how="full", suffix="_ray")
    other = both.filter(pl.col("item_id").ne_missing(pl.col("item_id_ray")))
    apart = (both["probability"] - both["probability_ray"]).abs().max()
    return {
        "sample": count, "places with another item": other.height,
        "largest difference of a probability": apart, "cpu s of one process": round(spent, 1),
    }  # fmt: skip


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=2000)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    lists = asked.out / "lists.parquet"
    run, users = trained(asked.out, asked.users), asked.out / "users.parquet"
    lists.unlink(missing_ok=True)
    found = {"users": asked.users} | listed(run, users, lists, -(-asked.users // 1000))
    found |= checked(users, lists) | sampled(run, asked.out, lists, asked.sample)
    (asked.out / "many_users.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
