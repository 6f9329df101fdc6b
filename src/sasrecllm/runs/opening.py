"""Opening a run folder for work: one process at a time, under the settings that it was made with."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.errors import ConfigError
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.environment import git_revision, versions
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.progress import Progress
from sasrecllm.plugins import at_work
from sasrecllm.runs.absolute_paths import with_absolute_paths
from sasrecllm.runs.choice import as_chosen, goes_on_from_quick, value_at, with_values
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.replaced import finish_moving, put_back, set_aside
from sasrecllm.runs.seal import (
    choose_run,
    refuse_half_forgotten,
    refuse_links,
    resealed,
    unseal,
    verify_run,
)
from sasrecllm.runs.stored import named_objects, stored_config
from sasrecllm.runs.templates import edited_template
from sasrecllm.runs.tracking import STOP_PATIENCE, Tracking, tracking_of
from sasrecllm.settings import Config

OF_THE_WHOLE = ("quick", "budget", "strategy", "fusion.enabled")
"""Settings that nothing of a quick run depends on."""


@dataclass
class Run:
    """A run at work.

    Args:
        folder: where it lies.
        config: its settings.
        command: what was typed to train it.
        progress: what it says, to the terminal and to its log.
        tracking: who else hears of its numbers.
    """

    folder: RunFolder
    config: Config
    command: str
    progress: Progress
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def name(self) -> str:
        """What the settings call the run; without a name there the folder's."""
        return self.config.name or self.folder.path.resolve().name


@contextmanager
def run_at_work(
    folder: Path, config: Config, command: str, *, quiet: bool = False, force: bool = False
) -> Iterator[Run]:
    """:func:`open_run` for this process alone, while the block runs.

    A run that is finished under these settings is only read, so nothing is written or locked.  One that
    ``force`` replaces comes back where the new one is refused or stopped before it is trained.

    Raises:
        InUseError: another process works in the folder.
        ConfigError: the folder holds a run of another configuration.
    """
    asked = config if force else as_chosen(RunFolder(folder), config)
    finished = not force and RunFolder(folder).is_finished(asked)
    with nullcontext() if finished else in_use(folder):
        try:
            yield from _followed(open_run(folder, config, command, quiet=quiet, force=force))
        except BaseException:  # Ctrl-C too
            if force and is_main_process():
                put_back(RunFolder(folder))
            raise


@contextmanager
def run_again(folder: Path, *, quiet: bool = False) -> Iterator[Run]:
    """:func:`reopen_run` for this process alone, while the block runs.

    Raises:
        InUseError: another process works in the folder.
        CheckpointError: there is no run.
    """
    if not folder.is_dir():
        choose_run(folder)
    with in_use(folder):
        yield from _followed(reopen_run(folder, quiet=quiet))


def _followed(run: Run) -> Iterator[Run]:
    """The run, whose tracker hears of everything before the block ends; what its plug-ins raise in the
    block is refused by their name."""
    try:
        with at_work(name for _, name in named_objects(run.config)):
            yield run
    except BaseException:
        run.tracking.close(STOP_PATIENCE, warn=False)
        raise
    run.tracking.close()


def open_run(
    path: Path, config: Config, command: str, *, quiet: bool = False, force: bool = False
) -> Run:
    """A run folder to begin in, or the one that stands there for going on; writes nothing yet.

    Raises:
        ConfigError: the folder holds a run of another configuration (:func:`refuse_changed`).
    """
    folder = RunFolder(path)
    refuse_links(folder)
    config = with_absolute_paths(config)
    if is_main_process():
        if force:
            set_aside(folder)
        finish_moving(folder)
        refuse_half_forgotten(folder)
        refuse_changed(folder, config)
    wait_for_all()
    return _run(folder, as_chosen(folder, config), command, quiet)


