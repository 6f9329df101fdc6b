"""Whether the faster ways learn as much: validation AUC over seeds, on a finished run's data.

The encoder's batches of like length against batches in random order, each padded to its longest; and
prompts of one history side by side against prompts in random order.  Both are the run's own tasks with
its own settings, in the one loop; a plain way only hides from the planner what it would plan by.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bench.measure import Finding, absent
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.sequences import windows
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System
from sasrecllm.settings import Config, Loop, LoopSettings
from sasrecllm.training.finetune import AnswerTask
from sasrecllm.training.loop import fit
from sasrecllm.training.pretrain import EncoderTask
from sasrecllm.training.task import Task

Build = Callable[[System, bool], tuple[Task, Loop]]


def bench(run: Path | None, seeds: int) -> list[Finding]:
    """Mean best validation AUC of both ways over ``seeds`` seeds."""
    if run is None or not RunFolder(run).summary.is_file():
        why = "no run: make demo, then --run runs/demo"
        return [absent(f"equal quality: {ours}", theirs, why) for ours, theirs, _ in WAYS]
    folder = RunFolder(run)
    config, dataset = stored_config(folder), stored_data(folder)
    found = []
    for ours, theirs, build in WAYS:
        learnt = [
            [_learnt(folder, config, dataset, build, seed, plain) for plain in (False, True)]
            for seed in range(seeds)
        ]
        found.append(finding(f"equal quality: {ours}", theirs, np.array(learnt)))
    return found


def finding(work: str, rival: str, learnt: np.ndarray) -> Finding:
    """What [seeds, 2] values, ours and theirs, say."""
    fast, plain = learnt.mean(axis=0)
    spread = learnt.std(axis=0, ddof=1).max() if len(learnt) > 1 else float("nan")
    each = "; ".join(" ".join(f"{v:.4f}" for v in column) for column in learnt.T)
    note = f"difference {fast - plain:+.4f}, between seeds ±{spread:.4f} ({each})"
    return Finding(work, rival, fast, plain, fast / plain, None, None, {}, None, note, unit="AUC")


def _learnt(
    run: RunFolder, config: Config, dataset: Dataset, build: Build, seed: int, plain: bool
) -> float:
    """Best validation AUC of one training."""
    seeded = config.model_copy(update={"seed": seed})
    task, loop = build(System.new(run, seeded, dataset, "cpu"), plain)
    value = fit(task, LoopSettings(**loop.model_dump(), seed=seed)).best["auc"]
    assert value is not None
    return value


def _encoder(parts: System, plain: bool) -> tuple[Task, Loop]:
    c, data = parts.config.encoder, parts.dataset
    inside = windows(data, length=c.length, likes_only=c.likes_only, rows=data.rows("train"))
    task = EncoderTask("quality", parts.encoder, inside, data.questions("valid"), loss=c.loss,
                       negatives=c.negatives)  # fmt: skip
    if plain:
        task.lengths = np.ones_like(task.lengths)
    return task, c.loop


def _answers(parts: System, plain: bool) -> tuple[Task, Loop]:
    data = parts.dataset
    task = AnswerTask("quality", parts.model, parts.builder("text"), data.questions("train"),
                      data.questions("valid"), parts=["adapter"])  # fmt: skip
    if plain:
        task.prefix_ids = None
    return task, parts.config.llm.loop


WAYS: tuple[tuple[str, str, Build], ...] = (
    ("SASRec, batches of like length", "random order, padded", _encoder),
    ("LLM stage 1, histories side by side", "without regard to histories", _answers),
)
