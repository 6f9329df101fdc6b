"""How cost grows with everything that can grow: slopes of log cost against log size, and a picture.

Legend: B users, I items, D width.
"""

from __future__ import annotations

import math
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.bench import data, encoder, language, random_prompts
from benchmarks.bench.isolated import took_isolated
from benchmarks.bench.measure import Finding, cpu_seconds
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.prefix import score_candidates
from sasrecllm.ops.topk import top_items
from sasrecllm.reports.plots import OURS, TRIVIAL, drawn, new_figure
from sasrecllm.training.loop import fit
from sasrecllm.types import Histories

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Axis:
    """One thing that grows.

    Args:
        theory: the slope that arithmetic says.
        cost: from a size to the size as it is drawn and the CPU seconds of the work there.
    """

    name: str
    theory: str
    sizes: Sequence[int]
    cost: Callable[[int], tuple[int, float]]


def bench(size: str, times: int) -> list[Finding]:
    """A finding for each axis; its slope stands in the ratio's column."""
    found = []
    for axis in AXES:
        sizes = [max(2, s // 20) for s in axis.sizes[:2]] if size == "tiny" else axis.sizes
        axis.cost(sizes[0])  # the first call imports and warms up
        measured = [min(axis.cost(s) for _ in range(times)) for s in sizes]
        x, y = (np.log(np.array(column, dtype=float)) for column in zip(*measured, strict=True))
        slope, last = float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))
        points = ", ".join(f"{n:,}: {1000 * s:.0f} ms" for n, s in measured)
        note = f"theory: {axis.theory}; over the last step {last:.2f}; {points}"
        found.append(
            Finding(f"growth with {axis.name}", "log-log slope", measured[-1][1], 0.0, slope, None,
                    None, {}, None, note, points=dict(measured))
        )  # fmt: skip
    return found


def _timed(size: int, work: Callable[[], Any]) -> tuple[int, float]:
    return size, cpu_seconds(work)


def _sequences(users: int) -> tuple[int, float]:
    lists = encoder.generated(users)
    return _timed(sum(map(len, lists)), partial(encoder.public, lists, "bce"))


def _items_trained(items: int) -> tuple[int, float]:
    """Of 640 sequences beyond the first 640: a start makes moments for every item, once."""
    seconds = []
    for users in (640, 2_560):
        task = encoder.task_of(encoder.generated(users), "bce", encoder.built(items))
        seconds.append(cpu_seconds(partial(fit, task, encoder.SETTINGS)))
    return items, max(1e-3, (seconds[1] - seconds[0]) / 3)


def _items_ranked(items: int) -> tuple[int, float]:
    user_BD, item_ID = torch.randn(64, encoder.WIDTH), torch.randn(items, encoder.WIDTH)
    return _timed(items, lambda: top_items(user_BD, item_ID, 10))


def _length(length: int) -> tuple[int, float]:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, encoder.ITEMS, length) for _ in range(256)]
    task = encoder.task_of(lists, "bce", encoder.built(length=length))
    return _timed(length, partial(fit, task, encoder.SETTINGS))


def _users(users: int) -> tuple[int, float]:
    lists, model = encoder.generated(users), encoder.built().eval()
    items, offsets = np.concatenate(lists), np.cumsum([0, *map(len, lists)])
    nobody = np.full(users, -1)
    asked = Histories(nobody, items, np.ones(len(items), np.int8), items, offsets, nobody)

    @torch.no_grad()
    def lists_of_ten() -> None:
        top_items(model.encode(asked), model.item_table, 10)

    return _timed(users, lists_of_ten)


def _prompt(mean: int) -> tuple[int, float]:
    p, model = random_prompts.prompts(16, 400, mean), random_prompts.built("a", 400)
    model.learn({"adapter"})
    plan = [np.arange(16)]
    return _timed(mean, lambda: language.train_ours(model, p, plan, False))


def _candidates(count: int) -> tuple[int, float]:
    model, listed = random_prompts.built("tiny"), language.listed(count)
    return _timed(count, lambda: score_candidates(model, *listed))


def _model(width: int) -> tuple[int, float]:
    model = random_prompts.model_of(width, 4, max(1, width // 64))
    model.learn({"adapter"})
    p = random_prompts.prompts(32)
    plan = np.split(np.argsort(p.lengths, kind="stable"), 2)
    return _timed(_inner(model.backbone), lambda: language.train_ours(model, p, plan, False))


def _inner(backbone: Backbone) -> int:
    """Parameters of the blocks: the embedding is looked up, not multiplied."""
    return sum(p.numel() for n, p in backbone.named_parameters() if ".layers." in n)


def _rows(rows: int) -> tuple[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        log, items = data.generated(Path(folder), rows)
        return rows, took_isolated("ingest", log, items, Path(folder) / "data")[0].cpu


AXES = (
    Axis("interactions read from CSV", "1", [300_000, 1_000_000, 3_000_000], _rows),
    Axis("interactions trained on (SASRec, BCE)", "1", [640, 1280, 2560, 5120], _sequences),
    Axis("items, sampled loss", "0 with row-sparse updates", [3_000, 10_000, 100_000, 1_000_000],
         _items_trained),
    Axis("items ranked (top-10, 64 users)", "1", [30_000, 100_000, 300_000, 1_000_000], _items_ranked),
    Axis("length of a history", "1, then 2", [12, 25, 50, 100, 200], _length),
    Axis("users ranked in one batch", "1", [1024, 2048, 4096, 8192], _users),
    Axis("tokens of a prompt", "1, then 2", [80, 160, 320], _prompt),
    Axis("candidates of one history", "prefix + n · suffix: up to 1", [50, 100, 200, 400, 800],
         _candidates),
    Axis("parameters of the language model's blocks", "1", [128, 256, 512], _model),
)  # fmt: skip


@drawn
def picture(found: Sequence[Finding]) -> Figure:
    """Every axis beside a straight line of slope 1 through its first point."""
    rows = math.ceil(len(found) / 3)
    figure, axes = new_figure(9.0, 2.6 * rows, min(3, len(found)), rows)
    for axis, finding in zip(axes, found, strict=False):
        x, y = np.array(list(finding.points)), np.array(list(finding.points.values()))
        axis.loglog(x, y[0] * x / x[0], color=TRIVIAL, linestyle=":")
        axis.loglog(x, y, color=OURS, marker="o", markersize=3)
        axis.minorticks_off()
        name = textwrap.fill(finding.work.removeprefix("growth with "), 30)
        axis.set_title(f"{name}\nslope {finding.ratio:.2f}", fontsize=8)
        axis.set_ylabel("CPU s", fontsize=8)
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    return figure
