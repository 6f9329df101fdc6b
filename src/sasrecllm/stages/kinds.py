"""The kinds of stages by name: one row each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache

from sasrecllm.errors import ConfigError
from sasrecllm.plugins import resolve
from sasrecllm.stages.answer import Answer
from sasrecllm.stages.encode import Encode
from sasrecllm.stages.fuse import Fuse
from sasrecllm.stages.fuse_lists import Lists
from sasrecllm.stages.kind import Kind
from sasrecllm.stages.next_item import NextItem
from sasrecllm.stages.title_prior import TitlePrior

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (Encode(), TitlePrior(), Answer(), Fuse(), NextItem(), Lists())
}


@cache
def _made(cls: type[Kind]) -> Kind:
    """One object of a class, whoever asks: it serves all stages of its kind."""
    return cls()


def kind_of(task: str, stage: str) -> Kind:
    """The kind that a stage's ``task`` names: a row of ``KINDS``, or ``package.module:NAME``.

    Args:
        stage: its name, for refusals.

    Raises:
        ConfigError: there is none, or the object is none.
    """
    what = f"stage {stage!r}: task"
    found = resolve(task, KINDS, what)
    kind = _made(found) if inspect.isclass(found) and issubclass(found, Kind) else found
    if not isinstance(kind, Kind):
        raise ConfigError(
            f"{what} is {task!r}, which is no Kind",
            "name an object or a class that is made from sasrecllm.stages.kind.Kind",
        )
    if not kind.name:
        kind.name = task
    return kind
