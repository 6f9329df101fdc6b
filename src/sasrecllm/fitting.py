"""Python first: tables in, a trained system out; the same run as ``sasrecllm run`` makes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sasrecllm.config import load_config, parse_config, put
from sasrecllm.data.ingest.frames import lent
from sasrecllm.errors import ConfigError
from sasrecllm.inference.arguments import folder_of, shown
from sasrecllm.inference.saving import Place
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.machine.signals import interruptible
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import run_at_work
from sasrecllm.settings import Config
from sasrecllm.stages.names import check_names
from sasrecllm.trained import SASRecLLM

COMMAND = "sasrecllm.fit(...)"


def fit(
    interactions: Any = None,
    items: Any = None,
    *,
    out: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    columns: Mapping[str, str | None] | None = None,
    quiet: bool = False,
    force: bool = False,
    **settings: Any,
) -> SASRecLLM:
    """Train and judge a run on a log of interactions; the trained system.

    Frames go through the same checks as files; a refusal names their columns and rows, counted from 0
    (``.iloc``).  Ctrl-C stops at the next safe place; the same call with the same ``out`` goes on.

    Args:
        interactions: who met which item, a row each: a polars or pandas DataFrame, or the path of a
            CSV, Parquet or JSON Lines file.  None where the settings name a data source.
        items: item ids and titles, likewise; None where the titles stand in ``interactions``.
        out: folder for the run; without it the run lies in a temporary folder for as long as the system
            is in use, and :meth:`SASRecLLM.save` keeps it.
        config: a YAML file, a dict or a :class:`Config` to begin with; the defaults otherwise.
        columns: our column name -> name in the tables (``data.columns``).
        quiet: no progress on the terminal.
        force: replace the run that stands in ``out``.
        settings: any others, on top: ``seed=1``, ``encoder={"width": 32}`` or
            ``**{"encoder.width": 32}``; ``budget="15m"`` fits the run into that time on this machine,
            ``quick=True`` makes lists in a minute (the same call without it goes on from there).

    Raises:
        SasrecllmError: a setting, a table or the machine stands in the way; what the subclass says is
            what ``sasrecllm run`` exits with.

    >>> fit("log.csv", "items.csv", strategy="encoder-only").recommend(["i7"])  # doctest: +SKIP
    """
    with lent(interactions, items) as data:
        given = data if interactions is not None else {}
        chosen = _chosen(config, given, columns, settings)
        check_names(chosen)  # a misspelt name leaves no folder behind, and deletes none
        with _place(out) as folder, as_refusals(folder):
            with interruptible(), run_at_work(folder, chosen, COMMAND, quiet=quiet, force=force) as run:
                run_all(run)
            system = SASRecLLM.of_run(RunFolder(folder), chosen.device, run.config)
            if out is None:
                system.place = Place(folder, temporary=True)
    return system


@contextmanager
def _place(out: str | Path | None) -> Iterator[Path]:
    """The run folder: ``out``, or a temporary one, which goes where the block raises."""
    if out is not None:
        yield folder_of(out)
        return
    folder = Path(tempfile.mkdtemp(prefix="sasrecllm-"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _chosen(config: Any, data: Mapping[str, Any], columns: Any, settings: Mapping[str, Any]) -> Config:
    """The checked settings: those of ``config``, then the tables', then the call's own."""
    values = _first(config)
    named = {f"data.{key}": value for key, value in data.items()}
    if columns is not None:
        named["data.columns"] = columns
    for key, value in (*named.items(), *settings.items()):
        _put(values, key, value)
    source = values.get("data", {})
    if not data and "source" not in source:
        raise ConfigError(
            "there is nothing to train on: neither interactions nor a data source were given",
            "give a DataFrame or a path, or a source, for example **{'data.source': 'ml-100k'}",
        )
    return parse_config(values, "settings of fit")


def _first(config: Any) -> dict[str, Any]:
    """Plain values of what the call begins with."""
    if isinstance(config, Config):
        return config.model_dump(exclude_unset=True)
    if isinstance(config, Mapping):
        values: dict[str, Any] = {}
        for key, value in config.items():
            _put(values, key, value)
        return values
    if config is None or isinstance(config, (str, os.PathLike)):
        loaded = load_config(None if config is None else Path(config))
        return loaded.model_dump(exclude_unset=True)
    raise ConfigError(
        f"config is {shown(config)}; allowed: a path, a dict, a Config", "give the path of a YAML file"
    )


def _put(values: dict[str, Any], key: Any, value: Any) -> None:
    """Put a setting at its dotted key; a dict of settings one by one, beside those that stand there."""
    if not isinstance(key, str):
        raise ConfigError(f"a setting is named {shown(key)}; allowed: text", "write for example 'seed'")
    if isinstance(value, Mapping) and not key.startswith("data.columns"):
        for name, inner in value.items():
            _put(values, f"{key}.{name}", inner)
        return
    if isinstance(value, type):  # an encoder of one's own
        value = f"{value.__module__}:{value.__qualname__}"
    put(values, key, dict(value) if isinstance(value, Mapping) else value, "settings of fit")
