"""The run that an update makes: its settings, of the run before and the new rows, and its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sasrecllm.config import parse_config, put
from sasrecllm.data.extend import kind_of
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import MAY_CHANGE
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.settings import Config

FREE = (
    "data.columns", "data.order", "data.repeats", "data.on_bad_rows", "item_features.vectors",
    "update.valid", "update.test", "update.replay", "update.epochs", "update.lr", "update.fresh",
    "evaluation", "device", "threads", "track", "name",
)  # fmt: skip
"""Settings, or sections, in which an update may differ from the run before."""
WHERE = "settings of update"


def settings_of(
    run: RunFolder,
    data: Mapping[str, Any],
    given: Iterable[tuple[str, Any, str]] = (),
    mark: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of an update of ``run``.

    Args:
        data: where the new rows are, settings of ``data``.
        given: dotted key, value and origin of settings of the user's own.
        mark: what it has of a store (:class:`~.from_store.FromStore`).

    Raises:
        ConfigError: a setting that an update may not change, or a value that cannot be.
    """
    values = stored_config(run).model_dump()
    old = stored_data(run)
    columns = values["data"]["columns"] | {"split": None}  # the newest rows are judged
    values["data"] |= {"items_path": None, "feedback": kind_of(old), "columns": columns, **data}
    if old.log is not None and old.log.threshold is not None:
        values["data"]["threshold"] = old.log.threshold
    values |= {"name": "", "budget": "", "chosen": {}}
    values["evaluation"] |= {"ablations": False}
    values["update"] |= {"of": str(run.path.resolve()), **(mark or {})}
    for key, value, where in given:
        _refuse_fixed(key, where)
        put(values, key, value, where)
    return parse_config(values, WHERE)


def _refuse_fixed(key: str, where: str) -> None:
    if not any(key == free or key.startswith(f"{free}.") for free in FREE):
        raise ConfigError(
            f"{where}: an update keeps what the run was made with; allowed: {', '.join(FREE)}"
            + did_you_mean(key, FREE),
            "leave it out, or train another run: sasrecllm run",
        )


def next_folder(run: Path, config: Config) -> Path:
    """Where an update goes whose folder nobody names: RUN-2 beside RUN, RUN-3 beside RUN-2, and so on.

    A name is passed over where another run was trained.
    """
    stem, dash, number = run.name.rpartition("-")
    stem, count = (stem, int(number)) if dash and stem and number.isdecimal() else (run.name, 1)
    while True:
        count += 1
        folder = run.parent / f"{stem}-{count}"
        if not folder.exists() or _may_hold(RunFolder(folder), config):
            return folder


def goes_on(folder: RunFolder, config: Config) -> bool:
    """Whether a stopped update of the same run from the same store lies there: it keeps its rows."""
    if not folder.config.is_file() or not folder.is_trained() or folder.is_sealed():
        return False
    there, update = stored_config(folder, None).update, config.update
    return bool(update.store) and (there.of, there.store) == (update.of, update.store)


def _may_hold(folder: RunFolder, config: Config) -> bool:
    """Whether this very update, or nothing trained, lies in a folder."""
    if not folder.config.is_file():
        return folder.path.is_dir() and not any(p for p in folder.path.iterdir() if p != folder.lock)
    there = stored_config(folder, None)
    if not folder.is_trained():
        return there.update.of == config.update.of
    if goes_on(folder, config):
        return True
    return bool(there.model_dump(exclude=MAY_CHANGE) == config.model_dump(exclude=MAY_CHANGE))
