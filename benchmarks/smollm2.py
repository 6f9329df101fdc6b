"""Rows of a study side by side on one GPU; what a language model knows by heart.

    python -m benchmarks.smollm2 random .cache/smollm2-135m .cache/smollm2-random
    python -m benchmarks.smollm2 run PLAN.yaml OUT [KEY=VALUE of the study…] [--jobs 2] [--seconds 400]
    python -m benchmarks.smollm2 memory RUN [--asked 5000]
    python -m benchmarks.smollm2 pack OUT FILE.tar.gz

``random`` writes the same architecture with random weights.  ``run`` starts the runs of the study's
rows in their order, ``--jobs`` at a time, each in a process of its own with a log beside its folder; a
row waits for those that it loads from.  What is unfinished after ``--seconds`` is stopped, and goes on
when the command is given again.
``memory`` asks the text stage of a finished run training questions, of rows that it was taught on, of
rows that it was not, and of users that were kept from it.  ``pack`` puts everything but weights
into one file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sasrecllm.checkpoint import is_part, write_json
from sasrecllm.errors import SasrecllmError
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder, StageFolder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.scorers import llm_scorer
from sasrecllm.runs.scores import load_scores
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Stage, Work
from sasrecllm.stages.strategies import planned
from sasrecllm.studies.collect import write_study
from sasrecllm.studies.plan import REFERENCE, Cell, Plan, cells_of, load_plan
from sasrecllm.studies.run import CHILD, Study
from sasrecllm.training.batches import plan_epoch
from sasrecllm.training.finetune import AnswerTask
from sasrecllm.types import FloatArray, IntArray, LabelArray, Questions

SOFT = "soft tokens"
"""How the names of the rows begin that read an encoder."""
WEIGHTS = (".safetensors", ".pt", ".bin")


def random_weights(source: Path, out: Path) -> None:
    """The architecture and tokenizer of ``source`` with weights as its makers drew them at first."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(source)
    config.initializer_range = config.hidden_size**-0.5
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(out)
    AutoTokenizer.from_pretrained(source).save_pretrained(out)


# Side by side ---------------------------------------------------------------------------------------


@dataclass
class Job:
    """One run of the study."""

    cell: Cell
    started: float
    process: subprocess.Popen[bytes]


@dataclass
class Runner:
    """The runs of a study, several at a time."""

    study: Study
    jobs: int
    until: float
    encoder: Path | None = None
    running: list[Job] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Start and await runs until all are finished or the time is over."""
        waiting = [c for c in cells_of(self.study.plan) if not self.finished(c.row)]
        while (waiting or self.running) and time.monotonic() < self.until:
            self.running = [job for job in self.running if not self.ended(job)]
            for cell in list(waiting):
                if len(self.running) >= self.jobs:
                    break
                needed = self.needed(cell.row)
                if needed & self.failed:
                    self.failed.add(cell.row)
                    waiting.remove(cell)
                elif all(map(self.finished, needed)) and self.has_encoder(cell.row):
                    waiting.remove(cell)
                    self.running.append(self.start(cell))
            time.sleep(0.2)
        self.stop()

    def needed(self, row: str) -> set[str]:
        """Rows that must be finished before ``row``: it loads parts of them."""
        return set(REFERENCE.findall(json.dumps(self.study.plan.rows[row].set)))

    def has_encoder(self, row: str) -> bool:
        """Whether the encoder that a soft row loads is there (another process may be training it)."""
        return self.encoder is None or not row.startswith(SOFT) or is_part(self.encoder)

    def start(self, cell: Cell) -> Job:
        """Start one run in a process of its own."""
        folder = cell.folder(self.study.out)
        folder.parent.mkdir(parents=True, exist_ok=True)
        values = self.study.settings(cell).model_dump(exclude_unset=True)
        config = folder.with_name("seed-0.yaml")
        config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SASRECLLM_")}
        environment = {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"} | kept
        with folder.with_name("seed-0.log").open("ab") as log:
            command = [*CHILD, "run", "--config", str(config), "--out", str(folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        say(f"started {cell.row}")
        return Job(cell, time.monotonic(), process)

    def ended(self, job: Job) -> bool:
        """Whether a run has ended; says how."""
        code = job.process.poll()
        if code is None:
            return False
        say(f"{job.cell.row}: exit {code} after {time.monotonic() - job.started:.0f} s")
        if code:
            self.failed.add(job.cell.row)
            log = job.cell.folder(self.study.out).with_name("seed-0.log")
            print(*log.read_text(errors="replace").splitlines()[-8:], sep="\n", flush=True)
        return True

    def finished(self, row: str) -> bool:
        """Whether a row's run is finished."""
        return self.folder(row).is_sealed()

    def folder(self, row: str) -> RunFolder:
        """The run folder of a row."""
        return RunFolder(Cell(next(iter(self.study.plan.datasets)), row, 0).folder(self.study.out))

    def stop(self) -> None:
        """End what still runs."""
        for job in self.running:
            job.process.send_signal(signal.SIGTERM)
        for job in self.running:
            try:
                job.process.wait(15)
            except subprocess.TimeoutExpired:
                job.process.kill()
            say(f"{job.cell.row}: stopped after {time.monotonic() - job.started:.0f} s")


