"""What a run folder holds, read and checked: settings, data, calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from sasrecllm.checkpoint import load_part, read_json
from sasrecllm.config import reread_config
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.item_vectors import kept_vectors, own_vectors
from sasrecllm.errors import CheckpointError, ConfigError, DataError
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.llm.sources import source_of
from sasrecllm.manifest import verify_folder
from sasrecllm.plugins import refuse_foreign
from sasrecllm.runs.folder import ITEM_VECTORS, RunFolder
from sasrecllm.settings import Config
from sasrecllm.types import FloatArray


def stored_config(folder: RunFolder, allow_plugins: Iterable[str] | None = ()) -> Config:
    """The settings that a run folder was made with.

    Args:
        allow_plugins: modules that may be imported if the run names them; None where nothing that the
            run names will be imported.

    Raises:
        CheckpointError: they cannot be read.
        ConfigError: they name a plug-in that is not allowed.
    """
    path = folder.config
    try:
        config = reread_config(path)
    except ConfigError as error:
        raise CheckpointError(
            f"{path} does not hold the settings of a run: {error.what}", "restore it from a copy"
        ) from error
    if allow_plugins is not None:
        for key, name in named_objects(config):
            refuse_foreign(key, name, str(folder), allow_plugins)
    return config


def named_objects(config: Config) -> Iterator[tuple[str, str]]:
    """Key and value of every setting that may name a ``package.module:Object`` that is imported."""
    yield "encoder.kind", config.encoder.kind
    yield "encoder.loss", config.encoder.loss
    if source_of(config.llm.backbone).runs_code:
        yield "llm.backbone", config.llm.backbone
    for name in config.fusion.components:
        yield "fusion.components", name
    for name in config.evaluation.baselines:
        yield "evaluation.baselines", name
    for name in config.evaluation.metrics:
        yield "evaluation.metrics", name
    for stage in config.strategy if not isinstance(config.strategy, str) else ():
        yield "strategy: task", str(stage.get("task", ""))
        for key in ("train", "load"):
            yield from ((f"strategy: {key}", str(part)) for part in _each(stage.get(key)))


def _each(values: Any) -> Iterable[Any]:
    """The entries of a list or the keys of a mapping; nothing for anything else."""
    return values if isinstance(values, list | tuple | dict) else ()


def stored_data(folder: RunFolder) -> Dataset:
    """The prepared data of a run folder.

    Raises:
        CheckpointError: a file is missing, changed or not what was saved.
    """
    verify_folder(folder.data)
    try:
        return Dataset.load(folder.data)
    except DataError as error:
        raise CheckpointError(error.what, error.remedy) from error


def stored_vectors(folder: RunFolder) -> FloatArray | None:
    """Vectors of a run's items, each of length one (or zero), [I, D]; None where it has none.

    Raises:
        CheckpointError: they are damaged.
    """
    part = folder.newest_parts().get(ITEM_VECTORS)
    read_ID = None if part is None else load_part(part, {})[0]["vectors"].double().numpy()
    return own_vectors(read_ID, lambda: kept_vectors(folder.data))


def stored_showcase(folder: RunFolder) -> dict[str, Any]:
    """The recommendation lists that a finished run shows: heading -> lines."""
    return read_json(folder.showcase)


def stored_calibration(folder: RunFolder, row: str) -> Calibration:
    """The calibration of one row of a run's results table.

    Raises:
        CheckpointError: the table has no such row, or no two numbers for it.
    """
    path = folder.results
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
