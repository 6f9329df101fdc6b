"""A run folder that is whole or refused: one manifest over everything in it that is read again.

``RUN/MANIFEST.sha256`` is written last.  It lists the run's own files that are read again
(``READ_AGAIN``), and of each committed folder inside (data, language model, parts, scores) that
folder's own manifest; so a folder of another run, however whole, is found too.  A step that changes a
finished run does so inside :func:`resealed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sasrecllm.checkpoint import sync, write_text
from sasrecllm.errors import CheckpointError, did_you_mean
from sasrecllm.manifest import MANIFEST, manifest_of, read_manifest, verify_files

READ_AGAIN = frozenset(
    {"config.yaml", "env.json", "language.json", "results.json", "run.json", "showcase.json"}
    | {"data", "llm", "prompts", "stages", "baselines"}
)
"""Files and folders of a run that are read again.  What else lies in it is for people (the log, the
report), or theirs: it may change, and go."""
FORGETTING = "forget.tmp/complete.json"
"""Stands while what forgetting a user changes is moved into place."""


def choose_run(path: Path) -> Path:
    """A run folder that is finished and whole, ready to be opened.

    Checks the run's own files and the manifests of the folders inside; who reads such a folder checks
    its files (:func:`sasrecllm.checkpoint.verify_folder`).

    Raises:
        CheckpointError: it is not finished (with the nearest name when it was misspelt), a file of it
            is missing or changed, or a symbolic link stands in it.
    """
    refuse_half_forgotten(path)
    if not (path / "run.json").is_file():
        near = [p.parent.name for p in path.parent.glob("*/run.json")]
        why = "run.json is missing" if path.is_dir() else "there is no such folder"
        raise CheckpointError(
            f"{path} is not a finished run folder: {why}" + did_you_mean(path.name, near),
            "give the folder that `sasrecllm run` printed; an interrupted run goes on when the same"
            " command is given again",
        )
    if not is_sealed(path):
        raise CheckpointError(
            f"{path} is not a finished run folder: {MANIFEST} is missing; a command that changes the"
            " run was interrupted, or an older version of sasrecllm wrote it",
            "give the interrupted command again; train a run of an older version again",
        )
    verify_run(path)
    return path


def refuse_half_forgotten(run: Path) -> None:
    """Refuse a run from which a user is being taken (:mod:`sasrecllm.pipeline.forget`).

    Raises:
        CheckpointError: that was interrupted.
    """
    if (run / FORGETTING).is_file():
        raise CheckpointError(
            f"{run}: `sasrecllm forget` was interrupted while it changed the run",
            "give it again, with the same users: it goes on where it stopped",
        )


def is_sealed(run: Path) -> bool:
    """Whether a run folder was finished and is not being changed."""
    return (run / MANIFEST).is_file()


def verify_run(run: Path) -> None:
    """Check the run's own files and the manifests of its folders against the run's manifest.

    Raises:
        CheckpointError: one is missing or changed, or a symbolic link stands in the folder.
    """
    refuse_links(run)
    verify_files(run, read_manifest(run))


def refuse_links(run: Path) -> None:
    """Refuse a run folder with a symbolic link inside: nothing is read or written through one.

    Raises:
        CheckpointError: with the link's name.
    """
    for folder, folders, files in os.walk(run):
        for name in (*folders, *files):
            if os.path.islink(path := os.path.join(folder, name)):
                raise CheckpointError(
                    f"{path} is a symbolic link; a run folder holds files of its own only",
                    "put the file or folder itself in its place, or remove the link",
                )


def seal(run: Path) -> None:
    """Write the manifest of a finished run over everything that lies in it now."""
    write_text(run / MANIFEST, manifest_of(run, sorted(_read_again(run))))
    sync(run)


@contextmanager
def resealed(run: Path) -> Iterator[None]:
    """A block that changes files of a run; a finished run is sealed again at its end.

    The run is not finished meanwhile: nobody opens it.  If the block raises or is killed it stays so
    until the same command is given again; hence check everything before the block.
    """
    unseal(run)
    yield
    if (run / "run.json").is_file():
        seal(run)


def unseal(run: Path) -> None:
    """Say that a run is being changed; nobody opens it before it is sealed again."""
    if is_sealed(run):
        (run / MANIFEST).unlink()
        sync(run)


def _read_again(run: Path) -> Iterator[Path]:
    """Every file of a run that is read again; of a committed folder its manifest."""
    for name, folders, files in os.walk(run):
        folder = Path(name)
        if folder != run and MANIFEST in files:
            folders.clear()
            yield folder / MANIFEST
            continue
        if folder == run:
            folders[:], files[:] = READ_AGAIN.intersection(folders), READ_AGAIN.intersection(files)
        folders[:] = [f for f in folders if not _is_temporary(f) and f != "checkpoints"]
        yield from (folder / f for f in files if not _is_temporary(f))


def _is_temporary(name: str) -> bool:
    """A lock, a file manager's notes, or what a killed writer left."""
    return name.startswith(".") or name.endswith(".tmp")
