"""The command line: verbs to pipeline functions, refusals to exit codes; no logic of its own.

Heavy packages are imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sasrecllm import plugins
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine import output, signals
from sasrecllm.machine.device import check_cuda_packages
from sasrecllm.machine.distributed import is_main_process, process_count
from sasrecllm.machine.environment import diagnosis
from sasrecllm.machine.os_errors import refusal
from sasrecllm.machine.output import say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="SASRec, a LoRA-tuned language model and soft tokens between them.",
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file with what differs from the defaults"),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="run folder [default: runs/NAME where a name is set]")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress on the terminal")]
AllowPlugin = Annotated[
    list[str] | None,
    typer.Option("--allow-plugin", help="module that the run names and may import; repeatable"),
]
RunFolder = Annotated[Path, typer.Argument(help="a finished run folder")]
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
STOPPED = {130: "interrupted", 143: "stopped by SIGTERM"}
GO_ON = ("run", "prepare", "train", "study", "tune", "merge")


def main(commands: typer.Typer = app, program: str = "sasrecllm") -> None:
    """Entry point: exit codes as in ``errors``; a traceback only for our own bugs.

    Args:
        commands: the verbs.
        program: how a person calls them, for the message after a stop.
    """
    output.prepare()
    with signals.handled():
        code = _ended(commands, program)
    sys.exit(code)


def child() -> None:
    """Entry point of a process that ends with the one which started it (a study's cell)."""
    signals.end_with_parent()
    main()


def _ended(commands: typer.Typer, program: str) -> int:
    """Run the verb and say how it ended where that was not well; its exit code."""
    try:
        # typer turns Ctrl-C, and its own ways out, into a code that it returns.
        answer = commands(standalone_mode=False)
        say("", end="")  # what stands in the buffer, while a full disk can still be told
        code = answer if isinstance(answer, int) else 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # which typer would call a failure
            code = 0
        else:
            code = ended.code if isinstance(ended.code, int) else 1
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        code = 0
    except BaseException as error:
        code = _refused(error)
    if code in STOPPED and is_main_process():
        say(f"{STOPPED[code]}; {next_command(sys.argv[1:], program)}", error=True)
    for stream in (sys.stdout, sys.stderr):
        output.flush(stream)
    return code


def _refused(error: BaseException) -> int:
    """Say why a verb was refused; what is not a refusal is a bug of ours and is raised."""
    # A misspelt flag is the parser's own exception; it knows how to show itself and its code.
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is not None and code is not None:
        show()
        return int(code)
    found = refusal(error)
    if found is None:
        raise error
    say(f"error: {found}", error=True)
    return found.exit_code


@app.command(context_settings=OVERRIDES)
def run(
    context: typer.Context,
    config: ConfigFile = None,
    out: Out = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print the resolved configuration and stop")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="prepare, time a few steps of each stage, estimate")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="delete the run folder first")] = False,
    quiet: Quiet = False,
) -> None:
    """Data to report in one command; the same command goes on after an interruption.

    Settings are overridden by dotted keys.  Example:

    sasrecllm run --config configs/demo.yaml --out runs/mine seed=1 encoder.width=32
    """
    chosen = _config(config, context.args)
    if print_config:
        _print_yaml(chosen)
        return
    with _open(chosen, out, quiet, force) as opened:
        if dry_run:
            from sasrecllm.pipeline.estimate import estimate

            estimate(opened)
            return
        from sasrecllm.pipeline.run import run_all

        run_all(opened)
    _show_results(opened.folder.path)


@app.command(context_settings=OVERRIDES)
def prepare(
    context: typer.Context, config: ConfigFile = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Only read, check, order and split the data.

    sasrecllm prepare data.source=files data.path=log.csv data.items_path=items.csv
    """
    from sasrecllm.pipeline.prepare import prepare as prepare_data

    with _open(_config(config, context.args), out, quiet) as opened:
        dataset = prepare_data(opened)
    say(f"{opened.folder.data}: {dataset.summary()['splits']}")


@app.command(context_settings=OVERRIDES)
def train(
    context: typer.Context, config: ConfigFile = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Data and training without evaluation; ``run`` on the same folder adds the rest.

    sasrecllm train --config configs/demo.yaml --out runs/mine
    """
    from sasrecllm.pipeline.run import train_all

    with _open(_config(config, context.args), out, quiet) as opened:
        train_all(opened)


@app.command()
def evaluate(folder: RunFolder, quiet: Quiet = False, allow_plugin: AllowPlugin = None) -> None:
    """Judge a trained run on the whole test split again and print its table.

    sasrecllm evaluate runs/demo
    """
    from sasrecllm.pipeline.run import evaluate_again

    with _reopen(folder, quiet, allow_plugin) as opened:
        evaluate_again(opened)
    _show_results(folder)


@app.command()
def report(folder: RunFolder, quiet: Quiet = False, allow_plugin: AllowPlugin = None) -> None:
    """Write the plots and the report of an evaluated run again.

    sasrecllm report runs/demo
    """
    from sasrecllm.pipeline.run import report_again

    with _reopen(folder, quiet, allow_plugin) as opened:
        report_again(opened)
        say(opened.folder.report)


@app.command()
def recommend(
    folder: RunFolder,
    user: Annotated[str | None, typer.Option(help="id of a known user")] = None,
    liked: Annotated[list[str] | None, typer.Option(help="id of a liked item; repeatable")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="length of the list")] = 10,
    showcase: Annotated[
        bool, typer.Option(help="the run's own three cases: warm user, new user, new item")
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


@app.command(context_settings=OVERRIDES)
def study(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(help="YAML file with data sets, rows and seeds")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="[default: studies/NAME]")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check every setting and estimate the time")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="only write the table of what is finished, as it was run")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train and score every row x seed x data set of a plan; the same command goes on.

    sasrecllm study configs/studies/known-world.yaml --out studies/world seeds=[0]
    """
    from sasrecllm.machine.progress import Progress
    from sasrecllm.studies.collect import write_study
    from sasrecllm.studies.plan import load_plan
    from sasrecllm.studies.run import Study, estimate_study, folder_name, run_study

    _refuse_flags(context.args, ("--out", "--dry-run", "--table", "--quiet"))
    chosen = load_plan(plan, context.args)
    opened = Study(chosen, plan, out or folder_name(chosen), Progress(quiet=quiet))
    if dry_run:
        estimate_study(opened)
        return
    code = 0 if table else run_study(opened)
    write_study(opened)
    say((opened.out / "study.md").read_text(encoding="utf-8"))
    if code:
        sys.exit(code)  # typer would take its own Exit for the command's answer


@app.command(context_settings=OVERRIDES)
def tune(
    context: typer.Context,
    space: Annotated[Path, typer.Option(help="YAML file: dotted key -> choices, or low and high")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for tune.json and best.yaml")],
    config: ConfigFile = None,
    trials: Annotated[int, typer.Option(min=1, help="finished trials in all")] = 20,
    metric: Annotated[str, typer.Option(help="auc, uauc or auc+uauc, on validation")] = "auc+uauc",
    quiet: Quiet = False,
) -> None:
    """Choose settings on the validation split; the test split is never scored.

    sasrecllm tune --config configs/demo.yaml --space space.yaml --out tuned strategy=encoder-only
    """
    from sasrecllm.machine.progress import Progress
    from sasrecllm.studies.plan import load_space
    from sasrecllm.studies.tune import tune as search

    _refuse_flags(context.args, ("--config", "--space", "--out", "--trials", "--metric", "--quiet"))
    if metric not in ("auc", "uauc", "auc+uauc"):
        raise ConfigError(f"--metric is {metric!r}; allowed: auc, uauc, auc+uauc", "choose one")
    chosen, searched = _config(config, context.args), load_space(space)
    progress = Progress(quiet=quiet)
    found = search(chosen, searched, out, trials=trials, metric=metric, progress=progress)
    say(f"{out / 'best.yaml'}: {found['best']}, validation {found['valid']}")


@app.command()
def merge(out: Annotated[Path, typer.Argument(help="the --out of a sharded recommend")]) -> None:
    """Put the parts of a sharded `recommend --users` together.

    sasrecllm merge recs.parquet
    """
    from sasrecllm.batch.jobs import merge as merge_parts

    merge_parts(out)
    say(out)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="a .gguf file, or PACKAGE:PATH of one inside an installed package")
    ],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    force: Annotated[
        bool, typer.Option("--force", help="replace the converted model that stands there")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Turn a language model in GGUF format into an ordinary Hugging Face folder, once.

    sasrecllm convert model.gguf models/mine
    """
    from sasrecllm.llm.sources import convert as convert_gguf
    from sasrecllm.machine.progress import Progress

    progress = Progress(quiet=quiet)

    def report(what: str, done: int, total: int) -> None:
        if not done:
            progress.start()
        progress.step(what, done, total)

    convert_gguf(source, out, force=force, report=report)
    say(out)


@app.command()
def serve(
    folder: RunFolder,
    host: Annotated[str, typer.Option(help="address; other than loopback needs a key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    key_file: Annotated[
        Path | None, typer.Option(help="file with the key; else $SASRECLLM_API_KEY, else none")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(envvar="SASRECLLM_STORE", help="file, or postgresql://...; else FOLDER.sqlite"),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="requests that may wait for the model")] = 64,
    rate: Annotated[float, typer.Option(min=0.01, help="requests a second from one address")] = float(
        "inf"
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="processes with the run [default: the cores, at most 4; GPU: 1]"),
    ] = None,
    allow_plugin: AllowPlugin = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="host name under which requests come, may stand often; else any with a key"),
    ] = None,
    root_path: Annotated[str, typer.Option(help="path under which a proxy shows the server")] = "",
    timeout: Annotated[
        float,
        typer.Option(min=0.1, help="seconds for one answer; a process that takes longer is replaced"),
    ] = 30.0,
) -> None:
    """Serve a run over HTTP: its page at /, its API under /v1.  SIGHUP loads the run anew.

    sasrecllm serve runs/demo
    """
    from sasrecllm.serving.run import serve as serve_run

    plugins.allow(allow_plugin or ())
    signals.leave()
    names = allowed_host or ()
    doors = (key_file, store, queue, rate, workers, names, root_path, timeout)
    serve_run(folder, host, port, *doors, forget=_forget_in_run)


