"""Verbs that make lists: recommend, for one user or a file of them, and merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sasrecllm import plugins
from sasrecllm.cli.shared import AllowPlugin, Quiet, RunFolder, app
from sasrecllm.errors import ConfigError
from sasrecllm.machine.output import say


@app.command()
def recommend(
    folder: RunFolder,
    user: Annotated[str | None, typer.Option(help="id of a known user")] = None,
    liked: Annotated[list[str] | None, typer.Option(help="id of a liked item; repeatable")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="length of the list")] = 10,
    showcase: Annotated[
        bool, typer.Option(help="the run's own cases: three users and a new item")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
    users: Annotated[
        Path | None, typer.Option(help="file of user ids: lists for all of them, into --out")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=".parquet, .csv or .jsonl")] = None,
    column: Annotated[str, typer.Option(help="column of --users with the ids")] = "user_id",
    shard: Annotated[str, typer.Option(help="i/n: this process takes part i of n, from 0")] = "0/1",
    retrieve: Annotated[int, typer.Option(min=1, help="items that the first stage retrieves")] = 100,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="no: the encoder's own order")
    ] = True,
    seen: Annotated[
        Literal["exclude", "allow"] | None,
        typer.Option(help="items the user has met [default: as the run was prepared]"),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="with --users: a Ray cluster's address, or local")
    ] = None,
    quiet: Quiet = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Recommend items to a known user, to a new one with a few liked items, or to a file of users.

    sasrecllm recommend runs/demo --liked m0003 --liked m0151 -k 5

    sasrecllm recommend runs/demo --users users.parquet -k 20 --out recs.parquet
    """
    plugins.allow(allow_plugin or ())
    if users is not None:
        _recommend_all(folder, users, out, k, retrieve, column, shard, rerank, seen, ray, quiet)
        return
    from sasrecllm.machine.memory import lasting

    with lasting():
        from sasrecllm.inference.recommender import SASRecLLM
        from sasrecllm.reports.console import print_lists
        from sasrecllm.runs.seal import choose_run
        from sasrecllm.runs.stored import stored_showcase
    if showcase:
        print_lists(stored_showcase(choose_run(folder)), as_json)
        return
    with lasting():
        system = SASRecLLM.from_pretrained(folder)
    history = list(liked) if liked else None
    found = system.recommend(history, user, k, retrieve, rerank=rerank, seen=seen)
    heading = f"user {user}" if user is not None else f"liked {', '.join(liked or [])}"
    print_lists({heading: [r.to_dict() for r in found]}, as_json)


@app.command()
def merge(out: Annotated[Path, typer.Argument(help="the --out of a sharded recommend")]) -> None:
    """Put the parts of a sharded `recommend --users` together.

    sasrecllm merge recs.parquet
    """
    from sasrecllm.batch.jobs import merge as merge_parts

    merge_parts(out)
    say(out)


def _recommend_all(
    folder: Path,
    users: Path,
    out: Path | None,
    k: int,
    retrieve: int,
    column: str,
    shard: str,
    rerank: bool,
    seen: Literal["exclude", "allow"] | None,
    ray: str | None,
    quiet: bool,
) -> None:
    """The batch job of ``recommend``; says what is left where other shards have not finished."""
    from sasrecllm.batch.jobs import recommend_all
    from sasrecllm.machine.progress import Progress

    number, _, count = shard.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ConfigError(f"--shard is {shard!r}; allowed: i/n with 0 ≤ i < n", "write --shard 0/4")
    if out is None:
        raise ConfigError("--users needs --out", "give --out recs.parquet")
    merged = recommend_all(
        folder, users, out, k=k, retrieve=retrieve, column=column,
        shard=(int(number), int(count)), rerank=rerank, ray=ray, progress=Progress(quiet=quiet),
        seen=seen,
    )  # fmt: skip
    say(out if merged else f"shard {shard} is done; `sasrecllm merge {out}` when all are")
