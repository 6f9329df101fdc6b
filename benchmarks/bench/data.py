"""From a generated CSV to a ready data folder, against the frame library's bare read and sort."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.bench.isolated import took_isolated
from benchmarks.bench.measure import Finding, paired, within
from sasrecllm.data.long_columns import scratch

ITEMS = 20_000
LARGE = 25_000_000
"""Rows for which seconds and memory have a goal."""
OF_PARTS = 2048
"""MB that the ingest of a folder of parts may hold, whatever it holds."""
PART = 1_000_000
"""Rows of a generated part."""


def bench(rows: int, pairs: int, threads: int) -> list[Finding]:
    """Findings for ``rows`` interactions; each side runs in a process of its own."""
    work = f"ingest of {rows:,} rows from CSV"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, items = generated(folder, rows)
        pairs_of, peaks, walls = [], [], []
        for number in range(pairs):
            sides = {
                "ingest": (log, items, folder / f"data-{number}"),
                "bare": (log,),
            }
            order = list(sides) if number % 2 == 0 else list(reversed(sides))
            took = {side: took_isolated(side, *sides[side], threads=threads) for side in order}
            pairs_of.append((took["ingest"][0], took["bare"][0]))
            peaks.append(took["ingest"][1])
            walls.append(took["ingest"][0].wall)
    note = "checks, splits and writing too; below 1"
    found = [paired(work, "bare read and sort", pairs_of, goal=1 / 1.3, note=note)]
    if rows >= LARGE:
        found.append(within(work, 60.0, min(walls), "s by the clock"))
    found.append(within(work, 4096 * rows / LARGE, max(peaks), "MB", "peak; the goal is 4 GB at 25 M"))
    return found


def bench_parts(rows: int, threads: int) -> list[Finding]:
    """The memory and time of ``rows`` interactions in parts of a million each, read once."""
    work = f"ingest of {rows:,} rows from {-(-rows // PART)} parts"
    with tempfile.TemporaryDirectory(dir=scratch()) as name:
        log, items = generated_parts(Path(name), rows)
        took, peak = took_isolated("parts", log, items, Path(name) / "data", threads=threads)
    note = f"peak above imports, with a load of what was written; {took.wall:.0f} s by the clock"
    return [within(work, OF_PARTS, peak, "MB", f"{note}, {took.cpu:.0f} CPU seconds")]


def generated_parts(folder: Path, rows: int) -> tuple[Path, Path]:
    """A log like :func:`generated`'s as a folder of files with a million rows each, and its items."""
    log, titles = folder / "log", folder / "items.parquet"
    log.mkdir()
    first, last = 10**9, 2 * 10**9
    for number, start in enumerate(range(0, rows, PART)):
        rng, count = np.random.default_rng(number), min(PART, rows - start)
        low, high = (first + (last - first) * at // rows for at in (start, start + count))
        part = pl.DataFrame(
            {
                "user_id": rng.integers(0, max(10, rows // 100), count),
                "item_id": rng.integers(0, ITEMS, count),
                "rating": rng.integers(1, 6, count),
                "timestamp": np.sort(rng.integers(low, high, count)),
            }
        )
        named = [pl.format(f"{c[0]}{{}}", c).alias(c) for c in ("user_id", "item_id")]
        part.with_columns(named).write_parquet(log / f"{number:05}.parquet")
    every = pl.DataFrame({"item_id": np.arange(ITEMS)})
    every.select(
        pl.format("i{}", "item_id").alias("item_id"), pl.format("Title {}", "item_id").alias("title")
    ).write_parquet(titles)
    return log, titles


def generated(folder: Path, rows: int) -> tuple[Path, Path]:
    """A log in the order of time and its items table: users, items, stars and seconds at random."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, max(10, rows // 100), rows), rng.integers(0, ITEMS, rows)
    stars, times = rng.integers(1, 6, rows), np.sort(rng.integers(10**9, 2 * 10**9, rows))
    log, titles = folder / "log.csv", folder / "items.csv"
    with log.open("w") as stream:
        stream.write("user_id,item_id,rating,timestamp\n")
        for start in range(0, rows, 100_000):
            part = slice(start, start + 100_000)
            lines = zip(users[part], items[part], stars[part], times[part], strict=True)
            stream.write("".join(f"u{u},i{i},{s},{t}\n" for u, i, s, t in lines))
    titles.write_text("item_id,title\n" + "".join(f"i{i},Title {i}\n" for i in range(ITEMS)))
    return log, titles
