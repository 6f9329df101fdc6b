"""What the last row of a table is worth without one thing: the same scorer with it taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sasrecllm.evaluation.ablated_scorers import Change, ShuffledHistory
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.runs.opening import Run
from sasrecllm.runs.system import System
from sasrecllm.stages.fuse import Fuse, without_language_model
from sasrecllm.stages.kind import Stage, Stages, Work
from sasrecllm.types import FloatArray, Histories, Questions, Scorer


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


def ablate(
    run: Run, system: System, stages: Stages, test: Questions, whole: FloatArray
) -> dict[str, dict[str, list[float | None]]]:
    """Change of the final row without one thing: ablation -> metric -> [value, low, high]."""
    out = {}
    final = list(stages.values())[-1]
    for name, scorer in ablated(system, final, stages, test.histories):
        run.progress.line(f"ablation: {name}")
        got = score_questions(scorer, test, progress=run.progress.bar(f"ablation, {name}"))
        out[name] = _difference(run, test, got, whole)
    return out


def language_model_gain(work: Work, final: Stage, whole: FloatArray) -> dict[str, list[float | None]]:
    """What a sum gains by the language model: the scores ``whole`` minus those of the sum without it.

    Empty where the final row is no sum of it with something else.
    """
    without = without_language_model(work, final) if isinstance(final.kind, Fuse) else None
    return {} if without is None else _difference(work.run, work.questions("test"), whole, without)


def _difference(
    run: Run, test: Questions, ours: FloatArray, theirs: FloatArray
) -> dict[str, list[float | None]]:
    """``auc`` and ``uauc`` of scores minus those of others, [value, low, high] of paired resamples."""
    users, labels = test.histories.users, test.labels
    boot = UserBootstrap(users, run.config.evaluation.resamples, run.config.seed)
    out = {}
    for metric, value in (("auc", auc), ("uauc", lambda s, y: uauc(s, y, users).value)):
        mine, other = value(ours, labels), value(theirs, labels)
        draws = getattr(boot, metric)(ours, labels) - getattr(boot, metric)(theirs, labels)
        difference = mine - other if mine is not None and other is not None else None
        out[metric] = interval(difference, draws).to_list()
    return out
