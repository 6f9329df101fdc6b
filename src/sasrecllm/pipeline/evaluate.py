"""From the scores of every stage to ``results.json``: one table on one set of rows and resamples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.baselines.table import ALWAYS
from sasrecllm.checkpoint import write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.ablations import ShuffledHistory
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.evaluation.protocol import compare, score_questions
from sasrecllm.evaluation.slices import slices_by_cause
from sasrecllm.llm.hub import cache_only
from sasrecllm.machine.device import pick_device
from sasrecllm.pipeline.rank_lists import rank, wants_ranking
from sasrecllm.runs.folder import Run
from sasrecllm.runs.scores import baseline_folder, load_scores, save_scores
from sasrecllm.runs.seal import resealed
from sasrecllm.runs.stored import part_folders, stage_folder, stored_backbone
from sasrecllm.runs.system import Assembly, Change
from sasrecllm.runs.templates import stored_templates
from sasrecllm.stages.plan import Stage, last_prompt
from sasrecllm.types import FloatArray, Histories, Questions, Scorer


def load_assembly(run: Run, dataset: Dataset, backbone_path: str, until: str | None = None) -> Assembly:
    """All parts of a trained run, as its last stage left them, or the stage ``until``."""
    device, templates = pick_device(run.config.device), stored_templates(run.folder, run.config)
    parts = Assembly(run.config, dataset, backbone_path, device, templates)
    with cache_only():
        for part, folder in part_folders(run.stages, run.folder, until).items():
            parts.load(part, folder)
    return parts


def stage_scores(run: Run, dataset: Dataset, number: int, stage: Stage) -> dict[str, FloatArray]:
    """Scores of a finished stage: split -> [rows of the split].

    Forgetting a user takes them away, as they stand for rows that went; then the stage's parts score
    the rows that are left.
    """
    folder = stage_folder(run.folder, number, stage.name)
    if (folder / "scores").is_dir():
        return load_scores(folder)
    run.progress.line(f"scoring {stage.row} again: users were forgotten since it was scored")
    parts = load_assembly(run, dataset, stored_backbone(run.folder, run.config), stage.name)
    scorer = parts.scorer(stage, last_prompt(run.stages.values()))
    return {split: score_questions(scorer, dataset.questions(split)) for split in ("valid", "test")}


def judge(run: Run, dataset: Dataset, backbone_path: str) -> dict[str, Any]:
    """Rows, slices, paired differences and ablations of the test split, kept as ``results.json``."""
    valid, test = dataset.questions("valid"), dataset.questions("test")
    parts = load_assembly(run, dataset, backbone_path)
    scores: dict[str, FloatArray] = {}
    validation: dict[str, FloatArray] = {}
    # Means of labels say nothing where every row is a like; there popularity is the trivial row.
    popular = ("popularity",) if dataset.implicit else ()
    named = (*ALWAYS, *popular, "user regression", *run.config.evaluation.baselines)
    baselines = dict.fromkeys(named)
    kept: list[tuple[Path, dict[str, FloatArray], dict[str, Any]]] = []
    for number, name in enumerate(baselines):
        started = time.monotonic()
        scorer = parts.component(name, "text")
        scores[name] = score_questions(scorer, test)
        validation[name] = score_questions(scorer, valid)
        rate = (len(test) + len(valid)) / max(1e-9, time.monotonic() - started)
        found = {"valid": validation[name], "test": scores[name]}
        about = {"row": name, "rows_per_second": rate}
        kept.append((baseline_folder(run, number, name), found, about))
    for number, stage in enumerate(run.stages.values(), 1):
        found = stage_scores(run, dataset, number, stage)
        folder = stage_folder(run.folder, number, stage.name) / "scores"
        if not folder.is_dir():
            kept.append((folder, found, {"row": stage.row}))
        scores[stage.row], validation[stage.row] = found["test"], found["valid"]
    evaluations = compare(
        scores,
        test,
        validation_scores=validation,
        validation_labels=valid.labels,
        slices=slices_by_cause(
            test,
            seen_users=dataset.seen_users,
            seen_items=dataset.seen_items,
            train_counts=dataset.train_counts,
        ),
        resamples=run.config.evaluation.resamples,
        seed=run.config.seed,
    )
    final = list(run.stages.values())[-1]
    results = {
        "final": final.row,
        "trivial": [*ALWAYS, *popular],
        "baselines": list(baselines),
        "seed": run.config.seed,
        "evaluation": run.config.evaluation.model_dump(),
        "resamples": run.config.evaluation.resamples,
        "rows": {k: v.to_dict() for k, v in evaluations.items()},
        "ablations": ablate(run, parts, final, test, scores[final.row])
        if run.config.evaluation.ablations
        else {},
        "parameters": parts.trainable_counts(llm=run.uses_language_model),
        "ranking": rank(run, dataset, parts) if wants_ranking(run, dataset) else {},
    }
    with resealed(run.folder):  # nothing is changed before everything is known
        for folder, found, about in kept:
            save_scores(folder, found, about, dataset.digest)
        write_json(run.folder / "results.json", results)
    return results


def ablate(
    run: Run, parts: Assembly, final: Stage, test: Questions, whole: FloatArray
) -> dict[str, dict[str, list[float | None]]]:
    """Change of the final row without one thing: ablation -> metric -> [value, low, high]."""
    boot = UserBootstrap(test.histories.users, run.config.evaluation.resamples, run.config.seed)
    users, labels = test.histories.users, test.labels
    out = {}
    for name, scorer in _ablations(run, parts, final, test.histories):
        run.progress.line(f"ablation: {name}")
        got = score_questions(scorer, test)
        changes = {}
        for metric, value in (("auc", auc), ("uauc", lambda s, y: uauc(s, y, users).value)):
            before, after = value(whole, labels), value(got, labels)
            draws = getattr(boot, metric)(got, labels) - getattr(boot, metric)(whole, labels)
            difference = after - before if before is not None and after is not None else None
            changes[metric] = interval(difference, draws).to_list()
        out[name] = changes
    return out


def _ablations(
    run: Run, parts: Assembly, final: Stage, strangers: Histories
) -> Iterator[tuple[str, Scorer]]:
    prompt = last_prompt(run.stages.values()) if final.task == "fuse" else final.prompt
    uses_llm = run.uses_language_model and final.task in ("answer", "fuse")
    yield (
        "history shuffled",
        ShuffledHistory(parts.scorer(final, prompt), seed=run.config.seed),
    )
    if uses_llm and prompt == "soft":
        yield "soft tokens zeroed", parts.scorer(final, prompt, Change(zero_soft=True))
        change = Change(strangers=strangers)
        yield "soft tokens of another user", parts.scorer(final, prompt, change)
    if uses_llm:
        yield "titles blanked", parts.scorer(final, prompt, Change(blank_titles=True))
        yield "titles swapped among items", parts.scorer(final, prompt, Change(swap_titles=True))


def liked_counts(questions: Questions) -> Any:
    """Liked items in each question's history, [B]."""
    liked = questions.histories.labels == 1
    return np.bincount(questions.histories.owners[liked], minlength=len(questions))