def with_encoder(plan: Plan, folder: Path) -> None:
    """Let every soft row load the encoder of ``folder``, with its fold encoders, and train none."""
    for name in [row for row in plan.rows if row.startswith(SOFT)]:
        text = json.dumps(plan.rows[name].set)
        values = json.loads(text.replace(f"{{run:{SOFT}}}", str(folder.absolute())))
        first, *_ = stages = [s for s in values["strategy"] if s["task"] == "answer"]
        first["load"] = {"encoder": str(folder.absolute())} | first.get("load", {})
        changed = values | {"strategy": stages}
        plan.rows[name] = plan.rows[name].model_copy(update={"set": changed})


def measured(scores: FloatArray, questions: Questions) -> tuple[float, float]:
    """AUC and UAUC."""
    by_user = uauc(scores, questions.labels, questions.histories.users).value
    return float(auc(scores, questions.labels) or np.nan), float(by_user or np.nan)


def summary(study: Study) -> dict[str, Any]:
    """Row -> stage -> AUC and UAUC of validation and test, and how it went, of all that is finished."""
    out: dict[str, Any] = {}
    for cell in cells_of(study.plan):
        folder = RunFolder(cell.folder(study.out))
        if not folder.data.is_dir():
            continue
        data = stored_data(folder)
        for stage in folder.stage_folders():
            if not (stage.about.is_file() and stage.scores.is_dir()):
                continue
            about = json.loads(stage.about.read_text(encoding="utf-8"))
            row = {k: about[k] for k in ("seconds", "seconds_per_row", "result")}
            for split, scores in load_scores(stage).items():
                row[split] = [round(v, 4) for v in measured(scores, data.questions(split))]
            out.setdefault(cell.row, {})[about["row"]] = row
    return out


def say(line: str) -> None:
    """One line with the seconds since the beginning."""
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {line}", flush=True)


BEGAN = time.monotonic()


# What the words know by heart -----------------------------------------------------------------------


def memory(path: Path, asked: int) -> dict[str, Any]:
    """AUC of a finished run's words and encoder on rows they were taught on and on others, and the
    weights that a logistic regression of the label gives the two on each."""
    run = RunFolder(path)
    config, data = stored_config(run), stored_data(run)
    stages = planned(config)
    folder, stage = next(
        (f, s) for f, s in run.of_stages(stages) if s.train == ("adapter",) and s.prompt == "text"
    )
    system = System.load(run, "auto", config, data, until=folder.number)
    work = Work(Run(run, config, "", Progress(None, quiet=True)), data, system, stages)
    train, valid = data.questions("train"), data.questions("valid")
    sample = train.take(np.sort(np.random.default_rng(0).permutation(len(train))[:asked]))
    words = llm_scorer(system, "words", "text").score(sample.histories, sample.targets[:, None])[:, 0]
    encoders: dict[str, Any] = {}
    if "encoder" in system.origin:  # else this strategy has trained none so far
        system.bring_in_folds(run, folder.number)
        encoders = {"encoder": system.encoder, "encoder, cross-fitted": system.crossfitted()}
    known = {name: logits(e, sample) for name, e in encoders.items() if e is not None}
    rows = taught(work, stage, folder)
    met = np.isin(sample.rows, rows)
    kept = ~np.isin(sample.histories.users, train.histories.users[np.isin(train.rows, rows)])
    out: dict[str, Any] = {"stage": stage.name}
    for name, part in (("taught", met), ("not taught", ~met & ~kept), ("users kept from it", kept)):
        if part.any():
            scores = {"words": words, **known}
            out[name] = _known({k: v[part] for k, v in scores.items()}, sample.labels[part])
    scores = {"words": load_scores(folder)["valid"]}
    if encoders:
        scores["encoder"] = logits(system.encoder, valid)
    out["valid"] = _known(scores, valid.labels)
    return out


