"""``python -m benchmarks.lists``, from the root of a checkout; ``benchmarks/lists.sh`` runs all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.lists.judge import compare as compared
from benchmarks.lists.judge import judge as judged
from benchmarks.lists.page import page as written
from benchmarks.lists.questions import export as exported
from benchmarks.lists.reranking import reranking
from sasrecllm import cli
from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data
from sasrecllm.studies.plan import load_plan, slug

PLAN = Path("configs/studies/lists.yaml")
JUDGED = "lists.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
RunPath = Annotated[Path, typer.Argument(help="a finished run of the study")]


@app.command()
def export(run: RunPath, folder: Annotated[Path, typer.Argument(help="where rivals read")]) -> None:
    """Write the rows of a run for other people's models."""
    exported(stored_data(RunFolder(run)), folder)


@app.command()
def judge(run: RunPath, folder: Annotated[Path, typer.Argument(help="of the data set")]) -> None:
    """Judge the channels, the served lists, and what rivals answered under FOLDER/rivals."""
    write_json(folder / JUDGED, judged(run, folder / "rivals"))


@app.command()
def compare(run: RunPath, other: RunPath) -> None:
    """RUN minus OTHER over the same rows, with paired intervals: served lists, and AUC of P(like)."""
    typer.echo(json.dumps(compared(run, other), indent=1))


@app.command()
def rerank(
    run: RunPath,
    row: Annotated[list[str] | None, typer.Option(help="a row of its table; all without")] = None,
    likes: Annotated[int, typer.Option(min=1, help="test likes, at most")] = 300,
) -> None:
    """What P(like) could add to the order of the list fusion, on test likes of RUN."""
    typer.echo(json.dumps(reranking(run, row or [], likes, Progress()), indent=1))


@app.command()
def page(out: Annotated[Path, typer.Argument(help="of the study")]) -> None:
    """Write OUT/lists.md of everything that was judged."""
    wanted = list(load_plan(PLAN).datasets)
    there = {name: out / slug(name) / JUDGED for name in wanted}
    found = {name: read_json(path) for name, path in there.items() if path.is_file()}
    write_text(out / "lists.md", written(found, wanted))
    typer.echo(out / "lists.md")


if __name__ == "__main__":
    cli.main(app, "python -m benchmarks.lists")
