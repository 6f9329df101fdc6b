"""Which finished runs updates connect: who is forgotten in one is forgotten in all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sasrecllm.errors import CheckpointError, DataError, SasrecllmError
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config


def relatives(run: Path) -> list[Path]:
    """Finished runs in the same folder as ``run`` that updates connect with it, near or far.

    Not an update that is at work: it takes out itself whoever is forgotten meanwhile.
    """
    place = run.resolve()
    of = {}
    for folder in (p for p in place.parent.iterdir() if p.is_dir() and not p.is_symlink()):
        there = RunFolder(folder)
        if there.config.is_file():
            try:
                of[folder.resolve()] = _earlier(there)
            except SasrecllmError:  # it cannot be opened, so nobody is recommended anything by it
                continue
    found, last = {place}, set[Path]()
    while found != last:
        last = set(found)
        found |= {path for path, it in of.items() if it in last}
        found |= {it for path in last if (it := of.get(path)) is not None and it in of}
    return sorted(path for path in found - {place} if _is_whole(RunFolder(path), of[path]))


def forget_with_relatives(run: Path, users: Sequence[str], in_store: Collection[str]) -> None:
    """Take ``users`` out of a run and of the runs beside it that updates connect with it.

    Args:
        in_store: those among them whom its server's store knows.

    Raises:
        DataError: nobody of that name is in the run or in the store.
        CheckpointError: a run is damaged, or a connected one could not be changed.
    """
    from sasrecllm.forget import forget  # a server is lighter without what writes reports

    forget(run, users, in_store)
    for other in relatives(run):  # what is served after the next update, or after a way back
        try:
            forget(other, users, users)
        except DataError as error:  # they were forgotten where they were asked to be
            raise CheckpointError(f"{other}: {error.what}", error.remedy) from error


def goes_on_from(run: Path, earlier: Path) -> bool:
    """Whether ``run`` is an update of ``earlier``, or of one that is, both without links in them."""
    at, seen = run, set[Path]()
    while at not in seen and RunFolder(at).config.is_file():
        seen.add(at)
        before = _earlier(RunFolder(at))
        if before is None:
            return False
        if before == earlier:
            return True
        at = before
    return False


def _earlier(run: RunFolder) -> Path | None:
    """The run that an update goes on from, without links; None where ``run`` is no update."""
    of = stored_config(run, None).update.of
    return Path(of).resolve() if of else None


def _is_whole(run: RunFolder, before: Path | None) -> bool:
    return run.is_sealed() and (before is None or run.update.is_file())
