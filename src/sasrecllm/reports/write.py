"""Writing the report of a run: its pictures, the results table for people, and the page itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sasrecllm.checkpoint import read_json, write_text
from sasrecllm.data.dataset import Dataset
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.reports import plots, run_report
from sasrecllm.reports.data_card import bars_of, card_rows
from sasrecllm.reports.list_tables import ranking_tables
from sasrecllm.reports.people import liked_titles, people_of
from sasrecllm.reports.verdict import verdict
from sasrecllm.runs.folder import TRUTH
from sasrecllm.runs.language_model import is_own
from sasrecllm.runs.opening import Run
from sasrecllm.runs.stored import stored_calibration
from sasrecllm.stages.advice import run_card
from sasrecllm.stages.costs import costs
from sasrecllm.stages.stored_scores import stage_scores
from sasrecllm.stages.strategies import all_stages, asks_language_model, planned
from sasrecllm.types import IntArray, Questions

PLOTS = (
    "Metrics: every row with its interval",
    "History: AUC by the number of likes known",
    "Calibration: said against true share of likes",
    "Curves: training loss and validation AUC of each stage",
)
"""Titles of the pictures; what stands before the colon names the file."""


def write_report(run: Run, dataset: Dataset, *, redraw: bool = True) -> None:
    """Plots as SVG files, the results table for people and the self-contained report.

    Args:
        redraw: False takes the plots that stand, where the results are those that they show.
    """
    results = read_json(
        run.folder.results,
        final=str,
        trivial=list,
        baselines=list,
        rows=dict,
        ablations=dict,
        parameters=dict,
    )
    truth = run.folder.data / TRUTH
    said = verdict(results, costs(run.folder, planned(run.config), results["parameters"]))
    shown, card = read_json(run.folder.showcase), run_card(run.config, dataset)
    inputs = run_report.ReportInputs(
        title=f"{run.name} ({dataset.name})",
        command=run.command,
        seed=run.config.seed,
        final=results["final"],
        trivial=results["trivial"],
        rivals=results["baselines"],
        rows=results["rows"],
        ablations=results["ablations"],
        ranking=results.get("ranking", {}),
        verdict=said,
        alarms=results.get("alarms", []),
        liked=liked_titles(dataset, shown),
        people=people_of(dataset, shown),
        card=card_rows(card),
        ratings=bars_of(card),
        advice=card.advice,
        plots=_redrawn(run, dataset, results) if redraw else _standing_plots(run),
        facts=_facts(run, dataset, results),
        truth=read_json(truth) if truth.is_file() else None,
        recommendations=shown,
        notes=_notes(run, dataset),
        update=read_json(run.folder.update) if run.folder.update.is_file() else None,
        config_yaml=yaml.safe_dump(run.config.model_dump(), sort_keys=False, allow_unicode=True),
    )
    table = "\n\n".join(said) + "\n\n" + run_report.markdown_table(results["rows"], results["final"])
    table += "\n" + ranking_tables(results.get("ranking", {}))
    write_text(run.folder.results_table, table.strip() + "\n")
    write_text(run.folder.report, run_report.html_report(inputs))


def _plot_files(run: Run) -> dict[str, Path]:
    """Title of each picture -> its file."""
    folder = run.folder.plots
    return {title: folder / f"{title.split(':')[0].replace(' ', '-').lower()}.svg" for title in PLOTS}


def _redrawn(run: Run, dataset: Dataset, results: dict[str, Any]) -> dict[str, str]:
    """Title -> SVG of every picture, drawn anew and written."""
    drawn = dict(zip(PLOTS, draw(run, dataset, results), strict=True))
    run.folder.plots.mkdir(exist_ok=True)
    for title, path in _plot_files(run).items():
        write_text(path, drawn[title])
    return drawn


def _standing_plots(run: Run) -> dict[str, str]:
    """Title -> SVG of the pictures that were drawn before."""
    return {title: f.read_text("utf-8") for title, f in _plot_files(run).items() if f.is_file()}


def draw(run: Run, dataset: Dataset, results: dict[str, Any]) -> list[str]:
    """SVG of every picture, in the order of ``PLOTS``."""
    stages = planned(run.config)
    numbered = list(run.folder.of_stages(stages))
    curves = {}
    for folder, stage in numbered:
        if folder.metrics.is_file():
            lines = folder.metrics.read_text(encoding="utf-8").splitlines()
            curves[stage.name] = [json.loads(line) for line in lines]
    test = dataset.questions("test")
    by_row = {s.row: stage_scores(run, dataset, stages, f, s)["test"] for f, s in numbered}
    final = results["final"]
    probabilities = {
        name: stored_calibration(run.folder, name).probabilities(scores)
        for name, scores in by_row.items()
        if name == final
    }
    bars = {name: row["intervals"] for name, row in results["rows"].items()}
    return [
        plots.metric_bars(bars, results["trivial"]),
        plots.auc_by_history(by_row, test.labels, _liked_counts(test), results["trivial"]),
        plots.calibration_plot(probabilities, test.labels),
        plots.training_curves(curves),
    ]


def _facts(run: Run, dataset: Dataset, results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    counted = ("rows", "users", "items", "splits", "notes")  # which are on the data card
    data = {k: v for k, v in dataset.summary().items() if k not in counted}
    training = {}
    for folder, stage in run.folder.of_stages(all_stages(run.config)):
        if not folder.about.is_file():  # of a run that is older than the stage
            continue
        about = read_json(folder.about, seconds=(int, float))
        training[stage.name] = f"{readable_seconds(about['seconds'])}; trains {', '.join(stage.train)}"
    return {
        "Data": data,
        "Training": training,
        "Parameters": {k: f"{v:,}" for k, v in results["parameters"].items()},
        "Versions": read_json(run.folder.environment),
    }


def _notes(run: Run, dataset: Dataset) -> list[str]:
    notes = list(dataset.notes)
    if is_own(run.config) and asks_language_model(run.config):
        notes.append(
            "The language model was built within this run, from random weights: its tokenizer and its"
            " pretraining saw the catalogue's titles and the training split's histories and answers,"
            " and no row of validation or test."
        )
    if gone := len(dataset.catalog.forgotten):
        notes.append(
            f"Users forgotten after training: {gone}. Their rows are no longer in data/."
            " The weights were trained with them, and so were figures judged before."
        )
    notes.append(
        "Early stopping, calibration and fusion were fitted on the validation split; the test split"
        " was scored once, at the end of each stage."
    )
    return notes


def _liked_counts(questions: Questions) -> IntArray:
    """Liked items in each question's history, [B]."""
    liked = questions.histories.labels == 1
    return np.bincount(questions.histories.owners[liked], minlength=len(questions))
