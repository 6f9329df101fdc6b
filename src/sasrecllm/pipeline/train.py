"""Training the stages of a strategy, one after another, each into its own folder.

A finished stage has ``stage.json``, its ``parts/`` and its ``scores/`` of the validation and the test
rows; it is never trained again.  The scores are written by the very scorer that the stage ends with,
so a row of the table cannot come from other weights than the parts on disk.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.checkpoint import CheckpointFolder, load_part, save_part, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.sequences import windows
from sasrecllm.encoders.crossfit import CrossFitted
from sasrecllm.encoders.loading import load_checked
from sasrecllm.encoders.prior import apply_prior
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.llm.fusion import fit_fusion
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.runs.folder import Run
from sasrecllm.runs.loaded import keep_part
from sasrecllm.runs.scores import load_scores, save_scores
from sasrecllm.runs.stored import loaded_part, part_folders, stage_folder
from sasrecllm.runs.system import Assembly
from sasrecllm.runs.templates import stored_templates
from sasrecllm.settings import LoopSettings
from sasrecllm.stages.plan import Stage, last_prompt, uses_crossfit
from sasrecllm.stages.user_partition import answer_questions, fold_of_user
from sasrecllm.training.finetune import AnswerTask, encoded_slots
from sasrecllm.training.loop import FitResult, Task, fit
from sasrecllm.training.pretrain import EncoderTask, moves_touched_rows
from sasrecllm.types import FloatArray, IntArray, Questions

NO_WORDS = (
    "note: encoder.prior=titles has no effect: no two items share a word of their titles or an"
    " attribute (item_features.words, item_features.attributes)"
)


def train_stages(
    run: Run, dataset: Dataset, backbone_path: str, splits: Sequence[str] = ("valid", "test")
) -> None:
    """Train every stage that is not finished yet, and score ``splits`` with each."""
    Trainer(run, dataset, backbone_path, splits).train_all()


class Trainer:
    """The parts in memory while stage after stage changes them."""

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        backbone_path: str,
        splits: Sequence[str] = ("valid", "test"),
    ) -> None:
        self.run, self.dataset, self.splits = run, dataset, splits
        self.device = pick_device(run.config.device)
        templates = stored_templates(run.folder, run.config)
        self.parts = Assembly(run.config, dataset, backbone_path, self.device, templates)
        self.loaded: dict[str, Path] = {}
        self.questions = {name: dataset.questions(name) for name in ("valid", "test")}

    def train_all(self) -> None:
        """Every stage of the strategy, in order; finished ones are passed over."""
        stages = self.run.stages.values()
        if self.run.config.encoder.prior == "titles" and all(s.task != "prior" for s in stages):
            self.run.progress.line("note: encoder.prior=titles has no effect: no stage applies it")
        for number, stage in enumerate(self.run.stages.values(), 1):
            folder = stage_folder(self.run.folder, number, stage.name)
            if (folder / "stage.json").is_file():
                self.run.progress.line(f"stage {stage.name}: finished already")
                continue
            self._bring_in(stage, number)
            self._train(stage, folder)
            wait_for_all()

    def _bring_in(self, stage: Stage, number: int) -> None:
        """Load what earlier stages trained or ``load`` names, where memory holds something else."""
        if is_main_process():
            for part in stage.load:
                keep_part(self.run.folder, number, stage, part)
        wait_for_all()
        before = dict(list(self.run.stages.items())[: number - 1])
        wanted = part_folders(before, self.run.folder)
        wanted |= {part: loaded_part(self.run.folder, number, stage, part) for part in stage.load}
        for part, folder in wanted.items():
            if self.loaded.get(part) != folder:
                self.parts.load(part, folder)
                self.loaded[part] = folder

    def _train(self, stage: Stage, folder: Path) -> None:
        started = time.monotonic()
        self.run.progress.line(f"stage {stage.name}: {stage.task}, trains {', '.join(stage.train)}")
        if stage.task == "encode":
            result = self._encode(stage, folder)
        elif stage.task == "prior":
            result = self._prior(stage, folder)
        elif stage.task == "answer":
            result = self._answer(stage, folder)
        else:
            result = self._fuse(stage)
        trained = time.monotonic() - started
        if is_main_process():
            for part in stage.train:
                self.parts.save(part, folder / "parts" / part)
            scoring = time.monotonic()
            rows = self._save_scores(stage, folder)
            scored = (time.monotonic() - scoring) / rows
            about: dict[str, Any] = {"name": stage.name, "row": stage.row, "task": stage.task}
            about |= {"train": list(stage.train), "prompt": stage.prompt, "result": result}
            about |= {"seconds": round(trained, 1), "seconds_per_row": scored}
            write_json(folder / "stage.json", about)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        self.loaded |= {part: folder / "parts" / part for part in stage.train}
        self.run.progress.line(f"stage {stage.name}: {readable_seconds(trained)}")

    # The tasks -----------------------------------------------------------------------------------

    def _encode(self, stage: Stage, folder: Path) -> dict[str, Any]:
        result = self._fit_encoder(stage, self.parts.encoder, folder, stage.name)
        if self._wants_folds():
            folds = fold_of_user(self.run, self.dataset)
            for fold in range(self.run.config.encoder.folds):
                # The same seed as the full encoder: equal beginnings keep the spaces close.
                encoder = self.parts.new_encoder(self.run.config.seed)
                target = folder / "parts" / f"fold-{fold}"
                if not target.exists():
                    name = f"{stage.name} without fold {fold + 1}/{self.run.config.encoder.folds}"
                    self._fit_encoder(stage, encoder, folder / f"fold-{fold}", name, folds != fold)
                    if is_main_process():
                        self._save_fold(encoder, target)
                        shutil.rmtree(folder / f"fold-{fold}", ignore_errors=True)
                wait_for_all()
        return _about(result)

    def _prior(self, stage: Stage, folder: Path) -> dict[str, Any]:
        """Title prior on the encoder, and on the fold encoders with the rows that each was shown."""
        groups = [np.empty((self.dataset.n_items, 0)), *self.parts.item_features]
        features_IF = np.concatenate(groups, axis=1)
        rows = self.dataset.rows("train")
        counts = self.dataset.train_counts
        explained = apply_prior(self.parts.encoder, features_IF, counts)
        if is_main_process():
            folds = fold_of_user(self.run, self.dataset)
            for fold, encoder in enumerate(self._fold_encoders()):
                shown = rows[folds[self.dataset.users[rows]] != fold]
                counts = np.bincount(self.dataset.items[shown], minlength=self.dataset.n_items)
                apply_prior(encoder, features_IF, counts)
                self._save_fold(encoder, folder / "parts" / f"fold-{fold}")
        if explained is None:
            self.run.progress.line(NO_WORDS)
        return {"explained_out_of_fold": explained}

    def _save_fold(self, encoder: SequentialEncoder, folder: Path) -> None:
        save_part(folder, encoder.state_dict(), encoder.config, self._fold_requires())

    def _fold_requires(self) -> dict[str, str]:
        """Another division of the users would let a fold encoder read users that it has seen."""
        division = hashlib.sha256(fold_of_user(self.run, self.dataset).tobytes()).hexdigest()
        return self.parts.requires("encoder") | {"division of the users into folds": division}

    def _fit_encoder(
        self,
        stage: Stage,
        encoder: SequentialEncoder,
        folder: Path,
        name: str,
        users: Any = None,
    ) -> FitResult:
        """Train one encoder on the training rows, of ``users`` [n_users] only where that is given."""
        c = self.run.config.encoder
        rows = self.dataset.rows("train")
        if users is not None:
            rows = rows[users[self.dataset.users[rows]]]
            seen = np.bincount(self.dataset.items[rows], minlength=self.dataset.n_items) > 0
            encoder.mark_seen(seen)
        task = self._encoder_task(name, encoder, rows)
        store = CheckpointFolder(folder / "checkpoints")
        return fit(task, self.run.loop(c.loop, stage.loop), store, self.run.progress, self.device)

    def _encoder_task(self, name: str, encoder: SequentialEncoder, rows: IntArray) -> EncoderTask:
        c = self.run.config.encoder
        return EncoderTask(
            name,
            encoder,
            windows(self.dataset, length=c.length, likes_only=c.likes_only, rows=rows),
            self.questions["valid"],
            loss=c.loss,
            negatives=c.negatives,
            touched_rows=moves_touched_rows(c.item_updates, c.loss, self.dataset.n_items),
            device=self.device,
        )

    def task_of(self, stage: Stage) -> tuple[Task, LoopSettings]:
        """What ``stage`` would train on the parts in memory, and how."""
        c = self.run.config
        if stage.task == "encode":
            rows = self.dataset.rows("train")
            task: Task = self._encoder_task(stage.name, self.parts.encoder, rows)
            return task, self.run.loop(c.encoder.loop, stage.loop)
        return self._answer_task(stage), self.run.loop(c.llm.loop, stage.loop)

    def _answer(self, stage: Stage, folder: Path) -> dict[str, Any]:
        task, settings = self.task_of(stage)
        store = CheckpointFolder(folder / "checkpoints")
        return _about(fit(task, settings, store, self.run.progress, self.device))

    def _answer_task(self, stage: Stage) -> AnswerTask:
        soft = stage.prompt == "soft"
        crossfitted = self._crossfitted() if soft and stage.vectors == "crossfit" else None
        asked = answer_questions(self.run, self.dataset, stage)
        if "mapper" in stage.train:
            slots = encoded_slots(crossfitted or self.parts.encoder, asked)
            self.parts.model.mapper.fit_normalisation(*slots)
        return AnswerTask(
            stage.name,
            self.parts.model,
            self.parts.builder(stage.prompt),
            asked,
            self.questions["valid"],
            parts=stage.train,
            encoder=self.parts.encoder if soft else None,
            train_encoder=crossfitted,
            cold_item_dropout=self.run.config.mapper.cold_item_dropout if soft else 0.0,
            score_batch=self.run.config.llm.score_batch,
            device=self.device,
        )

    def _fuse(self, stage: Stage) -> dict[str, Any]:
        c = self.run.config.fusion
        columns = [self._component_scores(name, "valid") for name in self.run.fused]
        valid = self.questions["valid"]
        self.parts.fusion = fit_fusion(
            np.stack(columns, axis=1),
            valid.labels,
            valid.histories.users,
            ~self.dataset.seen_items[valid.targets],
            components=tuple(self.run.fused),
            pairwise=c.pairwise,
            worded=self.run.worded,
            most=c.new_item_words,
        )
        return {"weights": self.parts.fusion.to_dict()}

    # What the tasks need -------------------------------------------------------------------------

    def _wants_folds(self) -> bool:
        return self.run.config.encoder.folds > 1 and uses_crossfit(self.run.stages.values())

    def _crossfitted(self) -> CrossFitted | None:
        """The fold encoders that go with the encoder, or None where there are none."""
        folds = self._fold_encoders()
        return (
            CrossFitted(self.parts.encoder, folds, fold_of_user(self.run, self.dataset))
            if folds
            else None
        )

    def _fold_encoders(self) -> list[SequentialEncoder]:
        """Those beside the encoder in use; where it learnt jointly, the newest of this run."""
        if not self.run.config.encoder.folds:
            return []
        found: list[Path] = []
        numbered = enumerate(self.run.stages.values(), 1)
        folders = [stage_folder(self.run.folder, n, s.name) / "parts" for n, s in numbered]
        folders += [self.loaded["encoder"].parent] if "encoder" in self.loaded else []
        for folder in folders:
            found = sorted(folder.glob("fold-*"), key=lambda p: int(p.name[5:])) or found
        folds = []
        for folder in found:
            encoder = self.parts.new_encoder(self.run.config.seed)
            load_checked(encoder, *load_part(folder, self._fold_requires()))
            folds.append(encoder)
        return folds

    def _component_scores(self, name: str, split: str) -> FloatArray:
        """Scores of one summand of the fusion: a finished stage's, or a baseline's."""
        tasks = {"llm": ("answer",), "encoder": ("encode", "prior")}.get(name)
        if tasks is None:
            return score_questions(self.parts.component(name, "text"), self.questions[split])
        done = [
            stage_folder(self.run.folder, n, s.name)
            for n, s in enumerate(self.run.stages.values(), 1)
            if s.task in tasks
        ]
        if not done:
            return score_questions(self.parts.component(name, self._prompt()), self.questions[split])
        return load_scores(done[-1])[split]

    def _prompt(self) -> str:
        """Prompt of the last answer stage: what the fusion's LLM is asked."""
        return last_prompt(self.run.stages.values())

    def _save_scores(self, stage: Stage, folder: Path) -> int:
        """Score the splits by the scorer that this stage ends with; returns how many rows those are."""
        scores = {}
        for split in self.splits:
            asked = self.questions[split]
            if stage.task == "fuse":
                assert self.parts.fusion is not None
                columns = [self._component_scores(n, split) for n in self.parts.fusion.components]
                unseen = ~self.dataset.seen_items[asked.targets]
                scores[split] = self.parts.fusion.combine(np.stack(columns, axis=1), unseen)
            else:
                scores[split] = self._scored(stage, asked)
        save_scores(folder / "scores", scores, {"row": stage.row}, self.dataset.digest)
        return max(1, sum(len(v) for v in scores.values()))

    def _scored(self, stage: Stage, asked: Questions) -> FloatArray:
        scorer = self.parts.scorer(stage, stage.prompt)
        self.run.progress.start()
        return score_questions(
            scorer,
            asked,
            progress=lambda done, total: self.run.progress.step(f"scoring {stage.row}", done, total),
        )


def _about(result: FitResult) -> dict[str, Any]:
    return {
        "steps": result.steps,
        "best_step": result.best_step,
        "best": result.best,
        "stopped_early": result.stopped_early,
        "trained_parameters": result.trained_parameters,
    }
