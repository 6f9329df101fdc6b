"""``python -m benchmarks.bench``, from the root of a checkout; refuses and stops as ``sasrecllm``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench.run import Asked
from benchmarks.bench.run import bench as measure
from sasrecllm import cli
from sasrecllm.errors import ConfigError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    work: Annotated[
        str,
        typer.Argument(
            help="sasrec, topk, index, llm, trainer, rerank, memory, ingest, parts, start, quality,"
            " growth, device, words, or all"
        ),
    ] = "all",
    size: Annotated[str, typer.Option(help="of the language model: a, b, or both as a,b")] = "a,b",
    pairs: Annotated[int, typer.Option(min=1, help="alternating pairs of each comparison")] = 5,
    peers: Annotated[
        Path, typer.Option(help="folder that benchmarks/peers.sh filled; absent peers are named")
    ] = Path("peers"),
    threads: Annotated[
        str, typer.Option(help="so many, pinned to as many cores; each in turn")
    ] = "1,2",
    run: Annotated[
        Path,
        typer.Option("--run", help="finished run, for start, quality, words; absent ones are named"),
    ] = Path("runs/demo"),
    rows: Annotated[int, typer.Option(min=2_000, help="of the generated log")] = 1_000_000,
    device: Annotated[str, typer.Option(help="of the work 'device': cuda, cuda:1, cpu")] = "cuda",
    plot: Annotated[Path | None, typer.Option(help="write the picture of the growth here")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the findings here")] = None,
) -> None:
    """Measure the package's ordinary paths against the reference way, peers and the floor.

    python -m benchmarks.bench rerank --size b --pairs 3 --json rerank.json
    """
    numbers = threads.split(",")
    if not all(n.strip().isdigit() for n in numbers):
        raise ConfigError(f"--threads is {threads!r}; allowed: numbers with commas", "write 1,2")
    asked = Asked(tuple(size.split(",")), pairs, peers, run, rows, device, plot)
    measure(work, asked, [int(n) for n in numbers], json_path)


if __name__ == "__main__":
    cli.main(app, "python -m benchmarks.bench")
