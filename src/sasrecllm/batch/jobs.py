"""Lists for many users: streamed in, committed part by part, streamed out.

A job is cut into parts of ``size`` users.  A part is written under a temporary name and renamed, so it
stands whole or not at all, and the same command goes on with the parts that are missing.  Several
processes share a job by ``shard`` i of n: each takes every n-th part.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.batch import on_ray
from sasrecllm.batch.part_files import part_file, parts_folder, verify_part, write_part
from sasrecllm.checkpoint import read_json, write_json
from sasrecllm.data.batch_files import check_ending, merge_lists, user_batches, write_lists
from sasrecllm.errors import ConfigError
from sasrecllm.inference.recommender import Recommender
from sasrecllm.inference.rerank import refuse_without_rerank
from sasrecllm.inference.wishes import Wishes, wanted
from sasrecllm.machine.lock import in_use, is_held
from sasrecllm.machine.progress import Progress
from sasrecllm.manifest import file_digest
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import choose_run, read_again
from sasrecllm.runs.stored import stored_data
from sasrecllm.types import UNKNOWN

PART = 1000
JOB, MERGE = "job.json", ".merge.lock"


def recommend_all(
    run: Path,
    users: Path,
    out: Path,
    *,
    k: int = 10,
    retrieve: int = 100,
    column: str = "user_id",
    shard: tuple[int, int] = (0, 1),
    size: int = PART,
    rerank: bool = True,
    wishes: Wishes | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> bool:
    """The ``k`` best items of every user in a file; returns whether all parts stand and were merged.

    Args:
        shard: (i, n): this process takes parts i, i + n, i + 2n, ...
        size: users of one part; bounds the memory.
        rerank: False leaves the encoder's own order.
        wishes: of every list; None for none.
        ray: let the workers of a Ray cluster take the parts: its address, or ``local`` for one of its
            own (:mod:`sasrecllm.batch.on_ray`).

    Raises:
        ConfigError: the parts of another job stand at ``out``, or it is of the users or the run.
        InUseError: another process writes these very parts.
        DataError: the file of users is wrong, or a wish names what the catalogue has not.
    """
    progress, wishes = progress or Progress(quiet=True), wishes or Wishes()
    check_ending(out)
    found = choose_run(run)
    _refuse_to_replace(out, users, found)
    data = stored_data(found)
    refuse_without_rerank(wanted(data.catalog, wishes, data.allow_seen), rerank)
    count, strangers, first = 0, 0, ""
    for ids in user_batches(users, size, column):  # looks at every id, before any claim
        count += 1
        unknown = np.flatnonzero(data.catalog.user_index(ids) == UNKNOWN)
        first = first or (ids[unknown[0]] if len(unknown) else "")
        strangers += len(unknown)
    if strangers:
        progress.line(
            f"{users}: {strangers:,} users (for example {first!r}) are not in the run's data: what is"
            " popular is listed for them"
        )
    job = {
        "run": found.digest(), "users": file_digest(users), "column": column, "k": k,
        "retrieve": retrieve, "rerank": rerank, "size": size, "parts": count,
    } | wishes.to_dict()  # fmt: skip
    parts = parts_folder(out)
    lock = f".shard-{shard[0]}-of-{shard[1]}.lock"
    with in_use(parts, lock):
        try:
            _claim(parts, job, lock)
            mine = range(shard[0], count, shard[1])
            missing = {n for n in mine if not part_file(parts, n).is_file()}
            progress.start()
            if ray is not None:
                on_ray.write_parts(run, users, parts, sorted(missing), job, ray, progress)
            elif missing:
                system = Recommender.from_pretrained(run)
                batches = enumerate(user_batches(users, size, column))
                for done, (number, ids) in enumerate((b for b in batches if b[0] in missing), 1):
                    write_part(system, ids, part_file(parts, number), job)
                    progress.step("parts", done, len(missing))
            return _merge_if_all_stand(parts, out)
        finally:
            _unclaim(parts, lock)


def _refuse_to_replace(out: Path, users: Path, run: RunFolder) -> None:
    """Refuse an output file in whose place the lists would destroy what they are made of."""
    if out.exists() and users.exists() and out.samefile(users):
        raise ConfigError(f"--out {out} is the file of users itself", "give another --out")
    kept = {path.resolve() for path in read_again(run)}
    if kept.intersection((out.resolve(), *out.resolve().parents)):
        raise ConfigError(
            f"--out {out} lies among the files of the run {run}", "give an --out outside of that folder"
        )


def merge(out: Path) -> None:
    """Put the parts of a finished job together at ``out``; the parts go.

    Raises:
        ConfigError: there is no job, or parts of it are missing; the message counts them.
    """
    parts = parts_folder(out)
    if not (parts / JOB).is_file():
        raise ConfigError(f"{parts} holds no job", "run `sasrecllm recommend RUN --users ...` first")
    with in_use(parts, MERGE):
        _merge(parts, out)


def _merge_if_all_stand(parts: Path, out: Path) -> bool:
    """Whether all parts stand and are put together, by this shard or by another that was the last."""
    with in_use(parts, MERGE, wait=True):
        if (parts / JOB).is_file():
            if _absent(parts):
                return False
            _merge(parts, out)
    return True


def _merge(parts: Path, out: Path) -> None:
    count = int(read_json(parts / JOB, parts=int)["parts"])
    if absent := _absent(parts):
        raise ConfigError(
            f"{len(absent)} of {count} parts of {out} are missing, part {absent[0]} first",
            "let every shard finish, or run the command without --shard",
        )
    files = [part_file(parts, n) for n in range(count)]
    for file in files:
        verify_part(file)
    if not files:
        files = [parts / "part-none.parquet"]
        write_lists(files[0], [])
    merge_lists(files, out)
    (parts / JOB).unlink()  # first: without it the rest is nobody's
    for file in parts.iterdir():
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another shard looks whether there is anything left to do
        parts.rmdir()


def _absent(parts: Path) -> list[int]:
    """Numbers of the parts of a job that are still to be written."""
    count = int(read_json(parts / JOB, parts=int)["parts"])
    return [n for n in range(count) if not part_file(parts, n).is_file()]


def _claim(parts: Path, job: dict[str, Any], lock: str) -> None:
    """Open the folder of this very job, or refuse another one's of which anything stands or is made."""
    path = parts / JOB
    with in_use(parts, ".claim.lock", wait=True):
        if path.is_file() and not _is_free(parts, lock):
            old = read_json(path)
            other = [k for k in job if old.get(k) != job[k]]
            if other:
                raise ConfigError(
                    f"{parts} holds parts of another job: {other[0]} is {old.get(other[0])!r} there,"
                    f" {job[other[0]]!r} here",
                    "give another --out, or delete that folder",
                )
        write_json(path, job)


def _unclaim(parts: Path, lock: str) -> None:
    """Leave nothing of a job of which no part was written."""
    if parts.is_dir():
        with in_use(parts, ".claim.lock", wait=True):
            if _is_free(parts, lock):
                (parts / JOB).unlink(missing_ok=True)


def _is_free(parts: Path, lock: str) -> bool:
    """Whether no part of a job stands, and no shard beside the holder of ``lock`` works on it."""
    others = [p for p in parts.glob(".shard-*.lock") if p.name != lock]
    return not any(parts.glob("part-*.parquet")) and not any(map(is_held, others))
