"""What one GPU does with a language model of a real size, through the product's own paths.

    python -m benchmarks.gpu OUT [--model FOLDER] [--device cuda] [--tiny]
    python -m benchmarks.gpu --table OUT/gpu.json

Every step runs in a process of its own with a time limit; one that fails says why, and the others go
on.  Data is the known world, generated here; weights are random, in the shapes of SmolLM2-135M and of
TinyLlama-1.1B, but for ``--model``, an ordinary folder that takes the place of the first.

OUT gets ``gpu.json``, its table ``gpu.md`` and ``gpu.log``, what the steps said.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench.device import matrix_peak, peak_memory, seconds
from benchmarks.llm_cost import SHAPES
from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.config import load_config
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.loading import save_backbone
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.environment import git_revision, versions
from sasrecllm.machine.progress import Progress
from sasrecllm.pipeline.prepare import prepare
from sasrecllm.runs.opening import open_run
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Work
from sasrecllm.stages.strategies import all_stages
from sasrecllm.training.loop import Task, fit

ROOT = Path(__file__).resolve().parents[1]
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
        shrunk: sizes that replace those of both shapes.
    """

    batches: dict[str, tuple[int, ...]]
    steps: int
    warm: int
    world: str
    recipe_steps: int
    matrix: int
    shrunk: dict[str, int]


FULL = Scale(
    {SMALL: (16, 256), LARGE: (16, 64)}, 20, 5, "{users: 800, items: 600, rows: 60}", 200, 8192, {}
)
TINY = Scale(
    {SMALL: (4,), LARGE: (4,)}, 2, 1, "{users: 120, items: 120, rows: 14}", 3, 128,
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


def trained(place: Place, shape: str, quantize: str) -> dict[str, Any]:
    """Rows a second and arithmetic of the text and the mapper stage, and lists of 100 reranked."""
    more = [f"llm.quantize={quantize}", "strategy=plug-and-play"]
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
    _forget_peak(place.device)
    fit(task, settings.model_copy(update=few), progress=clock, device=place.device)
    hook.remove()
    took = clock.at[-1] - clock.at[warm - 1]
    rows = batch * (len(clock.at) - warm)
    timed = np.concatenate(seen)[-rows:]
    operations = _operations(task, timed, batch)
    return {
        "rows_per_second": rows / took,
        "tokens_per_second": float(task.lengths[timed].sum()) / took,
        "flops": operations * rows / took,
        "peak_bytes": peak_memory(place.device),
        "steps": len(clock.at) - warm,
        "trained": sum(p.numel() for p in task.trainable().values()),
    }


def _operations(task: Task, rows: np.ndarray, batch: int, tried: int = 4) -> float:
    """Multiplications and additions of the matrix products for one row, forward and back.

    Counted as they are done: text that prompts share once, padding too, the last block where it is
    read.
    """
    task.learn()
    starts = np.linspace(0, len(rows) - batch, tried).astype(int)
    with FlopCounterMode(display=False) as counter:
        for start in starts:
            task(rows[start : start + batch]).backward()
    task.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / (tried * batch)


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
    scorer = work.system.llm_scorer("soft", "soft")
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
        LARGE, f"llm.loop.max_steps={steps}", "encoder.loop.epochs=3", "evaluation.ablations=false",
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
        "steps": {
            p.parent.name: read_json(p)["steps"] for p in sorted(out.glob("stages/*/stage.json"))
        },
    }


def _aucs(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get("auc") for name, row in rows.items()}


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


def _forget_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()


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
    Step(f"{SMALL} bf16", lambda p: trained(p, SMALL, "none"), 90),
    Step(f"{LARGE} bf16", lambda p: trained(p, LARGE, "none"), 90),
    Step(f"{LARGE} nf4", lambda p: trained(p, LARGE, "nf4"), 90),
    Step("recipe", recipe, 150),
    Step("torchrun", torchrun, 150, beside=True),
)
"""In this order; each starts when all before it have ended."""


# -------------------------------------------------------------------------------------- the driver


def measure(out: Path, device: str, tiny: bool, model: Path | None, only: Sequence[str]) -> Path:
    """Run the steps; returns the file of what they found, written anew after each."""
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_revision(ROOT),
        "versions": versions() | {"cuda": torch.version.cuda},
        "seed": 0,
        "tiny": tiny,
        "model": model.name if model is not None else None,
        "steps": {},
        "failed": {},
    }
    with tempfile.TemporaryDirectory(prefix="gpu-") as work, (out / "gpu.log").open("ab") as log:
        queue = [step for step in STEPS if not only or step.name in only]
        while queue:
            together = [queue.pop(0)]
            while queue and queue[0].beside:
                together.append(queue.pop(0))
            begun = [(step, _begin(step, Path(work), device, tiny, model, log)) for step in together]
            for step, process in begun:
                _end(step, process, Path(work), found, step.limit * (10 if tiny else 1))
                write_json(out / "gpu.json", found)
                write_text(out / "gpu.md", table(found))
    return out / "gpu.json"


