"""From the scores of every stage to the results table: all rows on the same questions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.baselines.table import baseline_of, shown_baselines
from sasrecllm.checkpoint import write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.alarms import alarms
from sasrecllm.evaluation.protocol import compare, score_questions
from sasrecllm.evaluation.slices import slices_by_cause
from sasrecllm.evaluation.table_metrics import further_metrics
from sasrecllm.pipeline.ranking_table import WHOLE, rank
from sasrecllm.runs.opening import Run
from sasrecllm.runs.scorers import component
from sasrecllm.runs.scores import save_scores
from sasrecllm.runs.seal import resealed
from sasrecllm.runs.standing import written_under
from sasrecllm.runs.system import System
from sasrecllm.stages.ablations import ablate, language_model_gain
from sasrecllm.stages.costs import parameter_counts
from sasrecllm.stages.kind import Work
from sasrecllm.stages.stored_scores import scores_of
from sasrecllm.stages.strategies import asks_language_model, planned
from sasrecllm.types import FloatArray, Questions


def evaluate_run(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Rows, slices, paired differences and ablations of the test split, kept as the run's results."""
    valid, test = dataset.questions("valid"), dataset.questions("test")
    stages = planned(run.config)
    system = System.load(run.folder, run.config.device, run.config, dataset)
    work = Work(run, dataset, system, stages)
    baselines = shown_baselines(dataset.implicit, run.config.evaluation.baselines)
    rows = [
        *_baseline_scores(run, system, baselines, valid, test),
        *_all_stage_scores(work),
    ]
    scores = {row.name: row.scores["test"] for row in rows}
    found_rows = _compared(run, dataset, rows, valid, test)
    final = list(stages.values())[-1]
    ranking = rank(run, dataset, system)
    trivial = [name for name in baselines if baseline_of(name, "").trivial]
    asks = asks_language_model(run.config)
    results = {
        "final": final.row,
        "quick": run.config.quick,
        "trivial": trivial,
        "baselines": list(baselines),
        "seed": run.config.seed,
        **written_under(run.config),
        "resamples": run.config.evaluation.resamples,
        "rows": found_rows,
        "language_model_rows": [
            s.row for s in stages.values() if s.kind.prompt(s, stages, run.config) is not None
        ],
        "language_model_gain": language_model_gain(work, final, scores[final.row]),
        "ablations": ablate(run, system, stages, test, scores[final.row])
        if run.config.evaluation.ablations
        else {},
        "parameters": parameter_counts(system, llm=asks),
        "ranking": ranking,
        "alarms": alarms(
            found_rows,
            final=final.row,
            trivial=trivial,
            rivals=baselines,
            lists=ranking.get(WHOLE),
            shares=_shares(dataset, test),
        ),
    }
    with resealed(run.folder):  # nothing is changed before everything is known
        for row in rows:
            if row.about:
                save_scores(row.place, row.scores, row.about, dataset.digest)
        write_json(run.folder.results, results)
    run.tracking.log("test", {name: found["metrics"] for name, found in found_rows.items()})
    return results


@dataclass(frozen=True)
class _Row:
    """The scores of a row of the table: ``valid`` and ``test`` -> [B].

    Args:
        place: where they are kept.
        about: kept beside them; empty where they stand there already.
    """

    name: str
    scores: dict[str, FloatArray]
    place: Path
    about: dict[str, Any]


def _compared(
    run: Run, dataset: Dataset, rows: Sequence[_Row], valid: Questions, test: Questions
) -> dict[str, Any]:
    """Name of each row -> its metrics, intervals, slices and differences, all on the same questions."""
    slices = slices_by_cause(
        test,
        seen_users=dataset.seen_users,
        seen_items=dataset.seen_items,
        train_counts=dataset.train_counts,
    )
    found = compare(
        {row.name: row.scores["test"] for row in rows},
        test,
        validation_scores={row.name: row.scores["valid"] for row in rows},
        validation_labels=valid.labels,
        slices=slices,
        resamples=run.config.evaluation.resamples,
        seed=run.config.seed,
        metrics=further_metrics(run.config.evaluation.metrics),
        progress=run.progress.bar("intervals, row"),
    )
    return {name: of_row.to_dict() for name, of_row in found.items()}


def _baseline_scores(
    run: Run, system: System, names: Sequence[str], valid: Questions, test: Questions
) -> Iterator[_Row]:
    for number, name in enumerate(names):
        started = time.monotonic()
        scorer = component(system, name, "text")
        asked = score_questions(scorer, test, progress=run.progress.bar(f"scoring {name}"))
        scores = {"valid": score_questions(scorer, valid), "test": asked}
        rate = (len(test) + len(valid)) / max(1e-9, time.monotonic() - started)
        about = {"row": name, "rows_per_second": rate}
        yield _Row(name, scores, run.folder.baseline(number, name), about)


def _all_stage_scores(work: Work) -> Iterator[_Row]:
    for folder, stage in work.run.folder.of_stages(work.stages):
        about = {} if folder.scores.is_dir() else {"row": stage.row}
        yield _Row(stage.row, scores_of(work, stage), folder.scores, about)


def _shares(dataset: Dataset, test: Questions) -> dict[str, tuple[float, float]]:
    """Shares of the liked and of the drawn test items, where others are drawn: without a training row,
    and met by their user before, where such items are not served."""
    if not dataset.implicit:
        return {}
    liked = test.labels == 1
    facts = {"have no training row": ~dataset.seen_items[test.targets]}
    if not dataset.allow_seen:
        met = test.histories.items == test.targets[test.histories.owners]
        again = np.isin(np.arange(len(test)), test.histories.owners[met])
        facts["stand in their user's history"] = again
    return {what: (float(of[liked].mean()), float(of[~liked].mean())) for what, of in facts.items()}
