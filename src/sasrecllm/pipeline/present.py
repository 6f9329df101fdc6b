"""What a run shows at its end: recommendations for three cases, plots, and the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import yaml

from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.data.dataset import Dataset
from sasrecllm.inference.recommender import SASRecLLM
from sasrecllm.machine.output import Output, is_unicode, say
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.pipeline.evaluate import liked_counts, stage_scores
from sasrecllm.reports import plots, run_report
from sasrecllm.runs.folder import Run
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stage_folder, stored_calibration

SHOWN = 10
"""Items of a list in the showcase."""

PLOTS = (
    "Metrics: every row with its interval",
    "History: AUC by the number of likes known",
    "Calibration: said against true share of likes",
    "Curves: training loss and validation AUC of each stage",
)
"""Titles of the pictures; what stands before the colon names the file."""


def choose_cases(dataset: Dataset) -> dict[str, str]:
    """A warm user, a new user and a new item of the test split: the ones with the most test rows."""
    rows = dataset.rows("test")
    users, items = dataset.users[rows], dataset.items[rows]
    new_user, new_item = ~dataset.seen_users[users], ~dataset.seen_items[items]
    cases = {}
    if (~new_user).any():
        cases["warm user"] = dataset.catalog.user_id(_commonest(users[~new_user]))
    if new_user.any():
        cases["new user"] = dataset.catalog.user_id(_commonest(users[new_user]))
    if new_item.any():
        cases["new item"] = dataset.catalog.item_id(_commonest(items[new_item]))
    return cases


def showcase(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Recommendations for a warm and a new user, and users for a new item."""
    system = SASRecLLM.load(run.folder, run.config.device, run.config)
    shown: dict[str, Any] = {}
    for case, raw in choose_cases(dataset).items():
        if case == "new item":
            title = dataset.catalog.title(int(dataset.catalog.item_index([raw])[0]))
            lines = [
                {
                    "rank": a["rank"],
                    "item_id": a["user_id"],
                    "title": f"user {a['user_id']}, who liked {a['recently_liked']!r}",
                    "probability": a["probability"],
                    "flags": [],
                }
                for a in system.audience(raw, SHOWN)
            ]
            shown[f"{case} {raw}, {title!r}: who would like it"] = lines
        else:
            shown[f"{case} {raw}"] = [r.to_dict() for r in system.recommend(user=raw, k=SHOWN)]
    write_json(run.folder / "showcase.json", shown)
    return shown


def load_showcase(folder: Path) -> dict[str, Any]:
    """The recommendation lists that a finished run shows."""
    return read_json(choose_run(folder) / "showcase.json")


def print_lists(lists: Mapping[str, Any], as_json: bool) -> None:
    """Recommendation lists for the terminal, or as JSON for a program."""
    from rich.markup import escape
    from rich.table import Table

    if as_json:
        # A narrow encoding would spell out what it lacks in Python's way, which is no JSON.
        say(json.dumps(lists, ensure_ascii=not is_unicode(sys.stdout), indent=2))
        return
    for heading, lines in lists.items():
        table = Table(title=escape(heading), title_justify="left")
        for column in ("rank", "id", "title", "P(like)", ""):
            table.add_column(column)
        for line in lines:
            cells = [str(line["rank"]), line["item_id"], line["title"]]
            cells += [f"{line['probability']:.2f}", ", ".join(line["flags"])]
            table.add_row(*map(escape, cells))
        _show(table)


def print_results(folder: Path) -> None:
    """The results table of a run for the terminal."""
    results = read_json(folder / "results.json", final=str, rows=dict, seed=int)
    rows = results["rows"]
    test_rows = rows[results["final"]]["rows"]
    title = f"test split, {test_rows} rows, seed {results['seed']}, 95 % user-bootstrap intervals"
    _show(run_report.console_table(rows, results["final"], title))


def _show(table: Any) -> None:
    """Print a table of rich's; where nobody reads it, that is no failure."""
    from rich.console import Console

    Console(file=cast("IO[str]", Output())).print(table)


def write_report(run: Run, dataset: Dataset, *, redraw: bool = True) -> None:
    """Plots as SVG files, ``results.md`` and the self-contained ``run_report.html``.

    Args:
        redraw: False takes the plots that stand, where the results are those that they show.
    """
    results = read_json(
        run.folder / "results.json",
        final=str,
        trivial=list,
        baselines=list,
        rows=dict,
        ablations=dict,
        parameters=dict,
    )
    folder = run.folder / "plots"
    files = {title: folder / f"{title.split(':')[0].replace(' ', '-').lower()}.svg" for title in PLOTS}
    if redraw:
        drawn = dict(zip(PLOTS, draw(run, dataset, results), strict=True))
        folder.mkdir(exist_ok=True)
        for title, svg in drawn.items():
            write_text(files[title], svg)
    else:
        drawn = {title: f.read_text("utf-8") for title, f in files.items() if f.is_file()}
    truth = run.folder / "data" / "truth.json"
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
        plots=drawn,
        facts=_facts(run, dataset, results),
        truth=read_json(truth) if truth.is_file() else None,
        recommendations=read_json(run.folder / "showcase.json"),
        notes=_notes(run, dataset),
        config_yaml=yaml.safe_dump(run.config.model_dump(), sort_keys=False, allow_unicode=True),
    )
    table = run_report.markdown_table(results["rows"], results["final"])
    table += "\n" + run_report.ranking_tables(results.get("ranking", {}))
    write_text(run.folder / "results.md", table.strip() + "\n")
    write_text(run.folder / "report.html", run_report.html_report(inputs))


def draw(run: Run, dataset: Dataset, results: dict[str, Any]) -> list[str]:
    """SVG of every picture, in the order of ``PLOTS``."""
    stages = list(enumerate(run.stages.values(), 1))
    curves = {}
    for number, stage in stages:
        path = stage_folder(run.folder, number, stage.name) / "metrics.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            curves[stage.name] = [json.loads(line) for line in lines]
    test = dataset.questions("test")
    by_row = {stage.row: stage_scores(run, dataset, n, stage)["test"] for n, stage in stages}
    final = results["final"]
    probabilities = {
        name: stored_calibration(run.folder / "results.json", name).probabilities(scores)
        for name, scores in by_row.items()
        if name == final
    }
    bars = {name: row["intervals"] for name, row in results["rows"].items()}
    return [
        plots.metric_bars(bars, results["trivial"]),
        plots.auc_by_history(by_row, test.labels, liked_counts(test), results["trivial"]),
        plots.calibration_plot(probabilities, test.labels),
        plots.training_curves(curves),
    ]


def _facts(run: Run, dataset: Dataset, results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    summary = dataset.summary()
    data = {k: v for k, v in summary.items() if k not in ("splits", "notes")}
    for name, part in summary["splits"].items():
        data[f"{name} split"] = ", ".join(f"{k} {v}" for k, v in part.items())
    training = {}
    for number, stage in enumerate(run.stages.values(), 1):
        where = stage_folder(run.folder, number, stage.name) / "stage.json"
        about = read_json(where, seconds=(int, float))
        training[stage.name] = f"{readable_seconds(about['seconds'])}; trains {', '.join(stage.train)}"
    return {
        "Data": data,
        "Training": training,
        "Parameters": {k: f"{v:,}" for k, v in results["parameters"].items()},
        "Versions": read_json(run.folder / "env.json"),
    }


def _notes(run: Run, dataset: Dataset) -> list[str]:
    notes = list(dataset.notes)
    if run.config.llm.backbone == "offline" and run.uses_language_model:
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


def _commonest(index: Any) -> int:
    return int(np.bincount(index).argmax())
