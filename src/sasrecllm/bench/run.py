"""The works of ``sasrecllm bench``, and their report."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sasrecllm import runtime
from sasrecllm.bench import encoder, language
from sasrecllm.bench.measure import Finding, compare, cpu_seconds, largest_gap, matrix_rate
from sasrecllm.checkpoint import write_json
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.inference.topk import top_items
from sasrecllm.llm.prefix import score_candidates


def sasrec(size: str, pairs: int, peers: Path | None) -> list[Finding]:
    """Training with BCE, with a full softmax, and with gBCE on 256 negatives."""
    share = 0.05 if size == "tiny" else 1.0
    # 256 negatives cost ten times one: two pairs have to do.
    works = {"bce": pairs, "softmax": pairs, "gbce": min(pairs, 2)}
    return [f for loss, count in works.items() for f in encoder.bench(loss, count, peers, share)]


def topk(size: str, pairs: int, peers: Path | None) -> list[Finding]:
    """Exact top-10 of catalogues of growing size against one product and torch's top-k."""
    found = []
    for items, users, goal in ((3_000, 64, 0.95), (1_000_000, 1, 2.5), (1_000_000, 64, 2.5)):
        items = items // 50 if size == "tiny" else items
        generator = torch.Generator().manual_seed(0)
        user_BD = torch.randn(users, 64, generator=generator)
        item_ID = torch.randn(items, 64, generator=generator)

        def ours(u: torch.Tensor = user_BD, i: torch.Tensor = item_ID) -> Any:
            return top_items(u, i, 10)

        def plain(u: torch.Tensor = user_BD, i: torch.Tensor = item_ID) -> Any:
            return (u @ i.T).topk(10)

        gap = largest_gap(ours()[0], plain()[0])
        found.append(
            compare(f"top-10 of {items:,} items, {users} users", "matmul and topk", ours, plain,
                    pairs=pairs, difference=gap, allowed=1e-4, goal=goal)
        )  # fmt: skip
    return found


def llm(size: str, pairs: int, peers: Path | None) -> list[Finding]:
    """Both training stages."""
    return language.bench_training(size, pairs)


def rerank(size: str, pairs: int, peers: Path | None) -> list[Finding]:
    """Candidates of one history."""
    return language.bench_rerank(size, pairs)


