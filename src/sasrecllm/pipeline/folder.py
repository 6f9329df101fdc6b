"""The run folder: its settings, its log, and what may go on in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sasrecllm import runtime
from sasrecllm.checkpoint import choose_run, read_json, write_json
from sasrecllm.config import Config, Loop, load_config
from sasrecllm.errors import ConfigError
from sasrecllm.inference.stages import run_stages, uses_language_model
from sasrecllm.training.settings import LoopSettings
from sasrecllm.training.strategies import Stage


@dataclass
class Run:
    """One run folder at work."""

    folder: Path
    config: Config
    command: str
    progress: runtime.Progress

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

    def loop(self, base: Loop, changes: Mapping[str, Any] | None = None) -> LoopSettings:
        """Loop settings of a stage: the section's, with the stage's own on top."""
        try:
            chosen = Loop.model_validate({**base.model_dump(), **(changes or {})})
        except ValueError as error:
            raise ConfigError(f"strategy: a stage's loop is wrong: {error}", "correct it") from None
        return LoopSettings(**chosen.model_dump(), seed=self.config.seed)


def open_run(
    folder: Path, config: Config, command: str, *, quiet: bool = False, force: bool = False
) -> Run:
    """Create a run folder, or open the one that stands there for going on.

    Raises:
        ConfigError: the folder holds a run of another configuration.
    """
    if force and runtime.is_main_process():
        _delete_run(folder)
    run_stages(config)  # a misspelt strategy leaves no folder behind
    path = folder / "config.yaml"
    if path.exists():
        # Parsed, so that a setting which a newer version added has its default there.
        old = load_config(path, environment=False)
        if old != config:
            raise ConfigError(
                f"{folder} holds a run of another configuration:"
                f" {_first_difference(old.model_dump(), config.model_dump())}",
                "give another --out, or delete the folder",
            )

    def write(text: str) -> None:
        with (folder / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")

    run = Run(folder, config, command, runtime.Progress(write, quiet))
    if runtime.is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        resolved = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
        path.write_text(resolved, encoding="utf-8")
        about = {"command": command, "git": runtime.git_revision(), **runtime.versions()}
        write_json(folder / "env.json", about)
    runtime.wait_for_all()
    return run


def reopen_run(folder: Path, *, quiet: bool = False) -> Run:
    """A run folder that was trained before, with its own settings and command.

    Raises:
        CheckpointError: there is no run.
    """
    if not (folder / "config.yaml").is_file():
        choose_run(folder)
    config = load_config(folder / "config.yaml", environment=False)
    command = read_json(folder / "env.json")["command"]
    return open_run(folder, config, command, quiet=quiet)


def _delete_run(folder: Path) -> None:
    """Remove a run folder, and only a run folder."""
    if not folder.exists():
        return
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"--force: {folder} holds no config.yaml, so it is not a run folder",
            "delete it by hand if you mean it, or give another --out",
        )
    shutil.rmtree(folder)


def _first_difference(old: Any, new: Any, path: str = "") -> str:
    """The first key in which two nested settings differ, with both values."""
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                return _first_difference(a, b, f"{path}{key}.")
            return f"{path}{key} is {a!r} there, {b!r} here"
    raise AssertionError("the settings are the same")
