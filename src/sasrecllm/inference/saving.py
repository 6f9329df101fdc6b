"""Where a system's run lies, and copies of it that are whole or absent."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path

from sasrecllm.errors import ConfigError
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.names import aside
from sasrecllm.runs.seal import choose_run


class Place:
    """Where the run of a system lies.

    Args:
        folder: None for a system that was put together in memory.
        temporary: the folder goes when nobody holds this any more.
    """

    def __init__(self, folder: Path | None = None, *, temporary: bool = False) -> None:
        self._folder, self.temporary = folder, temporary
        if folder is not None and temporary:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """The run folder.

        Raises:
            ConfigError: there is none.
        """
        if self._folder is None:
            raise ConfigError(
                "this system was put together in memory: it has no run folder",
                "load a run: SASRecLLM.from_pretrained(folder)",
            )
        return self._folder


def refuse_added(count: int) -> None:
    """Refuse to save a system with so many items that its run does not have.

    Raises:
        ConfigError: there are some.
    """
    if count:
        raise ConfigError(
            f"{count} items were added after training, and a run has no place for them",
            "save the system without them, and add them again after loading",
        )


def copy_run(run: Path, folder: Path) -> None:
    """Copy the finished run to ``folder``, without the checkpoints that it no longer needs.

    Raises:
        ConfigError: something stands there.
        CheckpointError: the run is damaged.
        ResourceError: the disk is full.
    """
    with as_refusals(folder):
        refuse_place(folder, run)
        choose_run(run)
        temporary = aside(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            left = shutil.ignore_patterns("checkpoints", ".*", "*.tmp")
            shutil.copytree(run, temporary, ignore=left)
            choose_run(temporary)
            if folder.is_dir():
                folder.rmdir()
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def refuse_place(folder: Path, run: Path) -> None:
    """Refuse to write something of a run to ``folder`` where something stands, or into the run.

    Raises:
        ConfigError: with what is wrong.
    """
    if folder.is_symlink() or (folder.exists() and not _is_empty(folder)):
        raise ConfigError(
            f"{folder} exists already, and nothing is written over it",
            "give another folder, or delete it first",
        )
    if run.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ConfigError(
            f"{folder} lies in the run folder {run}, which holds files of its own only",
            "give a folder outside of it",
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