def ingest(size: str, pairs: int, peers: Path | None) -> list[Finding]:
    """A generated CSV to a prepared data folder, against the frame library's bare read and sort."""
    from sasrecllm.data.lists import bare_read_and_sort
    from sasrecllm.data.prepare import prepare
    from sasrecllm.data.sources import load_tables

    rows = {"tiny": 2_000, "a": 1_000_000, "b": 25_000_000}[size]
    with tempfile.TemporaryDirectory() as folder:
        log, items = _log(Path(folder), rows)

        def ours() -> None:
            dataset = prepare(
                load_tables("files", path=str(log), items_path=str(items)),
                feedback="ratings", threshold=4.0, split="global-time",
            )  # fmt: skip
            dataset.save(Path(folder) / "data")

        def bare() -> None:
            bare_read_and_sort(log)

        return [
            compare(f"ingest of {rows:,} rows from CSV", "bare read and sort", ours, bare,
                    pairs=max(1, pairs // 2), goal=1 / 1.3, note="below 1: checks, splits, writing")
        ]  # fmt: skip


def _log(folder: Path, rows: int) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, max(10, rows // 100), rows), rng.integers(0, 20_000, rows)
    stars, times = rng.integers(1, 6, rows), np.sort(rng.integers(10**9, 2 * 10**9, rows))
    log, titles = folder / "log.csv", folder / "items.csv"
    with log.open("w") as stream:
        stream.write("user_id,item_id,rating,timestamp\n")
        for start in range(0, rows, 100_000):
            part = slice(start, start + 100_000)
            lines = zip(users[part], items[part], stars[part], times[part], strict=True)
            stream.write("".join(f"u{u},i{i},{s},{t}\n" for u, i, s, t in lines))
    titles.write_text("item_id,title\n" + "".join(f"i{i},Title {i}\n" for i in range(20_000)))
    return log, titles


def growth(size: str, pairs: int, peers: Path | None) -> list[Finding]:
    """How cost grows: slopes of log cost against log size, 1 where it is proportional."""
    found = []
    step = 8 if size == "tiny" else 1
    for name, sizes, cost in _growths():
        used = [max(2, s // step) for s in sizes]
        seconds = [min(cpu_seconds(partial(cost, n)) for _ in range(pairs)) for n in used]
        slope = float(np.polyfit(np.log(used), np.log(seconds), 1)[0])
        points = ", ".join(f"{n:,}: {1000 * s:.0f} ms" for n, s in zip(used, seconds, strict=True))
        found.append(
            Finding(f"growth with {name}", "log-log slope (the ratio column)", seconds[-1], 0.0,
                    slope, None, None, {}, None, points)
        )  # fmt: skip
    return found


def _growths() -> list[tuple[str, list[int], Callable[[int], Any]]]:
    model = language.built("tiny", 400)
    vectors = torch.randn(64, 64)

    large = language.built("tiny")

    def candidates(count: int) -> None:
        score_candidates(large, *language.listed(count))

    def sequences(users: int) -> None:
        encoder.public(encoder.generated(users), "bce")

    def items(count: int) -> None:
        top_items(vectors, torch.randn(count, 64), 10)

    def prompt_tokens(mean: int) -> None:
        p = language.prompts(32, 400, mean)
        language.train_ours(model, p, np.split(np.argsort(p.lengths), 2), True)

    return [
        ("training sequences", [320, 640, 1280, 2560], sequences),
        ("items of the catalogue (top-10, with drawing them)", [30_000, 100_000, 300_000], items),
        ("tokens of a prompt", [80, 160, 320], prompt_tokens),
        ("candidates of one history", [50, 100, 200, 400], candidates),
    ]


WORKS: dict[str, Callable[[str, int, Path | None], list[Finding]]] = {
    "sasrec": sasrec,
    "topk": topk,
    "llm": llm,
    "rerank": rerank,
    "ingest": ingest,
    "growth": growth,
}


@contextmanager
def pinned(threads: int | None) -> Iterator[None]:
    """So many threads on as many cores, for peers too; as it was afterwards.  None changes nothing.

    What is pinned is the calling thread and those it starts; frame libraries have pools of their own.
    """
    if threads is None:
        yield
        return
    before, cores = torch.get_num_threads(), None
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def bench(
    work: str,
    size: str,
    pairs: int,
    peers: Path | None,
    json_path: Path | None,
    threads: int | None = None,
) -> list[Finding]:
    """Measure one work, or ``all``; prints a Markdown table and writes ``json_path``.

    Args:
        threads: how many, pinned to as many cores; as many as torch would take unless told.

    Raises:
        ConfigError: an unknown work or size.
    """
    if work != "all" and work not in WORKS:
        raise ConfigError(
            f"bench: {work!r}; allowed: {', '.join(WORKS)}, all{did_you_mean(work, WORKS)}",
            "name one of these",
        )
    if size not in language.SIZES:
        raise ConfigError(f"--size is {size!r}; allowed: {', '.join(language.SIZES)}", "choose one")
    found: list[Finding] = []
    with pinned(threads):
        for name in WORKS if work == "all" else (work,):
            found += WORKS[name](size, pairs, peers)
        about = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "threads": torch.get_num_threads(),
            "pinned": threads is not None,
            "matrix_rate": matrix_rate(),
            "pairs": pairs,
            "size": size,
            "versions": runtime.versions(),
        }
    print(table(found, about))
    if json_path is not None:
        write_json(json_path, about | {"findings": [asdict(f) for f in found]})
    return found


def table(found: list[Finding], about: dict[str, Any]) -> str:
    """The findings as Markdown."""
    rate = about["matrix_rate"] / 1e9
    pin = " pinned" if about.get("pinned") else ""
    lines = [
        f"{about['date']}, {about['threads']} thread(s){pin}, {about['pairs']} pairs,"
        f" fp32 products {rate:.0f} GFLOP a CPU second",
        "",
        "| work | against | ours, CPU s | theirs, CPU s | ratio [pairs] | by the clock | goal | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in found:
        spread = "" if f.low is None else f" [{f.low:.2f}, {f.high:.2f}]"
        ratio = "–" if f.ratio is None else f"{f.ratio:.2f}{spread}"
        goal = "" if f.goal is None else f"{f.goal:.2f}"
        theirs = f"{f.theirs:.3f}" if f.theirs else "–"
        ours = f"{f.ours:.3f}" if f.ours else "–"
        wall = "" if f.wall is None else f"{f.wall:.2f}"
        said = "; ".join(v for v in (f.verdict if f.theirs else "", f.note) if v)
        cells = (f.work, f.rival, ours, theirs, ratio, wall, goal, said)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