@app.command()
def forget(
    folder: RunFolder,
    user: Annotated[list[str], typer.Option(help="id of a user; repeatable")],
    store: Annotated[
        str | None,
        typer.Option(envvar="SASRECLLM_STORE", help="store of its server; else FOLDER.sqlite, if any"),
    ] = None,
) -> None:
    """Take users out of a finished run and out of the store of its server, for good.

    The weights keep what they learnt of everybody together; training again removes that too.  A
    running server follows at its next SIGHUP; its own DELETE /v1/users/ID needs none.

    sasrecllm forget runs/demo --user u0041 --user u0042
    """
    import contextlib

    from sasrecllm.serving.run import stored

    opened = stored(folder, store)
    with contextlib.closing(opened) if opened else contextlib.nullcontext():
        _forget_in_run(folder, user, opened.users_among(user) if opened else ())
        if opened:
            opened.forget(user)
    typer.echo(f"{folder}: forgotten")


def _forget_in_run(folder: Path, users: Sequence[str], in_store: Collection[str]) -> None:
    from sasrecllm.pipeline.forget import forget as forget_users

    forget_users(folder, users, in_store)


@app.command()
def doctor(
    guard: Annotated[
        bool,
        typer.Option(help="only fail (exit 3) if CUDA packages sit on a machine without a GPU"),
    ] = False,
) -> None:
    """Versions, device, hub state and free disk; fails if the installation is wrong."""

    check_cuda_packages()
    if not guard:
        for key, value in diagnosis().items():
            say(f"{key:14} {value}")


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


