"""The steps of the GPU benchmark: what each measures, through the product's own paths."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import flop_counter

from benchmarks.bench.device import forget_peak, matrix_peak, peak_memory, seconds
from benchmarks.gpu.blocks import compared
from benchmarks.llm_cost import SHAPES
from sasrecllm.checkpoint import read_json
from sasrecllm.config import load_config
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.loading import save_backbone
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.machine.progress import Progress
from sasrecllm.pipeline.prepare import prepare
from sasrecllm.runs.opening import open_run
from sasrecllm.runs.scorers import llm_scorer
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Work
from sasrecllm.stages.strategies import all_stages
from sasrecllm.training.loop import fit
from sasrecllm.training.task import Task

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs/paper/ml-1m.yaml"
PAPERS = 1_804_608
"""Trained parameters of the paper's recipe: LoRA and mapping layer."""
TINYLLAMA = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
SMALL = "135M"
LARGE = "1.1B"
LLAMAS = {
    SMALL: dict(
        model_type="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536,
        num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        tie_word_embeddings=True,
    ),
    LARGE: SHAPES[TINYLLAMA],
}  # fmt: skip
"""Shapes as the models' own config.json gives them."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Args:
        batches: prompts of an optimiser step, for each shape of language model.
        steps: that are timed, after ``warm`` untimed ones.
        world: data.world of the generated log.
        recipe_steps: of the paper's recipe, in each stage.
        matrix: rows of the square matrices whose product measures the peak.
        tokens: of the prompts by which blocks are compared.
        shrunk: sizes that replace those of both shapes.
    """

    batches: dict[str, tuple[int, ...]]
    steps: int
    warm: int
    world: str
    recipe_steps: int
    matrix: int
    tokens: int
    shrunk: dict[str, int]


FULL = Scale(
    {SMALL: (16, 256), LARGE: (16, 64)}, 10, 2, "{users: 300, items: 400, rows: 60}", 200, 8192, 190, {}
)
TINY = Scale(
    {SMALL: (4,), LARGE: (4,)}, 2, 1, "{users: 120, items: 120, rows: 14}", 3, 128, 12,
    dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
         num_key_value_heads=2, vocab_size=2000),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a step works.

    Args:
        work: folder of this call, for weights, runs and what steps found.
        device: cuda or cpu.
        scale: how much is done.
        model: folder that takes the place of the small shape; None for random weights.
    """

    work: Path
    device: str
    scale: Scale
    model: Path | None = None

    def weights(self, shape: str) -> Path:
        """Folder of the language model of a shape."""
        return self.model if shape == SMALL and self.model is not None else self.work / shape

    def settings(self, shape: str, *more: str) -> list[str]:
        """Overrides of the paper's recipe: the known world, and the language model of ``shape``."""
        return [
            f"device={self.device}",
            "data.source=known-world",
            f"data.world={self.scale.world}",
            f"llm.backbone={self.weights(shape)}",
            *more,
        ]


# --------------------------------------------------------------------------------------- the steps


