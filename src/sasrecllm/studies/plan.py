"""A study on paper: data sets × rows × seeds, each cell the settings of one ordinary run.

The file is YAML.  ``set`` holds settings as in a run's own file (dotted keys allowed); a row's come on
top of its data set's.  ``{run:NAME}`` inside a setting becomes the run folder of row NAME for the same
data set and seed, so that parts trained there are loaded instead of trained again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from sasrecllm.config import explained, parse_config, put, read_overrides, read_yaml
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.settings import Config, Section

REFERENCE = re.compile(r"\{run:([^}]*)\}")


class Range(Section):
    """Values that tuning may try: a list of choices, or all from ``low`` to ``high``."""

    choices: list[Any] = Field(default_factory=list)
    low: float | None = None
    high: float | None = None
    log: bool = Field(False, description="uniform in the logarithm")

    @model_validator(mode="after")
    def _holds_something(self) -> Range:
        low, high = self.low, self.high
        ordered = low is not None and high is not None and low <= high
        if not self.choices and not (ordered and (low or 0) > 0 if self.log else ordered):
            raise ValueError(
                f"choices is {self.choices}, low {low}, high {high}, log {str(self.log).lower()};"
                " allowed: choices, or low and high with low ≤ high, and low above 0 where log is true"
            )
        return self


class Tuning(Section):
    """One budget for every row that has a space; the test split is never scored."""

    trials: int = Field(0, ge=0, description="trials of each row; 0: no tuning")
    metric: Literal["auc", "uauc", "auc+uauc"] = "auc+uauc"


class DataSet(Section):
    """One data set: a run's file and what differs."""

    config: str | None = Field(None, description="YAML file, relative to the study's")
    set: dict[str, Any] = Field(default_factory=dict)


class Row(Section):
    """One model: what differs from the data set's settings."""

    set: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Range] = Field(default_factory=dict, description="dotted key -> what to try")
    tuned_as: str | None = Field(None, description="take over what tuning chose for this row")
    show: dict[str, str] = Field(
        default_factory=dict, description="row of the run's table -> its name here; empty: the last"
    )
    seeds: list[int] | None = Field(None, description="fewer seeds than the study's, for costly rows")
    datasets: list[str] | None = Field(None, description="only these data sets")