def next_command(words: list[str], program: str = "sasrecllm") -> str:
    """What to do after a stop, for the words of the command that was stopped."""
    kept = [word for word in words if word != "--force"]  # which would throw away what is kept
    if process_count() > 1:
        return "the same torchrun command goes on from the last checkpoint"
    goes_on = words[:1] and (words[0] in GO_ON or "--users" in words)
    done = "goes on from the last checkpoint" if goes_on else "begins again"
    same = "the same command" + (" without --force" if kept != words else "")
    return f"{same} {done}:\n  -> {program} {shlex.join(kept)}"


FLAGS = ("--config", "--out", "--print-config", "--dry-run", "--force", "--quiet")
FORMER_FLAGS = {"--resume": "leave it out: the same command goes on where the run stopped"}


def _config(path: Path | None, overrides: list[str]) -> Any:
    from sasrecllm.config import load_config

    _refuse_flags(overrides, FLAGS)
    return load_config(path, overrides)


def _refuse_flags(words: list[str], allowed: tuple[str, ...]) -> None:
    """What is left over and looks like a flag is a misspelt one."""
    for word in words:
        if word in FORMER_FLAGS:
            raise ConfigError(f"there is no flag {word} any more", FORMER_FLAGS[word])
        if word.startswith("-") and "=" not in word:
            raise ConfigError(
                f"unknown flag {word}; allowed: {', '.join(allowed)}{did_you_mean(word, allowed)}",
                "settings are written as section.key=value",
            )


def _open(config: Any, out: Path | None, quiet: bool, force: bool = False) -> Any:
    from sasrecllm.pipeline.prepare import check_names
    from sasrecllm.runs.opening import run_at_work

    if out is None and not config.name:
        raise ConfigError(
            "where the run goes is not said: there is no --out, and the settings have no name",
            "give --out runs/mine, or name=mine for the folder runs/mine",
        )
    check_names(config)  # a misspelt name leaves no folder behind, and deletes none
    command = "sasrecllm " + " ".join(sys.argv[1:])
    return run_at_work(out or Path("runs") / config.name, config, command, quiet=quiet, force=force)


def _reopen(folder: Path, quiet: bool, allow_plugin: list[str] | None) -> Any:
    from sasrecllm.runs.opening import run_again

    plugins.allow(allow_plugin or ())
    return run_again(folder, quiet=quiet)


def _print_yaml(config: Any) -> None:
    import yaml

    say(yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True), end="")


def _show_results(folder: Path) -> None:
    from sasrecllm.reports.console import print_results

    print_results(folder)