def taught(work: Work, stage: Stage, folder: StageFolder) -> IntArray:
    """The rows that the kept state of an answer stage was trained on."""
    trained = stage.kind.task(work, stage)
    assert trained is not None
    task, settings, _ = trained
    assert isinstance(task, AnswerTask)
    steps = json.loads(folder.about.read_text(encoding="utf-8"))["result"]["best_step"]
    batches = [
        batch
        for epoch in range(settings.epochs)
        for batch in plan_epoch(
            task.lengths, settings.batch_size, settings.seed, epoch, task.prefix_ids
        )
    ]
    asked, _ = task.questions_of(np.concatenate(batches[:steps]))
    return np.unique(task.questions.rows[asked])


def _known(scores: Mapping[str, FloatArray], labels: LabelArray) -> dict[str, Any]:
    out: dict[str, Any] = {"rows": len(labels)}
    out |= {name: auc(values, labels) for name, values in scores.items()}
    for name in scores:
        if name != "words":
            out[f"weights of words and {name}"] = weights(scores["words"], scores[name], labels)
    return out


def logits(encoder: Any, questions: Questions) -> FloatArray:
    """The encoder's logits of the questions."""
    import torch

    encoder.eval()
    with torch.no_grad():
        parts = [
            encoder.pair(part.histories, part.targets)[2].double().cpu().numpy()
            for at in np.array_split(np.arange(len(questions)), len(questions) // 2048 + 1)
            for part in (questions.take(at),)
        ]
    return np.concatenate(parts)


def weights(words: FloatArray, encoder: FloatArray, labels: Any) -> list[float]:
    """Weights of both in a logistic regression of the label, each standardised."""
    columns = [(x - x.mean()) / (x.std() or 1.0) for x in (words, encoder)]
    X, y = np.stack([*columns, np.ones(len(words))], axis=1), np.asarray(labels, dtype=float)
    beta = np.zeros(3)
    for _ in range(25):  # Newton's steps
        p = 1 / (1 + np.exp(-X @ beta))
        hessian = (X * (p * (1 - p))[:, None]).T @ X + 1e-6 * np.eye(3)
        beta += np.linalg.solve(hessian, X.T @ (y - p))
    return [round(float(b), 3) for b in beta[:2]]


def pack(out: Path, file: Path) -> None:
    """Everything of a study but weights in one file."""
    with tarfile.open(file, "w:gz", compresslevel=6) as archive:
        for path in sorted(out.rglob("*")):
            heavy = (
                path.suffix in WEIGHTS and "scores" not in path.parts and "baselines" not in path.parts
            )
            if path.is_file() and not heavy and path.stat().st_size < 4 << 20:
                archive.add(path, path.relative_to(out))
    say(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("random")
    one.add_argument("source", type=Path)
    one.add_argument("out", type=Path)
    many = commands.add_parser("run")
    many.add_argument("plan", type=Path)
    many.add_argument("out", type=Path)
    many.add_argument("--jobs", type=int, default=2, help="more share the card's time, no more")
    many.add_argument("--seconds", type=float, default=1e9)
    many.add_argument("--encoder", type=Path, help="folder of a trained encoder, its folds beside it")
    many.add_argument("settings", nargs="*")
    heart = commands.add_parser("memory")
    heart.add_argument("run", type=Path)
    heart.add_argument("--asked", type=int, default=5_000, help="training questions")
    light = commands.add_parser("pack")
    light.add_argument("out", type=Path)
    light.add_argument("file", type=Path)
    asked = parser.parse_args()
    if asked.command == "random":
        random_weights(asked.source, asked.out)
    elif asked.command == "memory":
        print(json.dumps(memory(asked.run, asked.asked), indent=1))
    elif asked.command == "pack":
        pack(asked.out, asked.file)
    else:
        study = Study(load_plan(asked.plan, asked.settings), asked.plan, asked.out, Progress())
        if asked.encoder:
            with_encoder(study.plan, asked.encoder)
        Runner(study, asked.jobs, BEGAN + asked.seconds, asked.encoder).run()
        found = summary(study)
        write_json(asked.out / "summary.json", found)
        print(json.dumps(found, indent=1))
        try:
            write_study(study)
        except SasrecllmError as error:
            print(error, flush=True)


if __name__ == "__main__":
    sys.exit(main())
