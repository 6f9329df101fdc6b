"""The run folder: its settings, its log, and what may go on in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.config import Config, Loop
from sasrecllm.errors import ConfigError
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.environment import git_revision, versions
from sasrecllm.machine.lock import NAME as LOCK
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.progress import Progress
from sasrecllm.manifest import MANIFEST
from sasrecllm.runs.paths import with_absolute_paths
from sasrecllm.runs.seal import (
    choose_run,
    is_sealed,
    refuse_half_forgotten,
    refuse_links,
    unseal,
    verify_run,
)
from sasrecllm.runs.stored import run_stages, stored_config, uses_language_model
from sasrecllm.runs.templates import KEPT, edited_template, keep_templates
from sasrecllm.stages.plan import Stage
from sasrecllm.training.settings import LoopSettings


@dataclass
class Run:
    """One run folder at work."""

    folder: Path
    config: Config
    command: str
    progress: Progress

    @property
    def name(self) -> str:
        """What the settings call the run; without a name there the folder's."""
        return self.config.name or self.folder.resolve().name

    @property
    def stages(self) -> dict[str, Stage]:
        """Name -> stage, in order."""
        return run_stages(self.config)

    @property
    def uses_language_model(self) -> bool:
        """Whether any stage asks the language model; an encoder alone builds none."""
        return uses_language_model(self.config)

    @property
    def fused(self) -> list[str]:
        """The fusion's components, less the models that no stage of this strategy trains or loads."""
        tasks = {s.task for s in self.stages.values()}
        loaded = {part for s in self.stages.values() for part in s.load}
        absent = set() if "answer" in tasks else {"llm"}
        absent |= set() if "encode" in tasks or "encoder" in loaded else {"encoder"}
        return [name for name in self.config.fusion.components if name not in absent]

    @property
    def worded(self) -> list[str]:
        """Of the fusion's components those that know an item without training rows by its words."""
        prior = any(s.task == "prior" or "encoder" in s.load for s in self.stages.values())
        readers = {"llm", "item quality", "user taste", "user regression"}
        readers |= {"encoder"} if prior else set()
        return [name for name in self.fused if name in readers]

    def loop(self, base: Loop, changes: Mapping[str, Any] | None = None) -> LoopSettings:
        """Loop settings of a stage: the section's, with the stage's own on top."""
        try:
            chosen = Loop.model_validate({**base.model_dump(), **(changes or {})})
        except ValueError as error:
            raise ConfigError(f"strategy: a stage's loop is wrong: {error}", "correct it") from None
        return LoopSettings(**chosen.model_dump(), seed=self.config.seed)


@contextmanager
def run_at_work(
    folder: Path, config: Config, command: str, *, quiet: bool = False, force: bool = False
) -> Iterator[Run]:
    """:func:`open_run` for this process alone, while the block runs.

    A run that is finished under these settings is only read, so nothing is written or locked.

    Raises:
        InUseError: another process works in the folder.
        ConfigError: the folder holds a run of another configuration.
    """
    with nullcontext() if not force and is_finished(folder, config) else in_use(folder):
        yield open_run(folder, config, command, quiet=quiet, force=force)


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
        yield reopen_run(folder, quiet=quiet)


def open_run(
    folder: Path, config: Config, command: str, *, quiet: bool = False, force: bool = False
) -> Run:
    """A run folder to begin in, or the one that stands there for going on; writes nothing yet.

    Raises:
        ConfigError: the folder holds a run of another configuration (:func:`refuse_changed`).
    """
    refuse_links(folder)
    config = with_absolute_paths(config)
    run_stages(config)  # a misspelt strategy leaves no folder behind
    if is_main_process():
        if force:
            _delete_run(folder)
        refuse_half_forgotten(folder)
        refuse_changed(folder, config)
    wait_for_all()
    return _run(folder, config, command, quiet)


