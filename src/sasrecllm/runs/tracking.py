"""Following a run with TensorBoard, MLflow or Weights & Biases, by way of accelerate's own trackers.

The run folder is the truth: a number is written there first, and a tracker hears of it afterwards, on
a thread of its own.  So a tracker that fails or does not answer neither ends a run nor holds it up.
"""

from __future__ import annotations

import math
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sasrecllm.checkpoint import CheckpointFolder, read_json, write_json
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.distributed import is_main_process
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder, StageFolder
from sasrecllm.settings import Config

PROJECT = "sasrecllm"
"""Experiment (MLflow) or project (Weights & Biases) in which runs are kept."""
PATIENCE = 30.0
"""Seconds for a tracker to take what is left when a run ends."""
STOP_PATIENCE = 2.0
"""The same where the run was stopped or refused."""


@dataclass(frozen=True)
class Service:
    """One kind of tracker.

    Args:
        make: (what the run is called, its folder, id from an earlier sitting or None) -> a tracker of
            accelerate's, not started.
        id_of: started tracker -> the id under which a later sitting goes on.
        remedy: what to look at where it fails.
        counts: whether its step may begin anew in every stage; else each stage's step is a metric.
    """

    make: Callable[[str, RunFolder, str | None], Any]
    id_of: Callable[[Any], str]
    remedy: str
    counts: bool = True


def _tensorboard(_: str, folder: RunFolder, __: str | None) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(folder.tensorboard.name, folder.path)


def _mlflow(name: str, _: RunFolder, known: str | None) -> Any:
    from accelerate.tracking import MLflowTracker

    # It would print addresses on standard output, where a verb prints its result.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    return MLflowTracker(PROJECT, run_id=known, run_name=name)


def _wandb(name: str, _: RunFolder, known: str | None) -> Any:
    from accelerate.tracking import WandBTracker

    return WandBTracker(PROJECT, name=name, id=known, resume="allow")


SERVICES = {
    "tensorboard": Service(
        _tensorboard, lambda tracker: str(tracker.run_name), "see that the run folder can be written"
    ),
    "mlflow": Service(
        _mlflow,
        lambda tracker: str(tracker.tracker.info.run_id),
        "see that MLFLOW_TRACKING_URI names a server that answers, or a folder",
    ),
    "wandb": Service(
        _wandb,
        lambda tracker: str(tracker.tracker.id),
        "log in with `wandb login`, or set WANDB_MODE=offline",
        counts=False,
    ),
}
"""By the value of the setting ``track``."""


class Tracking:
    """Passes the numbers of one run on; by default to nobody.

    Args:
        kind: value of ``track``.
        start: called on the thread; gives a started tracker.
        warn: called once, with what went wrong and the remedy.
        device: on which the run computes.
    """

    def __init__(
        self,
        kind: str = "none",
        start: Callable[[], Any] | None = None,
        warn: Callable[[str], None] = lambda _: None,
        device: str = "cpu",
    ) -> None:
        self._kind, self._start, self._warn, self._device = kind, start, warn, device
        self._said: queue.Queue[tuple[str, Mapping[str, Any], int | None] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def store(self, folder: StageFolder) -> CheckpointFolder:
        """The checkpoints and metrics of a stage; what is written to its metrics is passed on too."""
        if self._start is None:
            return folder.store()
        return _Followed(folder, self)

    def log(self, place: str, values: Mapping[str, Any], step: int | None = None) -> None:
        """Pass numbers on; returns at once.

        Args:
            place: what stands before each name: ``1-encoder``.
            values: numbers, or mappings of numbers; what is no finite number is left out.
            step: of the stage.
        """
        if self._start is None:
            return
        if self._thread is None:
            from accelerate import PartialState

            # The trackers look at it, and the training loop finds it later: on the run's own device.
            PartialState(cpu=pick_device(self._device) == "cpu")
            # A daemon: what it waits for must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._work, args=(self._start,), name="tracking", daemon=True
            )
            self._thread.start()
        if self._failure is not None:
            self._give_up(self._failure)
        else:
            self._said.put((place, values, step))

    def close(self, patience: float = PATIENCE, *, warn: bool = True) -> None:
        """Wait until all is passed on, for at most so many seconds."""
        if self._thread is None or self._start is None:
            return
        self._said.put(None)
        self._thread.join(patience)
        late = TimeoutError(f"it did not take everything within {patience:g} s")
        failure = self._failure or (late if self._thread.is_alive() else None)
        if failure is not None and warn:
            self._give_up(failure)
        self._start = None

    def _give_up(self, failure: BaseException) -> None:
        self._start = None
        service = SERVICES[self._kind]
        missing = isinstance(failure, ImportError)
        remedy = f'pip install "sasrecllm[{self._kind}]"' if missing else service.remedy
        why = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        self._warn(
            f"track: {self._kind} follows this run no longer: {why}; the run goes on, and its folder"
            f" has every number\n  -> {remedy}; or set track: none"
        )

    def _work(self, start: Callable[[], Any]) -> None:
        try:
            tracker = start()
            counts = SERVICES[self._kind].counts
            while (said := self._said.get()) is not None:
                place, values, step = said
                found = numbers(place, values)
                if step is not None and not counts:
                    found[f"{place}/step"] = step
                tracker.log(found, step=step if counts else None)
            tracker.finish()
        except BaseException as failure:  # not even what ends a process may come out of a library here
            self._failure = failure


class _Followed(CheckpointFolder):
    """A stage's checkpoints and metrics; a tracker hears of the metrics."""

    def __init__(self, folder: StageFolder, tracking: Tracking) -> None:
        super().__init__(folder.checkpoints)
        self._place, self._tracking = folder.label, tracking

    def log(self, record: Mapping[str, Any]) -> None:
        """Write a record of the metrics, and hand its numbers to the tracker."""
        super().log(record)
        values = {key: value for key, value in record.items() if key != "step"}
        self._tracking.log(self._place, values, record["step"])


def tracking_of(folder: RunFolder, config: Config, name: str, progress: Progress) -> Tracking:
    """What follows a run; in one process of a job only.

    Args:
        name: what the run is called there.
    """
    if config.track == "none" or not is_main_process():
        return Tracking()

    def start() -> Any:
        service, path = SERVICES[config.track], folder.tracked_as
        before = read_json(path) if path.is_file() else {}
        known = before.get("id") if before.get("track") == config.track else None
        tracker = service.make(name, folder, known)
        tracker.start()
        if known is None:
            tracker.store_init_configuration(_flat(config.model_dump()))
            write_json(path, {"track": config.track, "id": service.id_of(tracker)})
        return tracker

    return Tracking(config.track, start, progress.warning, config.device)


def numbers(place: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Every finite number in nested mappings, by a name that all trackers take.

    >>> numbers("2-text", {"loss": 0.5, "valid": {"auc": 0.7, "uauc": None}})
    {'2-text/loss': 0.5, '2-text/valid/auc': 0.7}
    """
    found: dict[str, float] = {}
    for key, value in values.items():
        name = f"{place}/" + re.sub(r"[^\w. /-]", "_", str(key), flags=re.ASCII)
        if isinstance(value, Mapping):
            found |= numbers(name, value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = value
    return found


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by dotted keys; what is neither a number nor a text is written as YAML."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{before}{key}.")
        elif isinstance(value, bool | int | float | str):
            found[before + key] = value
        else:
            found[before + key] = yaml.safe_dump(value, default_flow_style=True).split("\n...")[0]
    return found