class Plan(Section):
    """A whole study."""

    name: str
    seeds: list[int] = Field(default_factory=lambda: [0], min_length=1)
    reference: str = Field("item mean + user mean", description="row that differences are against")
    baselines: list[str] = Field(
        default_factory=list, description="rows beside the trivial ones, for example ItemKNN"
    )
    tuning: Tuning = Tuning()
    datasets: dict[str, DataSet] = Field(min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    resamples: int = Field(1000, ge=100)


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    dataset: str
    row: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Its run folder."""
        return out / slug(self.dataset) / slug(self.row) / f"seed-{self.seed}"


def slug(name: str) -> str:
    """A name as part of a path.

    >>> slug("SASRec, likes & dislikes")
    'SASRec-likes-dislikes'
    """
    return re.sub(r"[^\w.+-]+", "-", name).strip("-")


def load_plan(path: Path, overrides: Iterable[str] = ()) -> Plan:
    """The checked plan; ``datasets.NAME.set.data.path=...`` and their like come on top of the file.

    Raises:
        ConfigError: an unknown key, row or data set, or two names that give one folder.
    """
    values = read_yaml(path)
    for key, value, where in read_overrides(overrides):
        put(values, key, value, where)
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        remedy = "correct the key; docs/study.md shows every one"
        if runs := [
            key for key in values if key in Config.model_fields and key not in Plan.model_fields
        ]:
            remedy += f", and a setting of the runs is datasets.NAME.set.{runs[0]}"
        raise ConfigError(f"{path}: {explained(error, Plan)}", remedy) from None
    for what, names in (("datasets", plan.datasets), ("rows", plan.rows)):
        if len({slug(n) for n in names}) < len(names) or not all(map(slug, names)):
            raise ConfigError(
                f"{path}: {what} {list(names)} do not give distinct folder names", "rename one of them"
            )
    for name, row in plan.rows.items():
        if row.tuned_as is not None and row.tuned_as not in plan.rows:
            raise ConfigError(
                f"{path}: rows.{name}.tuned_as is {row.tuned_as!r}; allowed: {', '.join(plan.rows)}"
                + did_you_mean(row.tuned_as, plan.rows),
                "name a row of this study that has a space",
            )
        for dataset in row.datasets or ():
            if dataset not in plan.datasets:
                raise ConfigError(
                    f"{path}: rows.{name}.datasets has {dataset!r}; allowed:"
                    f" {', '.join(plan.datasets)}{did_you_mean(dataset, plan.datasets)}",
                    "name a data set of this study",
                )
    return plan


def load_space(path: Path) -> dict[str, Range]:
    """A search space out of a YAML file: dotted key -> range.

    Raises:
        ConfigError: a range is wrong.
    """
    try:
        for key, value in (ranges := read_yaml(path)).items():
            if not isinstance(key, str):
                raise ConfigError(f"{path}: {key!r} is no setting", "write a dotted key: encoder.width")
            ranges[key] = Range.model_validate(value)
        return ranges
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {key}: {explained(error, Range)}",
            "write key: {choices: [..]} or key: {low: .., high: .., log: true}",
        ) from None


def cells_of(plan: Plan) -> list[Cell]:
    """Every run, in the order in which a row stands after those whose parts it may load."""
    return [
        Cell(dataset, name, seed)
        for dataset in plan.datasets
        for name, row in plan.rows.items()
        if row.datasets is None or dataset in row.datasets
        for seed in (plan.seeds if row.seeds is None else row.seeds)
    ]


def settings_of(
    plan: Plan, cell: Cell, folder: Path, out: Path, chosen: Mapping[str, Any] | None = None
) -> Config:
    """The settings of one run.

    Args:
        folder: of the study's file, from which the data set's ``config`` is found.
        out: the study's folder, where the runs that ``{run:NAME}`` names lie.
        chosen: dotted key -> value that tuning chose.

    Raises:
        ConfigError: a setting is wrong; the message names data set and row.
    """
    dataset, row = plan.datasets[cell.dataset], plan.rows[cell.row]
    where = f"datasets.{cell.dataset} with rows.{cell.row}"
    values: dict[str, Any] = read_yaml(folder / dataset.config) if dataset.config else {}
    # A study asks for ablations where a row's own settings do; they cost a pass each.
    usual = {"ablations": False, "resamples": plan.resamples, "baselines": plan.baselines}
    for changes in ({"evaluation": usual}, dataset.set, row.set, chosen or {}):
        merge(values, changes, where)
    values |= {"seed": cell.seed, "name": f"{slug(cell.dataset)}-{slug(cell.row)}"}
    values.setdefault("data", {}).setdefault("seed", 0)
    return parse_config(_resolved(values, plan, cell, out), where)


def merge(values: dict[str, Any], changes: Mapping[str, Any], where: str) -> None:
    """Put ``changes`` on top of nested ``values``; keys may be dotted."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and "." not in key:
            inner = values.setdefault(key, {})
            if isinstance(inner, dict):
                merge(inner, value, where)
                continue
        put(values, key, value, where)


def _resolved(value: Any, plan: Plan, cell: Cell, out: Path) -> Any:
    """``value`` with every ``{run:NAME}`` replaced by that run's folder."""
    if isinstance(value, Mapping):
        return {k: _resolved(v, plan, cell, out) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_resolved(v, plan, cell, out) for v in value]
    if not isinstance(value, str):
        return value

    def folder(match: re.Match[str]) -> str:
        if match[1] not in plan.rows:
            raise ConfigError(
                f"rows.{cell.row}: {match[0]} names no row; allowed: {', '.join(plan.rows)}"
                + did_you_mean(match[1], plan.rows),
                "name a row of this study",
            )
        return str(Cell(cell.dataset, match[1], cell.seed).folder(out).absolute())

    return REFERENCE.sub(folder, value)