def claim(run: Run) -> None:
    """Write down whose the folder is, once its settings have been checked.

    Where nothing was trained yet the folder is free: these settings take the place of older ones.
    """
    folder, config = run.folder, run.config
    if folder.is_finished(config) or goes_on_from_quick(folder, config):
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    if not folder.is_trained():  # what an earlier start with perhaps other settings left half done
        for left in (folder.stages, folder.language_model, folder.prompts):
            shutil.rmtree(left, ignore_errors=True)
    write_settings(run)
    if not folder.summary.is_file():  # which says what trained the run, not what judged it
        about = {"command": run.command, "git": git_revision(), **versions()}
        write_json(folder.environment, about)


def keep_evaluation(run: Run) -> None:
    """Write down by which settings of evaluation a run was judged anew, where they are others now."""
    folder, config = run.folder, run.config
    if stored_config(folder, None).evaluation == config.evaluation:
        return
    with resealed(folder):
        write_settings(run)
        if folder.summary.is_file():
            about = read_json(folder.summary) | {"evaluation": config.evaluation.model_dump()}
            write_json(folder.summary, about)


def write_settings(run: Run) -> None:
    """Write the run's settings into its folder, where other ones stand there."""
    folder = run.folder
    resolved = yaml.safe_dump(run.config.model_dump(), sort_keys=False, allow_unicode=True)
    if not folder.config.is_file() or folder.config.read_text(encoding="utf-8") != resolved:
        unseal(folder)
        write_text(folder.config, resolved)


MAY_CHANGE: Any = {"evaluation": True, "track": True, "chosen": True, "recommend": {"index"}}
"""Settings that may change in a run."""


def refuse_changed(folder: RunFolder, config: Config) -> None:
    """Refuse settings that would train something else than what was trained in ``folder``, if anything.

    ``evaluation`` may differ: what is trained stays, and is judged again; so may ``track`` and
    ``recommend.index``.  What the run chose for itself is no difference where nobody names it, and the
    whole run may go on from a quick one.

    Raises:
        ConfigError: the folder holds a run of another configuration.
    """
    if not folder.config.exists() or not folder.is_trained():
        return
    # Parsed, so that a setting which a newer version added has its default there.
    there, config = stored_config(folder, None), as_chosen(folder, config)
    if goes_on_from_quick(folder, config):
        free = (*there.chosen, *OF_THE_WHOLE)
        there = with_values(there, {key: value_at(config, key) for key in free})
    old, new = (with_absolute_paths(c).model_dump(exclude=MAY_CHANGE) for c in (there, config))
    if difference := first_difference(old, new) or edited_template(folder, config):
        raise ConfigError(
            f"{folder} holds a run of another configuration: {difference}",
            "give another --out, or --force to delete what was trained there; settings of evaluation"
            " alone may change in it",
        )


def reopen_run(path: Path, *, quiet: bool = False) -> Run:
    """A run folder that was trained before, with its own settings and command.

    Raises:
        CheckpointError: there is no run, or a file of it is damaged.
        ConfigError: it names a plug-in that is not allowed.
    """
    folder = RunFolder(path)
    refuse_half_forgotten(folder)
    if not folder.config.is_file():
        choose_run(path)
    refuse_links(folder)
    if folder.is_sealed():
        verify_run(folder)
    config = stored_config(folder)
    return _run(folder, config, read_json(folder.environment, command=str)["command"], quiet)


def _run(folder: RunFolder, config: Config, command: str, quiet: bool) -> Run:
    """A run whose progress goes to its log too."""

    def write(text: str) -> None:
        with folder.log.open("a", encoding="utf-8") as stream:
            stream.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")

    run = Run(folder, config, command, Progress(write, quiet))
    run.tracking = tracking_of(folder, config, run.name, run.progress)
    return run


def first_difference(old: Any, new: Any, path: str = "") -> str:
    """The first key in which two nested settings differ, with both values; empty if none does."""
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                return first_difference(a, b, f"{path}{key}.")
            return f"{path}{key} is {a!r} there, {b!r} here"
    return ""
