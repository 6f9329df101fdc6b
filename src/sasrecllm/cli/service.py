"""Verbs around a run: serve it, convert a language model, look at the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sasrecllm import plugins
from sasrecllm.cli.shared import AllowPlugin, Quiet, RunFolder, app
from sasrecllm.errors import ConfigError
from sasrecllm.machine import signals
from sasrecllm.machine.device import check_cuda_packages
from sasrecllm.machine.environment import diagnosis
from sasrecllm.machine.output import say


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
        typer.Option(help="host name under which requests come; repeatable [default: any, with a key]"),
    ] = None,
    root_path: Annotated[str, typer.Option(help="path under which a proxy shows the server")] = "",
    timeout: Annotated[
        float,
        typer.Option(min=0.1, help="seconds for one answer; a process that takes longer is replaced"),
    ] = 30.0,
    retrieve: Annotated[
        int,
        typer.Option(min=1, max=1000, help="first-stage items, where a request does not say how many"),
    ] = 100,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="a line for every answer on standard error")
    ] = False,
) -> None:
    """Serve a run over HTTP: its page at /, its API under /v1.  SIGHUP loads the run anew.

    sasrecllm serve runs/demo
    """
    from sasrecllm.serving.run import serve as serve_run
    from sasrecllm.updates.lineage import forget_with_relatives

    plugins.allow(allow_plugin or ())
    signals.leave()
    serve_run(
        folder, host, port, key_file=key_file, store_url=store, queue=queue, rate=rate, workers=workers,
        names=allowed_host or (), root=root_path, timeout=timeout, log_requests=log_requests,
        forget=forget_with_relatives, retrieve=retrieve,
    )  # fmt: skip


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

    convert_gguf(source, out, force=force, report=Progress(quiet=quiet).report)
    say(out)


@app.command()
def export(
    folder: RunFolder,
    out: Annotated[Path, typer.Argument(help="folder to write")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="the LoRA adapter, an ordinary folder of peft")
    ] = False,
    merged: Annotated[
        bool,
        typer.Option("--merged", help="the language model with the adapter in its weights (text only)"),
    ] = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Write the language model of a run for other programs, with its prompt and a card.

    sasrecllm export runs/demo out/adapter --adapter
    """
    from sasrecllm.inference.export import export_run

    if adapter == merged:
        raise ConfigError(
            f"export was given {'both' if adapter else 'neither'} of --adapter and --merged",
            "give one of them",
        )
    plugins.allow(allow_plugin or ())
    export_run(folder, out, "adapter" if adapter else "merged")
    say(out)


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
