"""The parts of a batch job on Ray Data, for more machines than one.

Each worker loads the run once, takes a part by its number, reads that part's users itself and writes
the same file that a single process would.  So resuming, merging and every refusal are those of
:mod:`sasrecllm.batch.jobs`; the run, the file of users and the output must lie where all machines
see them under the same path.  Ray starts a worker that is lost again, and its parts go on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sasrecllm import plugins
from sasrecllm.batch.part_files import part_file, write_part
from sasrecllm.data.batch_files import users_of
from sasrecllm.errors import ConfigError, MissingExtraError
from sasrecllm.inference.recommender import Recommender
from sasrecllm.machine import signals
from sasrecllm.machine.progress import Progress


def write_parts(
    run: Path,
    users: Path,
    parts: Path,
    numbers: Sequence[int],
    job: Mapping[str, Any],
    address: str,
    progress: Progress,
) -> None:
    """Write the parts ``numbers``, each by one of as many workers as the cluster has CPUs.

    Args:
        job: ``column``, ``size``, ``k``, ``retrieve``, ``rerank`` and the wishes of the job.
        address: of a running cluster, or ``local`` for one on this machine that ends with the job.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no cluster at ``address``.
    """
    if not numbers:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("--ray needs Ray Data", "ray") from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)  # our progress says what theirs would
    try:
        where = {"include_dashboard": False} if address == "local" else {"address": address}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"--ray {address}: no cluster answers ({error})", "start one, or give --ray local"
        ) from None
    try:
        signals.hear_again()
        ray.data.DataContext.get_current().enable_progress_bars = False
        most = max(1, min(len(numbers), int(ray.cluster_resources().get("CPU", 1))))
        done = ray.data.from_items([{"part": n} for n in numbers]).map_batches(
            _worker(run.absolute(), users.absolute(), parts.absolute(), dict(job), plugins.allowed()),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        )
        for count, _ in enumerate(done.iter_rows(), 1):
            progress.step("parts", count, len(numbers))
    finally:
        ray.shutdown()


def _worker(
    run: Path, users: Path, parts: Path, job: Mapping[str, Any], allowed: Sequence[str]
) -> type:
    """The class of one process of the cluster, which keeps the run in its memory."""

    class Worker:
        def __init__(self) -> None:
            torch.set_num_threads(1)  # Ray counts one CPU for it
            self.system = Recommender.from_pretrained(run, allow_plugins=allowed)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            for number in map(int, batch["part"]):
                if part_file(parts, number).is_file():
                    continue  # written by a worker that was lost before it could say so
                ids = users_of(users, number, job["size"], job["column"])
                write_part(self.system, ids, part_file(parts, number), job)
            return batch

    return Worker