def _begin(step: Step, work: Path, device: str, tiny: bool, model: Path | None, log: Any) -> Any:
    command = [sys.executable, "-m", "benchmarks.gpu", work, "--step", step.name, "--device", device]
    command += ["--tiny"] if tiny else []
    command += ["--model", model] if model is not None else []
    began = time.monotonic()
    process = subprocess.Popen(
        [str(c) for c in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, env=_environment(), start_new_session=True,
    )  # fmt: skip
    return process, began, log.name


def _environment() -> dict[str, str]:
    """This process's, with the checkout on the path and no hub."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _end(step: Step, begun: Any, work: Path, found: dict[str, Any], limit: int) -> None:
    """Wait for a step's process, no longer than its limit, and note what it found or why it failed."""
    process, began, log = begun
    why = ""
    try:
        if process.wait(max(1.0, limit - (time.monotonic() - began))):
            why = f"exit {process.returncode}"
    except subprocess.TimeoutExpired:
        why = f"ended after {limit} s"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    took = time.monotonic() - began
    if why:
        said = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        found["failed"][step.name] = f"{why}: {said[-1] if said else 'it said nothing'}"
        print(f"{step.name}: FAILED, {why}", *said[-12:], sep="\n    ", flush=True)
        return
    found["steps"][step.name] = read_json(work / f"{step.name}.json") | {"wall": took}
    print(f"{step.name}: {took:.0f} s", flush=True)


def table(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    steps = found["steps"]
    peak = steps.get("machine", {}).get("peak_flops", 0.0)
    lines = [
        _about(found),
        "",
        "| language model | what | rows a second | tokens a second | TFLOP/s | share of the peak"
        " | device memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, step in steps.items():
        for what, row in step.items():
            if isinstance(row, dict) and "rows_per_second" in row:
                lines.append(_row(name, what, row, peak))
    lines.append("")
    for name, step in steps.items():
        if said := _said(name, step):
            lines.append(f"- {said}")
    lines += [f"- **{name} failed**: {why}" for name, why in found["failed"].items()]
    return "\n".join(lines) + "\n"


def _about(found: dict[str, Any]) -> str:
    """One line: what was measured on, and what the shares are shares of."""
    about, packages = found["steps"].get("machine", {}), found["versions"]
    said = [about.get("name", "device unknown"), found["date"][:10], f"seed {found['seed']}"]
    named = [p for p in ("torch", "transformers", "peft", "bitsandbytes") if p in packages]
    said += [f"{package} {packages[package]}" for package in named]
    if found["commit"]:
        said.append(f"commit {found['commit'][:7]}")
    line = ", ".join(said) + "."
    if about:
        line += (
            f" Matrix peak in bf16: {about['peak_flops'] / 1e12:.1f} TFLOP/s (products of"
            f" {about['matrix']}², the best of five); copies of its memory:"
            f" {about['bytes_per_second'] / 1e12:.2f} TB/s, read and written."
        )
    return line + (" **Tiny: a trial of the script.**" if found["tiny"] else "")


def _said(name: str, step: dict[str, Any]) -> str:
    if name == "weights":
        sizes = ", ".join(f"{shape} {count:,}" for shape, count in step["parameters"].items())
        return f"parameters: {sizes}; {step['wall']:.0f} s"
    if "weights_bytes" in step:
        return f"{name}: frozen weights {step['weights_bytes'] / 2**20:,.0f} MB; {step['wall']:.0f} s"
    if name == "recipe":
        same = "as in the paper" if step["trained"] == step["wanted"] else f"paper {step['wanted']:,}"
        return (
            f"the paper's recipe on the known world: {step['trained']:,} trained parameters ({same}),"
            f" steps {step['steps']}; {step['seconds']:.0f} s"
        )
    if name == "torchrun":
        return f"torchrun with one process, a whole tiny run: {step['seconds']:.0f} s"
    return ""


def _row(name: str, what: str, row: dict[str, float], peak: float) -> str:
    said = {"reading": "scoring with soft tokens", "rerank": "reranking 100 candidates"}.get(what, what)
    if "seconds" in row:
        said += f": {row['seconds'] * 1e3:.1f} ms a request"
    cells = [name, said, f"{row['rows_per_second']:,.0f}", "", "", "", ""]
    if "flops" in row:
        cells[3] = f"{row['tokens_per_second']:,.0f}"
        cells[4] = f"{row['flops'] / 1e12:.1f}"
        cells[5] = f"{row['flops'] / peak:.0%}" if peak else ""
        cells[6] = f"{row['peak_bytes'] / 2**30:.1f} GiB" if row["peak_bytes"] else ""
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, take one step of it, or print the table of what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "")[:72])
    parser.add_argument("out", nargs="?", type=Path, help="folder of the results")
    parser.add_argument("--model", type=Path, help="folder that takes the place of the small shape")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--tiny", action="store_true", help="a trial of the script, on any machine")
    names = ", ".join(step.name for step in STEPS)
    parser.add_argument("--only", default="", help=f"steps with commas, of {names}")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path, help="print the table of a gpu.json, and nothing else")
    asked = parser.parse_args(arguments)
    if asked.table is not None:
        print(table(json.loads(asked.table.read_text(encoding="utf-8"))), end="")
        return 0
    if asked.out is None:
        parser.error("give the folder of the results")
    device, model = pick_device(asked.device), asked.model and asked.model.resolve()
    if asked.step:
        step = next(s for s in STEPS if s.name == asked.step)
        place = Place(asked.out, device, TINY if asked.tiny else FULL, model)
        write_json(asked.out / f"{step.name}.json", step.work(place))
        return 0
    only = [name.strip() for name in asked.only.split(",") if name.strip()]
    path = measure(asked.out, device, asked.tiny, model, only)
    found = json.loads(path.read_text(encoding="utf-8"))
    print(table(found), end="")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
