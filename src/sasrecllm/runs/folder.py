"""Where everything of a run lies: the only module that spells a file name of a run folder.

``RUN/stages/2-text/parts/adapter`` is ``RunFolder(run).stage(2, "text").part("adapter")``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sasrecllm.checkpoint import METRICS, CheckpointFolder, read_json, seconds_in
from sasrecllm.machine.lock import NAME as LOCK
from sasrecllm.manifest import MANIFEST
from sasrecllm.runs.standing import standing
from sasrecllm.settings import Config

T = TypeVar("T")

CHECKPOINTS = "checkpoints"
PARTS = "parts"
DATA_SETTINGS = "settings.json"
"""In the prepared data: what it was prepared with."""
TRUTH = "truth.json"
"""In the prepared data of a made-up world: what its rows really are."""
LOADED = "loaded"
FOLD = "fold-"
ITEM_VECTORS = "item_vectors"
"""The part that keeps the vectors that the language model made of the titles."""
SEPARATOR, ON_DISK = ":", "@"
"""Between the module and the name of a part that is not ours, in settings and in a folder's name."""


@dataclass(frozen=True)
class _Folder:
    """A folder by the names of what is in it; taken wherever a path is."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class StageFolder(_Folder):
    """One stage's place in a run folder.

    Args:
        path: ``RUN/stages/NUMBER-NAME``.
    """

    @property
    def number(self) -> int:
        """Which stage of the strategy it is, from 1 on; 0 for the language model's own training."""
        return int(self.path.name.partition("-")[0])

    @property
    def label(self) -> str:
        """What a tracker calls it: its name, behind the stage's where it is a fold of one."""
        path = self.path
        return f"{path.parent.name}/{path.name}" if path.name.startswith(FOLD) else path.name

    @property
    def about(self) -> Path:
        """What the stage was and cost; written last, so a stage that has it is finished."""
        return self.path / "stage.json"

    @property
    def scores(self) -> Path:
        """Scores of the validation and the test rows, a committed folder."""
        return self.path / "scores"

    @property
    def metrics(self) -> Path:
        """Losses and validations, a record a line."""
        return self.path / METRICS

    @property
    def checkpoints(self) -> Path:
        """What an interrupted training goes on from."""
        return self.path / CHECKPOINTS

    def store(self) -> CheckpointFolder:
        """The checkpoints, as the training loop takes them."""
        return CheckpointFolder(self.checkpoints)

    def part(self, name: str) -> Path:
        """Where the stage keeps a part that it trained."""
        return self.path / PARTS / name.replace(SEPARATOR, ON_DISK)

    def loaded_part(self, name: str) -> Path:
        """Where the stage keeps its copy of a part that it took from elsewhere."""
        return self.path / LOADED / name.replace(SEPARATOR, ON_DISK)

    def fold(self, number: int) -> StageFolder:
        """Where a fold encoder is trained before it is a part."""
        return StageFolder(self.path / f"{FOLD}{number}")

    def seconds(self) -> float:
        """Seconds of training so far, in all sittings: of the finished stage, or up to its checkpoints.

        Raises:
            CheckpointError: the file of the finished stage is damaged.
        """
        if self.about.is_file():
            return float(read_json(self.about, seconds=(int, float))["seconds"])
        return sum(seconds_in(folder) for folder in self.path.glob(f"**/{CHECKPOINTS}"))

    def trained_parts(self) -> list[Path]:
        """Folders of everything that the stage trained, fold encoders too."""
        return [p for p in sorted((self.path / PARTS).glob("*")) if p.is_dir()]

    def kept_parts(self) -> dict[str, Path]:
        """Part -> its folder; what the stage trained comes before what it loaded."""
        return {
            path.name.replace(ON_DISK, SEPARATOR): path
            for group in (LOADED, PARTS)
            for path in sorted((self.path / group).glob("*/"))
            if path.is_dir() and not path.name.endswith(".tmp")
        }


