"""One part of a batch job: its users' lists in a file that stands whole, or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sasrecllm.data.batch_files import write_lists
from sasrecllm.errors import CheckpointError
from sasrecllm.inference.recommender import Recommender
from sasrecllm.inference.wishes import Wishes
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.manifest import file_digest


def parts_folder(out: Path) -> Path:
    """Where the parts of a job stand until they are merged."""
    return out.with_name(out.name + ".parts")


def part_file(parts: Path, number: int) -> Path:
    """One part of a job."""
    return parts / f"part-{number:06d}.parquet"


def write_part(system: Recommender, ids: Sequence[str], path: Path, job: Mapping[str, Any]) -> None:
    """One part, whole or not at all, whoever else writes it at the same time.

    Args:
        job: ``k``, ``retrieve``, ``rerank`` and the wishes of the job.
    """
    temporary = path.with_suffix(f".tmp{uuid.uuid4().hex}")
    note = temporary.with_name(temporary.name + ".sha256")
    asked = {name: job[name] for name in ("k", "retrieve", "rerank")}
    lists = lists_of(system, ids, **asked, wishes=Wishes.among(job))
    try:
        with as_refusals(path):
            write_lists(temporary, lists)
            note.write_text(file_digest(temporary), encoding="utf-8")
            note.replace(_note_of(path))
            temporary.replace(path)
    finally:
        for left in (temporary, note):
            left.unlink(missing_ok=True)  # nothing once it is in its place


def lists_of(
    system: Recommender,
    ids: Sequence[str],
    k: int,
    retrieve: int,
    *,
    rerank: bool,
    wishes: Wishes | None = None,
) -> list[dict[str, Any]]:
    """Rows of the lists of ``ids``, as ``recommend(user=..., strict=False)`` gives them."""
    known = system.dataset.latest(system.catalog.user_index(list(ids)))
    best = system.recommend_many(known, k, retrieve, wishes, rerank=rerank)
    return [
        {"user_id": user} | {k: v for k, v in line.to_dict().items() if k != "score"}
        for user, lines in zip(ids, system.maker.written(known, best), strict=True)
        for line in lines
    ]


def _note_of(part: Path) -> Path:
    """Where the SHA-256 of a part stands."""
    return part.with_suffix(".sha256")


def verify_part(part: Path) -> None:
    """Refuse a part that is not what was written.

    Raises:
        CheckpointError: it is damaged.
    """
    note = _note_of(part)
    if not note.is_file() or note.read_bytes() != file_digest(part).encode():
        raise CheckpointError(
            f"{part} is damaged: its SHA-256 is not the one that was noted when it was written",
            f"delete {part.name} and give the `sasrecllm recommend --users` command again",
        )
