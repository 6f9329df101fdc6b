"""What the last row of a table is worth without one thing: the same scorer with it taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sasrecllm.evaluation.ablated_scorers import Change, ShuffledHistory
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Stage, Stages
from sasrecllm.types import Histories, Scorer


@dataclass(frozen=True)
class Ablation:
    """One thing to take away from the language model.

    Args:
        prompts: those of which it is a part.
        change: makes it, of the histories whose users may stand in for others.
    """

    prompts: tuple[str, ...]
    change: Callable[[Histories], Change]


ABLATIONS: Mapping[str, Ablation] = {
    "soft tokens zeroed": Ablation(("soft",), lambda _: Change(zero_soft=True)),
    "soft tokens of another user": Ablation(("soft",), lambda users: Change(strangers=users)),
    "titles blanked": Ablation(("text", "soft"), lambda _: Change(blank_titles=True)),
    "titles swapped among items": Ablation(("text", "soft"), lambda _: Change(swap_titles=True)),
}
"""One row each; a stage that asks no language model has none of them."""


def ablated(
    system: System, stage: Stage, stages: Stages, strangers: Histories
) -> Iterator[tuple[str, Scorer]]:
    """Name and scorer of every ablation that says something about ``stage``.

    Args:
        strangers: histories of those who may stand in for another user.
    """
    scorer = stage.kind.scorer(system, stage, stages)
    yield "history shuffled", ShuffledHistory(scorer, seed=system.config.seed)
    prompt = stage.kind.prompt(stage, stages, system.config)
    for name, row in ABLATIONS.items():
        if prompt in row.prompts:
            yield name, stage.kind.scorer(system, stage, stages, row.change(strangers))
