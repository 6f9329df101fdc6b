"""What every row of a run's table cost: time of training, parameters, rows scored in a second."""

from __future__ import annotations

from collections.abc import Mapping

from sasrecllm.checkpoint import read_json
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.parts import PARTS, part_of
from sasrecllm.runs.scores import baseline_rates
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Spent, Stages


def costs(
    folder: RunFolder, stages: Stages, parameters: Mapping[str, int]
) -> dict[str, dict[str, float | None]]:
    """Row -> training seconds, parameters trained and in all, and rows scored in a second.

    A row's seconds are those of everything that it needs: a soft prompt of the encoder and of the
    stages before it, a text prompt of the language model alone.

    Args:
        parameters: parameters of each part, from the results.
    """
    number = (int, float)
    path = folder.language_seconds
    spent = Spent(float(read_json(path, seconds=number)["seconds"]) if path.is_file() else 0.0)
    out = {row: _cost(0.0, 0, 0, rate) for row, rate in baseline_rates(folder).items()}
    for where, stage in folder.of_stages(stages):
        about = read_json(where.about, seconds=number, seconds_per_row=number, result=dict)
        spent.own, per_row = float(about["seconds"]), float(about["seconds_per_row"])
        spent.everything += spent.own
        cost = stage.kind.cost(stage, spent, per_row, parameters)
        trained = about["result"].get("trained_parameters", 0)
        out[stage.row] = _cost(cost.seconds, trained, cost.parameters, 1 / cost.seconds_per_row)
        if stage.kind.component:
            spent.per_row[stage.kind.component] = per_row
    return out


def _cost(seconds: float, trained: int, parameters: int, rate: float) -> dict[str, float | None]:
    return {
        "train_seconds": round(seconds, 1),
        "trained_parameters": trained,
        "parameters": parameters,
        "rows_per_second": round(rate, 1),
    }


def parameter_counts(system: System, *, llm: bool = True) -> dict[str, int]:
    """Parameters of each part (the adapter's and the mapper's are what the paper trains).

    Args:
        llm: whether the run has a language model.
    """
    names = ("encoder", "adapter", "mapper") if llm else ("encoder",)
    others = [name for name in system.origin if name not in PARTS]
    counts = {name: part_of(name).count(system) for name in (*names, *others)}
    if llm:
        whole = sum(p.numel() for p in system.backbone.parameters())
        counts["language model without adapter"] = whole - counts["adapter"]
    return counts
