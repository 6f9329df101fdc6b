"""A run folder that is whole or refused: one manifest over everything in it that is read again.

``RUN/MANIFEST.sha256`` is written last.  It lists the run's own files that are read again
(:func:`read_again`), and of each committed folder inside (data, language model, parts, scores) that
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
from sasrecllm.runs.folder import CHECKPOINTS, RunFolder


def read_again(run: RunFolder) -> set[Path]:
    """Files and folders of a run that are read again.

    What else lies in it is for people (the log, the report), or theirs: it may change, and go.
    """
    files = {run.config, run.environment, run.language_seconds, run.results, run.summary, run.showcase}
    files |= {run.update, run.forgotten}
    return files | {run.data, run.language_model, run.prompts, run.stages, run.baselines}


def choose_run(path: Path) -> RunFolder:
    """A run folder that is finished and whole, ready to be opened.

    Checks the run's own files and the manifests of the folders inside; who reads such a folder checks
    its files (:func:`sasrecllm.manifest.verify_folder`).

    Raises:
        CheckpointError: it is not finished (with the nearest name when it was misspelt), a file of it
            is missing or changed, or a symbolic link stands in it.
    """
    run = RunFolder(path)
    refuse_half_forgotten(run)
    if not run.summary.is_file():
        near = [p.parent.name for p in path.parent.glob(f"*/{run.summary.name}")]
        why = f"{run.summary.name} is missing" if path.is_dir() else "there is no such folder"
        raise CheckpointError(
            f"{path} is not a finished run folder: {why}" + did_you_mean(path.name, near),
            "give the folder that `sasrecllm run` printed; an interrupted run goes on when the same"
            " command is given again",
        )
    if not run.is_sealed():
        raise CheckpointError(
            f"{path} is not a finished run folder: {MANIFEST} is missing; a command that changes the"
            " run was interrupted, or an older version of sasrecllm wrote it",
            "give the interrupted command again; train a run of an older version again",
        )
    verify_run(run)
    return run


def refuse_half_forgotten(run: RunFolder) -> None:
    """Refuse a run from which a user is being taken (:mod:`sasrecllm.forget`).

    Raises:
        CheckpointError: that was interrupted.
    """
    if run.forgetting_complete.is_file():
        raise CheckpointError(
            f"{run}: `sasrecllm forget` was interrupted while it changed the run",
            "give it again, with the same users: it goes on where it stopped",
        )


def verify_run(run: RunFolder) -> None:
    """Check the run's own files and the manifests of its folders against the run's manifest.

    Raises:
        CheckpointError: one is missing or changed, or a symbolic link stands in the folder.
    """
    refuse_links(run)
    verify_files(run.path, read_manifest(run.path))


def refuse_links(run: RunFolder) -> None:
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


def seal(run: RunFolder) -> None:
    """Write the manifest of a finished run over everything that lies in it now."""
    write_text(run.manifest, manifest_of(run.path, sorted(_listed(run))))
    sync(run.path)


@contextmanager
def resealed(run: RunFolder) -> Iterator[None]:
    """A block that changes files of a run; a finished run is sealed again at its end.

    The run is not finished meanwhile: nobody opens it.  If the block raises or is killed it stays so
    until the same command is given again; hence check everything before the block.
    """
    unseal(run)
    yield
    if run.summary.is_file():
        seal(run)


def unseal(run: RunFolder) -> None:
    """Say that a run is being changed; nobody opens it before it is sealed again."""
    if run.is_sealed():
        run.manifest.unlink()
        sync(run.path)


def _listed(run: RunFolder) -> Iterator[Path]:
    """Every file of a run that is read again; of a committed folder its manifest."""
    again = {path.name for path in read_again(run)}
    for name, folders, files in os.walk(run):
        folder = Path(name)
        if folder != run.path and MANIFEST in files:
            folders.clear()
            yield folder / MANIFEST
            continue
        if folder == run.path:
            folders[:], files[:] = again.intersection(folders), again.intersection(files)
        folders[:] = [f for f in folders if not _is_temporary(f) and f != CHECKPOINTS]
        yield from (folder / f for f in files if not _is_temporary(f))


def _is_temporary(name: str) -> bool:
    """A lock, a file manager's notes, or what a killed writer left."""
    return name.startswith(".") or name.endswith(".tmp")