@dataclass(frozen=True)
class RunFolder(_Folder):
    """A run folder by the names of what is in it; asking creates nothing.

    Args:
        path: of the folder.
    """

    # Files -----------------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """The settings, resolved."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """The command, versions and commit that trained the run."""
        return self.path / "env.json"

    @property
    def log(self) -> Path:
        """What happened, for people."""
        return self.path / "log.txt"

    @property
    def quarantine(self) -> Path:
        """Rows of the log that were set aside, with their reasons."""
        return self.path / "quarantine.jsonl"

    @property
    def language_seconds(self) -> Path:
        """How long the language model that the run built took."""
        return self.path / "language.json"

    @property
    def results(self) -> Path:
        """The results table."""
        return self.path / "results.json"

    @property
    def results_table(self) -> Path:
        """The results table, for people."""
        return self.path / "results.md"

    @property
    def showcase(self) -> Path:
        """The recommendation lists that the report shows."""
        return self.path / "showcase.json"

    @property
    def report(self) -> Path:
        """The report, for people."""
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """What the run was and cost; it stands when all stages are trained and judged."""
        return self.path / "run.json"

    @property
    def update(self) -> Path:
        """What an update changed, as its last step found it."""
        return self.path / "update.json"

    @property
    def tracked_as(self) -> Path:
        """What the run is called by the tracker that follows it (:mod:`sasrecllm.runs.tracking`)."""
        return self.path / "tracking.json"

    @property
    def forgotten(self) -> Path:
        """Who was forgotten, as digests (:mod:`sasrecllm.runs.forgotten`)."""
        return self.path / "forgotten.json"

    @property
    def manifest(self) -> Path:
        """Written last: the run is finished, and this is all of it."""
        return self.path / MANIFEST

    @property
    def lock(self) -> Path:
        """Held by the process that works in the folder."""
        return self.path / LOCK

    # Folders ---------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The prepared data, a committed folder."""
        return self.path / "data"

    @property
    def prompts(self) -> Path:
        """The words of both prompts, a committed folder."""
        return self.path / "prompts"

    @property
    def language_model(self) -> Path:
        """The language model that the run built, a committed folder in Hugging Face's form."""
        return self.path / "llm"

    @property
    def stages(self) -> Path:
        """Holds a folder for every stage."""
        return self.path / "stages"

    @property
    def baselines(self) -> Path:
        """Holds the scores of every baseline, a committed folder each."""
        return self.path / "baselines"

    @property
    def plots(self) -> Path:
        """The report's pictures."""
        return self.path / "plots"

    @property
    def tensorboard(self) -> Path:
        """What TensorBoard shows, where it follows the run."""
        return self.path / "tensorboard"

    @property
    def forgetting(self) -> Path:
        """What forgetting a user changes, until it is moved into place."""
        return self.path / "forget.tmp"

    @property
    def forgetting_complete(self) -> Path:
        """Stands while that is moved into place."""
        return self.forgetting / "complete.json"

    def baseline(self, number: int, name: str) -> Path:
        """Scores of the ``number``-th baseline."""
        return self.baselines / f"{number:02d}-{re.sub('[ /:]', '-', name)}"

    # Stages ----------------------------------------------------------------------------------------

    def stage(self, number: int, name: str) -> StageFolder:
        """The folder of the ``number``-th stage, from 1 on."""
        return StageFolder(self.stages / f"{number}-{name}")

    def same_stage(self, other: StageFolder) -> StageFolder:
        """The folder that has the number and the name of a stage of another run."""
        return StageFolder(self.stages / other.path.name)

    def language_stage(self, phase: str) -> StageFolder:
        """Where a phase of the language model's own training keeps its checkpoints."""
        return self.stage(0, f"language-{phase}")

    def of_stages(self, stages: Mapping[str, T]) -> Iterator[tuple[StageFolder, T]]:
        """Folder and stage of every stage (name -> stage, in order) of a strategy."""
        for number, (name, stage) in enumerate(stages.items(), 1):
            yield self.stage(number, name), stage

    def stage_folders(self) -> list[StageFolder]:
        """Those on disk, in the order of the strategy."""
        found = [StageFolder(p) for p in self.stages.glob("[0-9]*-*") if p.is_dir()]
        return sorted(found, key=lambda stage: (stage.number, stage.path.name))

    def newest_parts(self, before: int | None = None) -> dict[str, Path]:
        """Part -> folder of its newest version; of the stages before number ``before`` only."""
        found: dict[str, Path] = {}
        for stage in self.stage_folders():
            if before is None or stage.number < before:
                found |= {k: v for k, v in stage.kept_parts().items() if not k.startswith(FOLD)}
        return found

    def trained_part(self, part: str) -> Path | None:
        """Where the newest ``part`` that a stage of this run trained lies; None where none did."""
        found = [p for s in self.stage_folders() if (p := s.part(part)).is_dir()]
        return found[-1] if found else None

    def newest_folds(self, before: int | None = None) -> list[Path]:
        """The newest fold encoders among the parts, in order; none where no stage kept any."""
        found: list[Path] = []
        for stage in self.stage_folders():
            for group in (LOADED, PARTS):
                if before is None or stage.number < before:
                    found = folds_beside(stage.path / group / "encoder") or found
        return found

    # What state it is in ---------------------------------------------------------------------------

    def is_sealed(self) -> bool:
        """Whether the run was finished and is not being changed."""
        return self.manifest.is_file()

    def is_trained(self) -> bool:
        """Whether anything learnt lies here: a language model, a part, a checkpoint of one."""
        learnt = (
            self.summary.name,
            f"{self.language_model.name}/{MANIFEST}",
            f"{self.stages.name}/*/stage.json",
            f"{self.stages.name}/*/{PARTS}/*/{MANIFEST}",
            f"{self.stages.name}/**/step-*/{MANIFEST}",
        )
        return any(next(self.path.glob(pattern), None) for pattern in learnt)

    def is_finished(self, config: Config) -> bool:
        """Whether the run is finished under these settings of evaluation."""
        return self.is_sealed() and standing(self.summary, config) is not None

    def seconds(self) -> float:
        """Seconds of training so far, in all sittings.

        Raises:
            CheckpointError: a file that says so is damaged.
        """
        path, own = self.language_seconds, [s for s in self.stage_folders() if s.number == 0]
        language = read_json(path, seconds=(int, float))["seconds"] if path.is_file() else None
        before = sum(stage.seconds() for stage in own) if language is None else float(language)
        return before + sum(stage.seconds() for stage in self.stage_folders() if stage.number)

    def digest(self) -> str:
        """Identity of a run: its settings, its summary and its results."""
        summed = hashlib.sha256()
        for path in (self.config, self.summary, self.results):
            summed.update(path.read_bytes() if path.is_file() else b"")
        return summed.hexdigest()[:16]


def run_before(config: Config) -> RunFolder | None:
    """The run that an update goes on from; None where the settings are those of no update."""
    return RunFolder(Path(config.update.of)) if config.update.of else None


def folds_beside(encoder: Path) -> list[Path]:
    """The fold encoders that lie beside a stage's ``encoder``, in order."""
    return sorted(
        (p for p in encoder.parent.glob(f"{FOLD}*") if p.name[len(FOLD) :].isdecimal()),
        key=lambda p: int(p.name[len(FOLD) :]),
    )
