"""Scores of every row of a run's table, as they stand on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sasrecllm.checkpoint import load_part, read_json, save_part
from sasrecllm.errors import CheckpointError
from sasrecllm.runs.folder import RunFolder, StageFolder
from sasrecllm.types import FloatArray


def save_scores(
    folder: Path, scores: Mapping[str, FloatArray], about: dict[str, Any], data: str
) -> None:
    """Commit the scores of one scorer: split -> [rows of the split]; ``data`` is the data's digest."""
    tensors = {k: torch.from_numpy(v) for k, v in scores.items()}
    rows = {k: len(v) for k, v in scores.items()}
    save_part(folder, tensors, about | {"rows": rows}, {"data": data})


def load_scores(stage: StageFolder) -> dict[str, FloatArray]:
    """Scores of a finished stage: split -> [rows of the split].

    Raises:
        CheckpointError: they are damaged, or went when a user was forgotten.
    """
    if not stage.scores.is_dir():
        raise CheckpointError(
            f"{stage} has no scores: they stood for rows of a user who was forgotten since",
            "give `sasrecllm evaluate` and the run folder: it scores again",
        )
    return _read(stage.scores)[1]


def row_scores(folder: RunFolder) -> dict[str, dict[str, FloatArray]]:
    """Table row -> split -> score of every question of a judged run, in the table's order."""
    baselines = sorted(p for p in folder.baselines.glob("*") if p.is_dir())
    stages = {row: s for s in folder.stage_folders() if s.number and (row := _row(s))}
    found = dict(map(_read, baselines)) | {row: load_scores(s) for row, s in stages.items()}
    order = [row for row in read_json(folder.results, rows=dict)["rows"] if row in found]
    return {row: found[row] for row in order}


def stage_rows(folder: RunFolder) -> set[str]:
    """Rows of the table that stages of the run trained."""
    return {row for stage in folder.stage_folders() if stage.number and (row := _row(stage))}


def baseline_rates(folder: RunFolder) -> dict[str, float]:
    """Row of every baseline -> rows that it scored in a second."""
    found = [load_part(p, {})[1] for p in sorted(folder.baselines.glob("*")) if p.is_dir()]
    return {str(about["row"]): float(about["rows_per_second"]) for about in found}


def _row(stage: StageFolder) -> str:
    """The stage's row in the table; empty where it has none."""
    return str(read_json(stage.about, row=str)["row"])


def _read(folder: Path) -> tuple[str, dict[str, FloatArray]]:
    """Name of the row, and its scores."""
    tensors, about = load_part(folder, {})
    return str(about["row"]), {k: v.double().numpy() for k, v in tensors.items()}
