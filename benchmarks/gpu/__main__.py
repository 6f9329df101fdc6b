"""What one GPU does with a language model of a real size, through the product's own paths.

    python -m benchmarks.gpu OUT [--model FOLDER] [--device cuda] [--tiny]
    python -m benchmarks.gpu --table OUT/gpu.json...

Every step runs in a process of its own with a time limit; one that fails says why, and the others go
on.  Data is the known world, generated here; weights are random, in the shapes of SmolLM2-135M and of
TinyLlama-1.1B, but for ``--model``, an ordinary folder that takes the place of the first.

OUT gets ``gpu.json``, its table ``gpu.md`` and ``gpu.log``, what the steps said.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.steps import FULL, ROOT, STEPS, TINY, Place, Step
from benchmarks.gpu.table import table
from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.environment import git_revision, versions


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
    with tempfile.TemporaryDirectory(prefix="gpu-") as work:
        place = Place(Path(work), device, TINY if tiny else FULL, model)
        queue = [step for step in STEPS if not only or step.name in only]
        while queue:
            together = [queue.pop(0)]
            while queue and queue[0].beside:
                together.append(queue.pop(0))
            begun = [Begun(step, place) for step in together]
            try:
                for step in begun:
                    step.end(out, found)
                    write_json(out / "gpu.json", found)
                    write_text(out / "gpu.md", table(found))
            finally:
                for step in begun:
                    step.kill()
    return out / "gpu.json"


class Begun:
    """A step at work in a process of its own."""

    def __init__(self, step: Step, place: Place) -> None:
        self.step, self.place = step, place
        tiny = place.scale is TINY
        self.limit = step.limit * (10 if tiny else 1)
        self.log = place.work / f"{step.name}.log"
        command = [sys.executable, "-m", "benchmarks.gpu", place.work, "--step", step.name]
        command += ["--device", place.device, *(["--tiny"] if tiny else [])]
        command += ["--model", place.model] if place.model is not None else []
        self.began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(c) for c in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=_environment(), start_new_session=True,
            )  # fmt: skip

    def end(self, out: Path, found: dict[str, Any]) -> None:
        """Wait, no longer than the limit, and note what the step found or why it failed."""
        name, why = self.step.name, ""
        try:
            if self.process.wait(max(1.0, self.limit - (time.monotonic() - self.began))):
                why = f"exit {self.process.returncode}"
        except subprocess.TimeoutExpired:
            why = f"ended after {self.limit} s"
        self.kill()
        took, said = time.monotonic() - self.began, self.log.read_text("utf-8", "replace")
        with (out / "gpu.log").open("a", encoding="utf-8") as log:
            log.write(f"=== {name}: {took:.0f} s {why}\n{said}\n")
        if why:
            lines = said.strip().splitlines() or ["it said nothing"]
            last = max((i for i, line in enumerate(lines) if line[:1].strip()), default=0)
            found["failed"][name] = " ".join([f"{why}:", *(line.strip() for line in lines[last:])])
            print(f"{name}: FAILED, {why}", *lines[-12:], sep="\n    ", flush=True)
        else:
            found["steps"][name] = read_json(self.place.work / f"{name}.json") | {"wall": took}
            print(f"{name}: {took:.0f} s", flush=True)

    def kill(self) -> None:
        """End its process, if it has not ended, and those that it began."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _environment() -> dict[str, str]:
    """This process's, with the checkout on the path and no hub."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several calls on one machine as one: of a step that was taken twice, the last that ended well."""
    steps = {name: step for part in parts for name, step in part["steps"].items()}
    failed = {name: why for part in parts for name, why in part["failed"].items() if name not in steps}
    return dict(parts[0]) | {"steps": steps, "failed": failed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, take one step of it, or print the table of what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What one GPU does.")
    parser.add_argument("out", nargs="?", type=Path, help="folder of the results")
    parser.add_argument("--model", type=Path, help="folder that takes the place of the small shape")
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--tiny", action="store_true", help="a trial of the script, on any machine")
    names = ", ".join(step.name for step in STEPS)
    parser.add_argument("--only", default="", help=f"steps with commas, of {names}")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument(
        "--table", type=Path, nargs="+", help="print the table of a gpu.json, or of several as one"
    )
    asked = parser.parse_args(arguments)
    if asked.table is not None:
        print(
            table(joined([json.loads(path.read_text(encoding="utf-8")) for path in asked.table])),
            end="",
        )
        return 0
    if asked.out is None:
        parser.error("give the folder of the results")
    device, model = pick_device(asked.device), asked.model and asked.model.resolve()
    if asked.step:
        step = next(s for s in STEPS if s.name == asked.step)
        place = Place(asked.out, device, TINY if asked.tiny else FULL, model)
        write_json(asked.out / f"{step.name}.json", step.work(place))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the steps, too
    only = [name.strip() for name in asked.only.split(",") if name.strip()]
    path = measure(asked.out, device, asked.tiny, model, only)
    found = json.loads(path.read_text(encoding="utf-8"))
    print(table(found), end="")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
