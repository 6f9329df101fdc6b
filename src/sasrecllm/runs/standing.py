"""Whether a file of a run folder still stands: under which settings it was measured and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sasrecllm.checkpoint import read_json
from sasrecllm.former_settings import translated
from sasrecllm.settings import Config


def standing(path: Path, config: Config) -> dict[str, Any] | None:
    """What a file of a run folder says, if it was written under these settings (:func:`written_under`).

    A quick run's says nothing of the whole run.
    """
    values = read_json(path) if path.is_file() else {}
    there = translated(values).get("evaluation")  # of an earlier version, perhaps
    alike = there == config.evaluation.model_dump() and values.get("quick", False) == config.quick
    return values if alike and values.get("index", "exact") == config.recommend.index else None


def written_under(config: Config) -> dict[str, Any]:
    """The settings that may change in a run and what is measured depends on, for such a file."""
    index = config.recommend.index
    return {"evaluation": config.evaluation.model_dump()} | (
        {} if index == "exact" else {"index": index}
    )
