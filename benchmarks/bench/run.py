"""The works of ``python -m benchmarks.bench`` in the order of the table that they make."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import (
    data,
    device,
    encoder,
    growth,
    language,
    memory,
    quality,
    start,
    trainer,
    words,
)
from benchmarks.bench.measure import Finding, compare, largest_gap, matrix_rate
from benchmarks.bench.random_prompts import SIZES
from sasrecllm.checkpoint import write_json
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.environment import versions
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.ops.topk import top_items
from sasrecllm.ops.vector_index import Exact, Faiss


@dataclass(frozen=True)
class Asked:
    """What a call asks for.

    Args:
        sizes: of the language model, of ``SIZES``.
        pairs: alternating pairs of each comparison.
        peers: what benchmarks/peers.sh filled; None measures none.
        run: a finished run, for first answers, equal quality and words.
        rows: of the generated log.
        device: of the large language model.
        plot: where the picture of the growth goes.
    """

    sizes: tuple[str, ...] = ("a", "b")
    pairs: int = 5
    peers: Path | None = None
    run: Path | None = None
    rows: int = 1_000_000
    device: str = "cuda"
    plot: Path | None = None

    @property
    def tiny(self) -> bool:
        """Whether this is a trial of the bench itself."""
        return self.sizes == ("tiny",)


def sasrec(asked: Asked) -> list[Finding]:
    """Training with BCE, with a full softmax, and with gBCE on 256 negatives."""
    # 256 negatives cost peers ten times one: a part of the sequences has to do.
    shares = {"bce": 1.0, "softmax": 1.0, "gbce": 0.15}
    trial = 0.05 if asked.tiny else 1.0
    return [
        finding
        for loss, share in shares.items()
        for finding in encoder.bench(loss, asked.pairs, asked.peers, share * trial)
    ]


def topk(asked: Asked) -> list[Finding]:
    """Exact top-10 of catalogues of growing size against one product and torch's top-k."""
    found = []
    for items, users, goal in ((3_000, 64, 0.95), (1_000_000, 1, 2.5), (1_000_000, 64, 2.5)):
        items = items // 50 if asked.tiny else items
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
                    pairs=asked.pairs, difference=gap, allowed=1e-4, goal=goal)
        )  # fmt: skip
    return found


def index(asked: Asked) -> list[Finding]:
    """Top-100 of large catalogues by ``recommend.index=faiss`` against the exact index."""
    found = []
    for items in (1_000_000, 5_000_000):
        items = items // 500 if asked.tiny else items
        item_ID, user_QD = tastes(items, 64 + 128)
        judges = user_QD[:64].clone
        exact, near = Exact(item_ID, judges), Faiss(item_ID, judges)
        for users in (1, 128):
            user_BD, free_BI = user_QD[64 : 64 + users], torch.ones(users, items, dtype=torch.bool)
            best, got = (side.top(user_BD, 100, free_BI)[1] for side in (exact, near))
            recall = np.mean([np.isin(*rows).mean() for rows in zip(best, got, strict=True)])
            found.append(
                compare(f"top-100 of {items:,} items, {users} users, by faiss", "exact index",
                        partial(near.top, user_BD, 100, free_BI),
                        partial(exact.top, user_BD, 100, free_BI),
                        pairs=asked.pairs, note=f"recall {recall:.1%} of these users' best 100")
            )  # fmt: skip
    return found


