"""The scores of a finished stage, made again where forgetting a user took them away."""

from __future__ import annotations

from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.runs.folder import StageFolder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.scores import load_scores
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Stage, Stages, Work
from sasrecllm.types import FloatArray


def stage_scores(
    run: Run, dataset: Dataset, stages: Stages, folder: StageFolder, stage: Stage
) -> dict[str, FloatArray]:
    """Scores of a finished stage: split -> [rows of the split].

    Forgetting a user takes them away, as they stand for rows that went; then the stage's parts score
    the rows that are left.
    """
    if folder.scores.is_dir():
        return load_scores(folder)
    run.progress.line(f"scoring {stage.row} again: users were forgotten since it was scored")
    system = System.load(run.folder, run.config.device, run.config, dataset, until=folder.number)
    scorer = stage.kind.scorer(system, stage, stages)
    return {split: score_questions(scorer, dataset.questions(split)) for split in ("valid", "test")}


def scores_of(work: Work, stage: Stage) -> dict[str, FloatArray]:
    """:func:`stage_scores` of a stage of ``work``, which keeps them."""
    key = ("scores", stage.name)
    if key not in work.cache:
        work.cache[key] = stage_scores(work.run, work.dataset, work.stages, work.folder(stage), stage)
    found: dict[str, FloatArray] = work.cache[key]
    return found
