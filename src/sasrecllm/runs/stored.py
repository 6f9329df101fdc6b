"""Where the stages of a run lie on disk, and which of its parts is the newest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from sasrecllm.checkpoint import read_json
from sasrecllm.config import Config, load_config
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import CheckpointError, ConfigError, DataError
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.llm.sources import source_of
from sasrecllm.manifest import verify_folder
from sasrecllm.plugins import refuse_foreign
from sasrecllm.stages.plan import Stage, stages_of


def stored_config(folder: Path, allow_plugins: Iterable[str] | None = ()) -> Config:
    """The settings that a run folder was made with.

    Args:
        allow_plugins: modules that may be imported if the run names them; None where nothing that the
            run names will be imported.

    Raises:
        CheckpointError: they cannot be read.
        ConfigError: they name a plug-in that is not allowed.
    """
    path = folder / "config.yaml"
    try:
        config = load_config(path, environment=False)
    except ConfigError as error:
        raise CheckpointError(
            f"{path} does not hold the settings of a run: {error.what}", "restore it from a copy"
        ) from error
    if allow_plugins is not None:
        refuse_foreign("encoder.kind", config.encoder.kind, str(folder), allow_plugins)
        if source_of(config.llm.backbone).runs_code:
            refuse_foreign("llm.backbone", config.llm.backbone, str(folder), allow_plugins)
    return config


def stored_data(folder: Path) -> Dataset:
    """The prepared data of a run folder.

    Raises:
        CheckpointError: a file is missing, changed or not what was saved.
    """
    verify_folder(folder / "data")
    try:
        return Dataset.load(folder / "data")
    except DataError as error:
        raise CheckpointError(error.what, error.remedy) from error


def stored_calibration(path: Path, row: str) -> Calibration:
    """The calibration of one row of a results table (``results.json``).

    Raises:
        CheckpointError: the file has no such row, or no two numbers for it.
    """
    found = read_json(path, rows=dict)["rows"].get(row, {})
    try:
        values = [found["calibration"][k] + 0.0 for k in ("slope", "intercept")]  # numbers, not text
    except (TypeError, KeyError, OverflowError):
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise CheckpointError(
            f"{path} has no calibration of the row {row!r}",
            "restore the file from a copy, or give `sasrecllm evaluate` and the folder again",
        )
    return Calibration(*values)


def run_stages(config: Config) -> dict[str, Stage]:
    """Name -> stage of a run, in order.

    Raises:
        ConfigError: the strategy is wrong.
    """
    c = config.encoder
    stages = stages_of(
        config.strategy,
        config.fusion.enabled,
        c.kind,
        c.prior == "titles",
        config.mapper.fresh_users,
    )
    return {s.name: s for s in stages}


def part_folders(
    stages: Mapping[str, Stage], folder: Path, until: str | None = None
) -> dict[str, Path]:
    """Part -> folder of its newest version among the stages up to ``until`` (all without)."""
    found: dict[str, Path] = {}
    for number, (name, stage) in enumerate(stages.items(), 1):
        where = stage_folder(folder, number, name)
        found |= {part: loaded_part(folder, number, stage, part) for part in stage.load}
        found |= {part: where / "parts" / part for part in stage.train}
        if name == until:
            break
    return found


def stage_folder(folder: Path, number: int, name: str) -> Path:
    """Folder of the ``number``-th stage of a run."""
    return folder / "stages" / f"{number}-{name}"


LOADED = "loaded"
"""In a stage's folder: copies of the parts that it took from other runs."""


def loaded_part(folder: Path, number: int, stage: Stage, part: str) -> Path:
    """A part that the ``number``-th stage of a run takes from elsewhere: the run's own copy of it.

    Raises:
        CheckpointError: it has none yet, and there is none where ``load`` says.
    """
    own = stage_folder(folder, number, stage.name) / LOADED / part
    return own if own.is_dir() else foreign_part(Path(stage.load[part]), part)


def foreign_part(run: Path, part: str) -> Path:
    """Where another run (or a folder of parts) keeps its newest ``part``.

    Raises:
        CheckpointError: there is none.
    """
    if (run / "part.json").is_file():
        return run
    found = sorted(run.glob(f"stages/*/parts/{part}"), key=lambda p: int(p.parts[-3].split("-")[0]))
    if not found:
        raise CheckpointError(
            f"load: {run} has no trained {part}",
            f"give a run folder whose strategy trained its {part}, or the part's own folder",
        )
    return found[-1]


def _refuse_code(path: Path) -> None:
    """Refuse a language model of a run that names code: we write none that does."""
    for key in read_json(path):
        if key == "auto_map" or key.endswith("attn_implementation"):
            raise CheckpointError(
                f"{path} has {key}, with which a model names code to be run",
                "remove the run: sasrecllm writes no such file",
            )


def uses_language_model(config: Config) -> bool:
    """Whether any stage of a run asks the language model; an encoder alone builds none."""
    return any(s.task == "answer" for s in run_stages(config).values())


def stored_backbone(folder: Path, config: Config) -> str:
    """Where a run's language model lies: its own folder for ``offline``, else the given name.

    Raises:
        CheckpointError: its own folder is damaged.
    """
    if config.llm.backbone != "offline":
        return config.llm.backbone
    if uses_language_model(config):
        verify_folder(folder / "llm")
        _refuse_code(folder / "llm" / "config.json")
    return str(folder / "llm")