def tastes(items: int, users: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of items and users about a thousand topics, of unequal length, as trained ones are."""
    generator = torch.Generator().manual_seed(0)
    topic_TD = torch.randn(1_000, 64, generator=generator)

    def near(count: int) -> torch.Tensor:
        topic = torch.randint(1_000, (count,), generator=generator)
        return topic_TD[topic] + 0.7 * torch.randn(count, 64, generator=generator)

    return near(items), near(users)


def llm(asked: Asked) -> list[Finding]:
    """Both training stages."""
    return [f for size in asked.sizes for f in language.bench_training(size, asked.pairs)]


def usual(asked: Asked) -> list[Finding]:
    """A model of SmolLM2's shape against peft and the Trainer."""
    return trainer.bench("tiny" if asked.tiny else "smollm2", asked.pairs)


def rerank(asked: Asked) -> list[Finding]:
    """Candidates of one history."""
    return [f for size in asked.sizes for f in language.bench_rerank(size, asked.pairs)]


def ingest(asked: Asked) -> list[Finding]:
    """A generated CSV to a prepared data folder, on two threads."""
    rows = 2_000 if asked.tiny else asked.rows
    return data.bench(rows, max(1, asked.pairs // 2), min(2, os.cpu_count() or 1))


def parts(asked: Asked) -> list[Finding]:
    """A folder of generated Parquet parts to a prepared data folder, on two threads."""
    return data.bench_parts(2_000 if asked.tiny else asked.rows, min(2, os.cpu_count() or 1))


def peaks(asked: Asked) -> list[Finding]:
    """Peak memory of training, and of a pretrained model's processes."""
    found = [f for size in asked.sizes for f in memory.bench(size)]
    return found + memory.pretrained("tiny" if asked.tiny else "smollm2")


def started(asked: Asked) -> list[Finding]:
    """Help, and the first answer of a new process."""
    return start.bench(asked.run, asked.pairs)


def learnt(asked: Asked) -> list[Finding]:
    """Validation AUC of the faster ways beside the plain ones."""
    return quality.bench(asked.run, 1 if asked.tiny else 3)


def grown(asked: Asked) -> list[Finding]:
    """Slopes, and their picture where one is wanted."""
    found = growth.bench("tiny" if asked.tiny else "", min(asked.pairs, 3))
    if asked.plot is not None:
        asked.plot.parent.mkdir(parents=True, exist_ok=True)
        asked.plot.write_text(growth.picture(found), encoding="utf-8")
    return found


def large(asked: Asked) -> list[Finding]:
    """A language model of a real size on an accelerator."""
    return device.bench(asked.device, "tiny" if asked.tiny else "1b", asked.pairs)


def worded(asked: Asked) -> list[Finding]:
    """What titles written to be recommended do to a new item."""
    return words.bench(asked.run, 24, 2) if asked.tiny else words.bench(asked.run)


Run = Callable[[Asked], list[Finding]]
IN_THREADS: Mapping[str, Run] = {
    "sasrec": sasrec,
    "topk": topk,
    "index": index,
    "llm": llm,
    "rerank": rerank,
    "trainer": usual,
}
"""Measured once for each number of threads."""
ONCE: Mapping[str, Run] = {
    "memory": peaks,
    "ingest": ingest,
    "parts": parts,
    "start": started,
    "quality": learnt,
    "growth": grown,
    "device": large,
    "words": worded,
}
WORKS: Mapping[str, Run] = {**IN_THREADS, **ONCE}


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
    work: str, asked: Asked, threads: Sequence[int] = (1,), json_path: Path | None = None
) -> list[Finding]:
    """Measure one work, or ``all``; prints a Markdown table and writes ``json_path``.

    Args:
        threads: how many, pinned to as many cores; each is measured.  What does not depend on them is
            measured once, on the first.

    Raises:
        ConfigError: an unknown work or size, or no number of threads.
    """
    if work != "all" and work not in WORKS:
        raise ConfigError(
            f"bench: {work!r}; allowed: {', '.join(WORKS)}, all{did_you_mean(work, WORKS)}",
            "name one of these",
        )
    if wrong := [size for size in asked.sizes if size not in SIZES]:
        raise ConfigError(f"--size is {wrong[0]!r}; allowed: {', '.join(SIZES)}", "choose one")
    if not threads or min(threads) < 1:
        raise ConfigError(
            f"--threads is {list(threads)}; allowed: 1 or more each", "write --threads 1,2"
        )
    for path in (json_path, asked.plot):
        _refuse_unwritable(path)
    found: list[Finding] = []
    for number, count in enumerate(threads):
        with pinned(count):
            for name in WORKS if work == "all" else (work,):
                if name in IN_THREADS:
                    found += [replace(f, threads=count) for f in IN_THREADS[name](asked)]
                elif number == 0:
                    found += ONCE[name](asked)
    with pinned(1):
        about = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "matrix_rate": matrix_rate(),
            "pairs": asked.pairs,
            "versions": versions(),
        }
    print(table(found, about))
    if json_path is not None:
        write_json(json_path, about | {"findings": [asdict(f) for f in found]})
    return found


def _refuse_unwritable(path: Path | None) -> None:
    """Find out before hours of measuring whether a file can be written at their end."""
    if path is not None:
        with as_refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab"):
                pass
            if not path.stat().st_size:
                path.unlink()


def table(found: Sequence[Finding], about: Mapping[str, Any]) -> str:
    """The findings as Markdown."""
    lines = [
        f"{about['date']}, {about['pairs']} pairs,"
        f" fp32 products {about['matrix_rate'] / 1e9:.0f} GFLOP a CPU second",
        "",
        "| work | threads | against | ours | theirs | ratio [pairs] | by the clock | goal | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for f in found:
        spread = "" if f.low is None else f" [{f.low:.2f}, {f.high:.2f}]"
        ratio = "–" if f.ratio is None else f"{f.ratio:.2f}{spread}"
        goal = "" if f.goal is None else f"{f.goal:.2f}"
        wall = "" if f.wall is None else f"{f.wall:.2f}"
        said = "; ".join(v for v in (f.verdict if f.theirs else "", f.note) if v)
        threads = str(f.threads or "")
        sides = (_amount(f.ours, f.unit), _amount(f.theirs, f.unit))
        lines.append(f"| {' | '.join((f.work, threads, f.rival, *sides, ratio, wall, goal, said))} |")
    return "\n".join(lines)


def _amount(value: float, unit: str) -> str:
    if not value:
        return "–"
    digits = 4 if unit == "AUC" else 3 if value < 10 else 1 if value < 1000 else 0
    return f"{value:,.{digits}f} {unit}"
