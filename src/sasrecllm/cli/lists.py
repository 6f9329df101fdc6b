"""Verbs that make lists, for one user or a file of them: recommend, merge, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import sasrecllm.cli.list_options as options
from sasrecllm import plugins
from sasrecllm.cli.shared import AllowPlugin, Quiet, RunFolder, app
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.output import say


@app.command()
def recommend(
    folder: RunFolder,
    user: options.User = None,
    liked: options.Liked = None,
    title: options.Titles = None,
    k: Annotated[int, typer.Option("-k", min=1, help="length of the list")] = 10,
    only: options.Only = None,
    where: options.Where = None,
    exclude: options.Exclude = None,
    boost: options.Boost = None,
    diversity: options.Diversity = 0.0,
    seen: options.SeenItems = None,
    search: Annotated[
        str | None, typer.Option(help="no list: the items whose titles have these words, with ids")
    ] = None,
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
    ray: Annotated[
        str | None, typer.Option(help="with --users: a Ray cluster's address, or local")
    ] = None,
    quiet: Quiet = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Recommend items to a known user, to a new one with a few liked items, or to a file of users.

    sasrecllm recommend runs/demo --liked m0003 --title "the general" -k 5 --exclude m0151

    sasrecllm recommend runs/demo --user u0001 --boost genres=Comedy:3 --diversity 0.3

    sasrecllm recommend runs/demo --users users.parquet -k 20 --out recs.parquet
    """
    plugins.allow(allow_plugin or ())
    person = {"user": user is not None, "liked": liked is not None, "title": title is not None}
    asked = {
        "only": only, "where": options.attributes_from(where, "where"),
        "exclude": exclude, "boost": options.boosts_from(boost),
        "diversity": diversity, "seen": seen,
    }  # fmt: skip
    how = {"k": k, "retrieve": retrieve, "rerank": rerank}
    one = person | {"search": search is not None, "showcase": showcase}
    if users is not None:
        options.refuse_beside(
            "--users", one | {"json": as_json}, "that makes lists for a file of users"
        )
        _recommend_all(folder, users, out, how, asked, column, shard, ray, quiet)
        return
    many = {"out": out, "column": column != "user_id", "shard": shard != "0/1", "ray": ray is not None}
    options.refuse_beside("a list without --users", many, "they are for a file of users")
    if search is not None or showcase:
        flag = "--showcase" if showcase else "--search"
        rest = one | asked | {"rerank": not rerank}
        del rest[flag.removeprefix("--")]
        options.refuse_beside(flag, rest, "that makes no list for anybody")
    if showcase:
        _show_showcase(folder, as_json)
    elif search is not None:
        _show_found(folder, search, k, as_json)
    else:
        _show_list(folder, user, liked, title, how, asked, as_json)


def _show_showcase(folder: Path, as_json: bool) -> None:
    """The lists that a run keeps as its own cases."""
    from sasrecllm.reports.console import print_lists
    from sasrecllm.runs.seal import choose_run
    from sasrecllm.runs.stored import stored_showcase

    print_lists(stored_showcase(choose_run(folder)), as_json)


def _show_found(folder: Path, search: str, count: int, as_json: bool) -> None:
    """The items whose titles have the words ``search``, ``count`` at most."""
    from sasrecllm.inference.requests import Found
    from sasrecllm.inference.title_search import TitleSearch
    from sasrecllm.reports.console import print_found
    from sasrecllm.runs.seal import choose_run
    from sasrecllm.runs.stored import stored_data, stored_vectors

    chosen = choose_run(folder)
    catalog = stored_data(chosen).catalog
    hits, found = TitleSearch(catalog, stored_vectors(chosen)).search(search, count)
    if not found and not as_json:
        say(f"no title has all the words {search!r}" + did_you_mean(search, catalog.titles))
    if hits or as_json:
        print_found([Found.of(catalog, *hit).to_dict() for hit in hits], found, as_json)


def _show_list(
    folder: Path,
    user: str | None,
    liked: list[str] | None,
    title: list[str] | None,
    how: dict[str, Any],
    asked: dict[str, Any],
    as_json: bool,
) -> None:
    """One list, and above it what it goes by.

    Args:
        how: ``k``, ``retrieve`` and ``rerank``.
        asked: the wishes, as they were spelt.
    """
    from sasrecllm.machine.memory import lasting

    with lasting():
        from sasrecllm.inference.recommender import Recommender
        from sasrecllm.reports.console import print_lists

        system = Recommender.from_pretrained(folder)
    if system.said_of_index:
        say(system.said_of_index, error=True)
    history = options.history_from(system, liked, title)
    found = system.recommend(history, user, **how, **options.with_ids(asked, system.catalog))
    given = [*(liked or ()), *(title or ())]
    heading = f"user {user}" if user is not None else f"liked {', '.join(given)}"
    about = [] if as_json else options.said_of(system, history, user)
    about += [] if as_json else options.said_of_few(system, len(found), how["k"], asked)
    print_lists({heading: [r.to_dict() for r in found]}, as_json, about)


@app.command()
def explain(
    folder: RunFolder,
    item: Annotated[str, typer.Argument(help="id of an item, or words of its title")],
    user: options.User = None,
    liked: options.Liked = None,
    title: options.Titles = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Why an item is, or is not, for somebody: what adds to its probability, and which likes carry it.

    sasrecllm explain runs/demo m0107 --liked m0003,m0151

    sasrecllm explain runs/demo "the general" --user u0001
    """
    from sasrecllm.machine.memory import lasting

    plugins.allow(allow_plugin or ())
    with lasting():
        from sasrecllm.inference.recommender import Recommender
        from sasrecllm.reports.console import print_explanation

        system = Recommender.from_pretrained(folder)
    history = options.history_from(system, liked, title)
    found = system.explain(options.item_from(system, item), history, user)
    about = [] if as_json else options.said_of(system, history, user)
    print_explanation(found.to_dict(), as_json, about)


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
    how: dict[str, Any],
    asked: dict[str, Any],
    column: str,
    shard: str,
    ray: str | None,
    quiet: bool,
) -> None:
    """The batch job of ``recommend``; says what is left where other shards have not finished."""
    from sasrecllm.batch.jobs import recommend_all
    from sasrecllm.inference.wishes import Wishes
    from sasrecllm.machine.progress import Progress
    from sasrecllm.runs.seal import choose_run
    from sasrecllm.runs.stored import stored_data

    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise ConfigError(f"--shard is {shard!r}; allowed: i/n with 0 ≤ i < n", "write --shard 0/4")
    if out is None:
        raise ConfigError("--users needs --out", "give --out recs.parquet")
    if asked["only"] or asked["exclude"]:
        asked = options.with_ids(asked, stored_data(choose_run(folder)).catalog)
    merged = recommend_all(
        folder, users, out, column=column, shard=(int(number), int(count)), ray=ray,
        progress=Progress(quiet=quiet), wishes=Wishes(**asked), **how,
    )  # fmt: skip
    say(out if merged else f"shard {shard} is done; `sasrecllm merge {out}` when all are")
