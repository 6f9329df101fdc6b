"""Peak memory of training, each side in a process of its own, as a share of the usual way's."""

from __future__ import annotations

import tempfile

from benchmarks.bench import trainer
from benchmarks.bench.isolated import held_isolated, took_isolated
from benchmarks.bench.measure import Finding, within

STAGES = ("adapter", "mapper")
PRETRAINED = (("text stage, batches of 64", "train", 4096), ("100 candidates ranked", "list", 1229))
"""What a process with a pretrained model does, and the MB that all of it may hold at most."""


def bench(size: str) -> list[Finding]:
    """Both stages of the language model against the reference way, and the encoder's full softmax."""
    found = []
    for stage in STAGES:
        work = f"peak memory, LLM training of the {stage}, size {size}"
        ours, theirs = (took_isolated("training", stage, way, size)[1] for way in ("ours", "reference"))
        found.append(finding(work, "reference way", ours, theirs, 4.0))
    if size != "b":
        share = 0.1 if size == "tiny" else 1.0
        ours, theirs = (took_isolated("softmax", way, share)[1] for way in ("ours", "padded"))
        work = "peak memory, SASRec training, softmax"
        found.append(finding(work, "padded plain torch loop", ours, theirs, None))
    return found


def pretrained(shape: str) -> list[Finding]:
    """The same of a pretrained model, on a CPU and with everything that its process holds."""
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(folder, trainer.SHAPES[shape])
        found = []
        for work, does, limit in PRETRAINED:
            held = held_isolated("pretrained", folder, does)
            work = f"peak memory, {work}, shape {shape}"
            found.append(within(work, limit, held, "MB", "imports included"))
        return found


def finding(work: str, rival: str, ours: float, theirs: float, goal: float | None) -> Finding:
    """Both peaks in MB, their ratio, and whether it reaches ``goal``."""
    note = f"above imports: {ours / theirs:.2f} of theirs"
    return Finding(work, rival, ours, theirs, theirs / ours, None, None, {}, goal, note, unit="MB")