def claim(run: Run) -> None:
    """Write down whose the folder is, once its settings have been checked.

    Where nothing was trained yet the folder is free: these settings take the place of older ones.
    """
    folder, config = run.folder, run.config
    if is_finished(folder, config):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not is_trained(folder):  # what an earlier start with perhaps other settings left half done
        for name in ("stages", "llm", KEPT):
            shutil.rmtree(folder / name, ignore_errors=True)
    if not (folder / "run.json").is_file():
        keep_templates(folder, config)
    resolved = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    path = folder / "config.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != resolved:
        unseal(folder)
        write_text(path, resolved)
    if not (folder / "run.json").is_file():  # which says what trained the run, not what judged it
        about = {"command": run.command, "git": git_revision(), **versions()}
        write_json(folder / "env.json", about)


def is_finished(folder: Path, config: Config) -> bool:
    """Whether a run folder is finished under these settings of evaluation."""
    return is_sealed(folder) and standing(folder / "run.json", config) is not None


def is_trained(folder: Path) -> bool:
    """Whether anything learnt lies in a run folder: a language model, a part, a checkpoint of one."""
    learnt = (
        "run.json",
        f"llm/{MANIFEST}",
        "stages/*/stage.json",
        f"stages/*/parts/*/{MANIFEST}",
        f"stages/**/step-*/{MANIFEST}",
    )
    return any(next(folder.glob(pattern), None) for pattern in learnt)


def refuse_changed(folder: Path, config: Config) -> None:
    """Refuse settings that would train something else than what was trained in ``folder``, if anything.

    ``evaluation`` alone may differ: what is trained stays, and is judged again.

    Raises:
        ConfigError: the folder holds a run of another configuration.
    """
    path = folder / "config.yaml"
    if not path.exists() or not is_trained(folder):
        return
    # Parsed, so that a setting which a newer version added has its default there.
    old, new = (
        with_absolute_paths(c).model_dump(exclude={"evaluation"})
        for c in (stored_config(folder, None), config)
    )
    if difference := first_difference(old, new) or edited_template(folder, config):
        raise ConfigError(
            f"{folder} holds a run of another configuration: {difference}",
            "give another --out, or --force to delete what was trained there; settings of evaluation"
            " alone may change in it",
        )


def standing(path: Path, config: Config) -> dict[str, Any] | None:
    """What a file of a run folder says, if it was written under these settings of evaluation."""
    values = read_json(path) if path.is_file() else {}
    return values if values.get("evaluation") == config.evaluation.model_dump() else None


def reopen_run(folder: Path, *, quiet: bool = False) -> Run:
    """A run folder that was trained before, with its own settings and command.

    Raises:
        CheckpointError: there is no run, or a file of it is damaged.
        ConfigError: it names a plug-in that is not allowed.
    """
    refuse_half_forgotten(folder)
    if not (folder / "config.yaml").is_file():
        choose_run(folder)
    refuse_links(folder)
    if is_sealed(folder):
        verify_run(folder)
    config = stored_config(folder)
    return _run(folder, config, read_json(folder / "env.json", command=str)["command"], quiet)


def _run(folder: Path, config: Config, command: str, quiet: bool) -> Run:
    """A run whose progress goes to its log too."""

    def write(text: str) -> None:
        with (folder / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")

    return Run(folder, config, command, Progress(write, quiet))


def _delete_run(folder: Path) -> None:
    """Remove a run folder, and only a run folder."""
    if not folder.exists():
        return
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"--force: {folder} holds no config.yaml, so it is not a run folder",
            "delete it by hand if you mean it, or give another --out",
        )
    for path in folder.iterdir():
        if path.name == LOCK:
            continue  # which this process holds
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def first_difference(old: Any, new: Any, path: str = "") -> str:
    """The first key in which two nested settings differ, with both values; empty if none does."""
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                return first_difference(a, b, f"{path}{key}.")
            return f"{path}{key} is {a!r} there, {b!r} here"
    return ""
