"""Scores and costs of every row of a run's table, as they stand on disk."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sasrecllm.checkpoint import load_part, read_json, save_part
from sasrecllm.errors import CheckpointError
from sasrecllm.runs.folder import Run
from sasrecllm.runs.stored import stage_folder
from sasrecllm.types import FloatArray

BASELINES_FOLDER = "baselines"
LANGUAGE_SECONDS = "language.json"


def save_scores(
    folder: Path, scores: Mapping[str, FloatArray], about: dict[str, Any], data: str
) -> None:
    """Commit the scores of one scorer: split -> [rows of the split]; ``data`` is the data's digest."""
    tensors = {k: torch.from_numpy(v) for k, v in scores.items()}
    rows = {k: len(v) for k, v in scores.items()}
    save_part(folder, tensors, about | {"rows": rows}, {"data": data})


def load_scores(folder: Path) -> dict[str, FloatArray]:
    """Scores of a finished stage: split -> [rows of the split].

    Raises:
        CheckpointError: they are damaged, or went when a user was forgotten.
    """
    if not (folder / "scores").is_dir():
        raise CheckpointError(
            f"{folder} has no scores: they stood for rows of a user who was forgotten since",
            "give `sasrecllm evaluate` and the run folder: it scores again",
        )
    tensors, _ = load_part(folder / "scores", {})
    return {k: v.double().numpy() for k, v in tensors.items()}


def row_scores(run: Run) -> dict[str, dict[str, FloatArray]]:
    """Table row -> split -> score of every question of a judged run, in the table's order."""
    found = {}
    for folder in sorted((run.folder / BASELINES_FOLDER).glob("*/part.json")):
        tensors, about = load_part(folder.parent, {})
        found[str(about["row"])] = {k: v.double().numpy() for k, v in tensors.items()}
    for number, stage in enumerate(run.stages.values(), 1):
        found[stage.row] = load_scores(stage_folder(run.folder, number, stage.name))
    order = [row for row in read_json(run.folder / "results.json", rows=dict)["rows"] if row in found]
    return {row: found[row] for row in order}


def costs(run: Run, parameters: Mapping[str, int]) -> dict[str, dict[str, float | None]]:
    """Row -> training seconds, parameters trained and in all, and rows scored in a second.

    A row's seconds are those of everything that it needs: a soft prompt of the encoder and of the
    stages before it, a text prompt of the language model alone.

    Args:
        parameters: parameters of each part, from the results.
    """
    path = run.folder / LANGUAGE_SECONDS
    language = float(read_json(path, seconds=(int, float))["seconds"]) if path.is_file() else 0.0
    llm = sum(v for k, v in parameters.items() if k not in ("encoder", "mapper"))
    out: dict[str, dict[str, float | None]] = {}
    for folder in sorted((run.folder / BASELINES_FOLDER).glob("*/part.json")):
        _, about = load_part(folder.parent, {})
        rate = about["rows_per_second"]
        out[str(about["row"])] = _cost(0.0, 0, 0, rate)
    encoder = asking = last = all_before = 0.0
    for number, stage in enumerate(run.stages.values(), 1):
        where = stage_folder(run.folder, number, stage.name) / "stage.json"
        about = read_json(where, seconds=(int, float), seconds_per_row=(int, float), result=dict)
        seconds, per_row = float(about["seconds"]), float(about["seconds_per_row"])
        trained = about["result"].get("trained_parameters", 0)
        all_before += seconds
        if stage.task in ("encode", "prior"):
            encoder += seconds
            asking += per_row
            out[stage.row] = _cost(encoder, trained, parameters["encoder"], 1 / per_row)
        elif stage.prompt == "text" and stage.task == "answer":
            out[stage.row] = _cost(language + seconds, trained, llm, 1 / per_row)
        else:
            slowest = asking + (last if stage.task == "fuse" else per_row)
            everything = sum(parameters.values())
            out[stage.row] = _cost(language + all_before, trained, everything, 1 / slowest)
        last = per_row
    return out


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def baseline_folder(run: Run, number: int, name: str) -> Path:
    """Where the scores of the ``number``-th baseline lie."""
    return run.folder / BASELINES_FOLDER / f"{number:02d}-{name.replace(' ', '-').replace('/', '-')}"


def _cost(seconds: float, trained: int, parameters: int, rate: float) -> dict[str, float | None]:
    return {
        "train_seconds": round(seconds, 1),
        "trained_parameters": trained,
        "parameters": parameters,
        "rows_per_second": round(rate, 1),
    }
