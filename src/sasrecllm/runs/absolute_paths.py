"""Paths in settings, as a run keeps them: the same file from whatever folder it is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sasrecllm.llm.naming import backbone_path
from sasrecllm.llm.sources import source_of
from sasrecllm.prompts.template import is_shipped
from sasrecllm.runs.templates import AUTO
from sasrecllm.settings import Config


def with_absolute_paths(config: Config) -> Config:
    """The same settings with absolute paths of what is read again later; ``~`` is home.

    That is the language model's folder, the prompt templates and the runs that stages load parts from.
    The data is read once.
    """
    c = config.llm
    llm = {
        "backbone": c.backbone if source_of(c.backbone).in_run else backbone_path(c.backbone),
        "text_prompt": _template(c.text_prompt),
        "soft_prompt": _template(c.soft_prompt),
    }
    changed: dict[str, Any] = {"llm": c.model_copy(update=llm)}
    if not isinstance(config.strategy, str):
        changed["strategy"] = [_stage(stage) for stage in config.strategy]
    return config.model_copy(update=changed)


def _stage(fields: dict[str, Any]) -> dict[str, Any]:
    load = fields.get("load")
    if not isinstance(load, dict):
        return fields
    return fields | {"load": {p: absolute(r) if isinstance(r, str) else r for p, r in load.items()}}


def _template(name: str) -> str:
    """A file's path; what is neither shipped nor a file stays as it was typed, for the refusal."""
    path = absolute(name)
    return path if name != AUTO and not is_shipped(name) and os.path.isfile(path) else name


def absolute(path: str) -> str:
    """``path`` from the root on; what names no home folder stays as it is."""
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:  # ~ of a user who has no home
        return path