def machine(place: Place) -> dict[str, Any]:
    """The device, its matrix peak in bf16, and how fast it copies its own memory."""
    size, device = place.scale.matrix, place.device
    ones = torch.ones(size * size * 8, dtype=torch.bfloat16, device=device)
    copied = 2 * ones.numel() * ones.element_size() / seconds(ones.clone, device, 5)
    about = {"peak_flops": matrix_peak(device, size), "matrix": size, "bytes_per_second": copied}
    if device == "cpu":
        return about | {"name": "CPU", "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return about | {"name": properties.name, "memory": properties.total_memory}


def weights(place: Place) -> dict[str, Any]:
    """Folders of random weights, made on the device, with a tokenizer of the world's titles."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = [f"data.world={place.scale.world}", "data.source=known-world"]
    run = open_run(place.work / "words", load_config(RECIPE, settings), "", quiet=True)
    titles = prepare(run).catalog.titles
    found = {}
    for shape, about in LLAMAS.items():
        about = about | place.scale.shrunk | {"max_position_embeddings": 2048}
        config = AutoConfig.for_model(about.pop("model_type"), **about)
        torch.manual_seed(0)
        with torch.device(place.device):
            causal = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        found[shape] = sum(p.numel() for p in causal.parameters())
        if place.weights(shape) == place.work / shape:
            words = train_tokenizer([*titles, *[" " + t for t in titles]], min(4000, config.vocab_size))
            save_backbone(Backbone(causal.cpu(), words), place.work / shape)
    return {"parameters": found}


def blocks(place: Place) -> dict[str, Any]:
    """A step of the small shape by blocks of ours and by the library's."""
    batches = (*place.scale.batches[SMALL][:1], 4 * place.scale.batches[SMALL][0])
    shape = LLAMAS[SMALL] | place.scale.shrunk
    return compared(shape, place.device, (*batches, 2 * batches[-1]), place.scale.tokens)


def trained(place: Place, shape: str, quantize: str) -> dict[str, Any]:
    """Rows a second and arithmetic of the text and the mapper stage, and lists of 100 reranked."""
    more = [f"llm.quantize={quantize}", "strategy=plug-and-play", "llm.validation_users=0.1"]
    run = open_run(
        place.work / f"{shape}-{quantize}",
        load_config(RECIPE, place.settings(shape, *more)),
        "",
        quiet=True,
    )
    dataset = prepare(run)
    system = System.new(run.folder, run.config, dataset, run.config.device)
    work = Work(run, dataset, system, all_stages(run.config))
    frozen = [p for p in system.backbone.parameters() if not p.requires_grad]
    found: dict[str, Any] = {"weights_bytes": sum(p.numel() * p.element_size() for p in frozen)}
    for stage in ("text", "mapper"):
        for batch in place.scale.batches[shape]:
            found[f"{stage}, batch {batch}"] = _stage(place, work, stage, batch)
    found["reads_prefixes"] = system.backbone.reads_prefixes
    found["reading"] = _reading(place, work)
    found["rerank"] = _reranked(place, work)
    return found


def _stage(place: Place, work: Work, name: str, batch: int) -> dict[str, float]:
    task, settings, _ = work.stages[name].kind.task(work, work.stages[name])  # type: ignore[misc]
    warm = place.scale.warm
    few = dict(batch_size=batch, max_steps=warm + place.scale.steps, patience=0, save_every=0)
    few |= dict(evals_per_epoch=1, epochs=100)
    clock = Clock()
    seen: list[np.ndarray] = []
    hook = task.register_forward_pre_hook(
        lambda _, rows: seen.append(rows[0]) if task.training or torch.is_grad_enabled() else None
    )
    forget_peak(place.device)
    fit(task, settings.model_copy(update=few), progress=clock, device=place.device)
    hook.remove()
    took = clock.at[-1] - clock.at[warm - 1]
    rows = batch * (len(clock.at) - warm)
    timed = np.concatenate(seen)[-rows:]
    operations = _operations(task, timed, batch)
    return {
        "rows_per_second": rows / took,
        "tokens_per_second": float(task.lengths[timed].sum()) / took,
        "operations_per_row": operations,
        "flops": operations * rows / took,
        "peak_bytes": peak_memory(place.device),
        "steps": len(clock.at) - warm,
        "trained": sum(p.numel() for p in task.trainable().values()),
    }


def _operations(task: Task, rows: np.ndarray, batch: int) -> float:
    """Multiplications and additions of the matrix products for one row, forward and back.

    Counted as they are done, in the middle one of the steps: text that prompts share once, padding too,
    the last block where it is read.
    """
    task.learn()
    middle = len(rows) // (2 * batch) * batch
    with flop_counter.FlopCounterMode(
        display=False, custom_mapping=_attention() | _four_bits()
    ) as counter:
        task(rows[middle : middle + batch]).backward()
    task.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / batch


def _attention() -> dict[Any, Any]:
    """How attention whose heads share keys is counted (torch 2.11 refuses it), and sums in place."""

    def whole(query: Sequence[int], shared: Sequence[int]) -> tuple[int, ...]:
        return (*query[:2], *shared[2:])

    def forward(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
        return int(flop_counter.sdpa_flop_count(q, whole(q, k), whole(q, v)))  # type: ignore[no-untyped-call]

    def backward(
        grad: Sequence[int], q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any
    ) -> int:
        shapes = (grad, q, whole(q, k), whole(q, v))
        return int(flop_counter.sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]

    def added(_: Any, left: Sequence[int], right: Sequence[int], *__: Any, **___: Any) -> int:
        return 2 * math.prod(left) * right[-1]

    aten = torch.ops.aten
    found: dict[Any, Any] = {aten.addmm_: added}
    for kind in (
        "efficient_attention",
        "flash_attention",
        "cudnn_attention",
        "flash_attention_for_cpu",
    ):
        found[getattr(aten, f"_scaled_dot_product_{kind}")] = forward
        found[getattr(aten, f"_scaled_dot_product_{kind}_backward")] = backward
    return found


def _four_bits() -> dict[Any, Any]:
    """How the arithmetic of bitsandbytes' own product is counted, where it is there."""
    try:
        product = torch.ops.bitsandbytes.gemm_4bit
    except AttributeError:
        return {}

    def count(left: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
        return 2 * math.prod(left) * out_shape[-1]

    return {product: count}


def _reading(place: Place, work: Work) -> dict[str, float]:
    """Rows of the validation split that are scored a second, with soft tokens."""
    task = work.stages["mapper"].kind.task(work, work.stages["mapper"])[0]  # type: ignore[index]
    task.eval()
    rows = np.arange(task.n_validation)
    with torch.no_grad():
        took = seconds(lambda: task.validation_scores(rows), place.device, 2)
    return {"rows_per_second": len(rows) / took}


def _reranked(place: Place, work: Work, candidates: int = 100) -> dict[str, float]:
    """One request: a history and its candidates, through the scorer that ``recommend`` asks."""
    scorer = llm_scorer(work.system, "soft", "soft")
    asked = work.questions("test")
    rng = np.random.default_rng(0)
    items = rng.choice(work.dataset.n_items, size=(1, candidates))
    one = asked.histories.take(np.arange(len(asked))[-1:])
    took = seconds(lambda: scorer.score(one, items), place.device, 5)
    return {"seconds": took, "rows_per_second": candidates / took}


def torchrun(place: Place) -> dict[str, Any]:
    """A whole tiny run, as one process under torchrun."""
    out = place.work / "torchrun"
    started = time.perf_counter()
    _done([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "--standalone",
           "--local-addr", "127.0.0.1", "-m", "sasrecllm", "run", "--config", ROOT / "tests/tiny.yaml",
           "--out", out, f"device={place.device}"])  # fmt: skip
    rows = read_json(out / "results.json")["rows"]
    return {"seconds": time.perf_counter() - started, "rows": _aucs(rows)}


def recipe(place: Place) -> dict[str, Any]:
    """The paper's recipe on the known world: what learns is counted."""
    out, steps = place.work / "recipe", place.scale.recipe_steps
    settings = place.settings(
        LARGE, f"llm.loop.max_steps={steps}", "llm.validation_users=0.1", "encoder.loop.epochs=3",
        "evaluation.ablations=false",
        "evaluation.ranking.when=never", "evaluation.resamples=100", "lists.enabled=false",
    )  # fmt: skip
    started = time.perf_counter()
    _done([sys.executable, "-m", "sasrecllm", "run", "--config", RECIPE, "--out", out, *settings])
    results = read_json(out / "results.json")
    parts = results["parameters"]
    return {
        "seconds": time.perf_counter() - started,
        "rows": _aucs(results["rows"]),
        "trained": parts["adapter"] + parts["mapper"],
        "wanted": PAPERS,
        "steps": {path.parent.name: _steps(path) for path in sorted(out.glob("stages/*/stage.json"))},
    }


def _steps(path: Path) -> int | None:
    """Optimiser steps of a finished stage; None where nothing was trained by steps."""
    steps: int | None = read_json(path)["result"].get("steps")
    return steps


def _aucs(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: row["metrics"]["auc"] for name, row in rows.items()}


def _done(command: Sequence[Any]) -> None:
    """Run a command whose words go on; one that fails ends this step."""
    subprocess.run([str(c) for c in command], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)


class Clock(Progress):
    """A silent progress that notes when each step was over."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.at: list[float] = []

    def step(self, what: str, done: int, total: int, extra: Any = None) -> None:
        """The loss of the step has been read by then, so the device is done with it."""
        self.at.append(time.perf_counter())


@dataclass(frozen=True)
class Step:
    """One process of the benchmark.

    Args:
        limit: seconds after which it is ended; ten times as many in a trial, which any machine may run.
        beside: it starts with the step before it, beside it.
    """

    name: str
    work: Callable[[Place], dict[str, Any]]
    limit: int
    beside: bool = False


STEPS = (
    Step("machine", machine, 60),
    Step("weights", weights, 60),
    Step("blocks", blocks, 90),
    Step(f"{SMALL} bf16", lambda p: trained(p, SMALL, "none"), 150),
    Step(f"{LARGE} bf16", lambda p: trained(p, LARGE, "none"), 150),
    Step(f"{LARGE} nf4", lambda p: trained(p, LARGE, "nf4"), 150),
    Step("recipe", recipe, 220),
    Step("torchrun", torchrun, 200, beside=True),
)
"""In this order; each starts when all before it have ended."""
