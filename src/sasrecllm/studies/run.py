"""A study at work: every cell an ordinary run in a process of its own, then one table over all.

A finished cell is passed over, an interrupted one goes on where it stopped, one whose ``evaluation``
the plan now wants otherwise is judged again, and one that fails is named in the table with its reason
while the others go on.  A plan that would train another cell than the one that lies there is refused.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.config import NOT_SETTINGS
from sasrecllm.errors import ConfigError, SasrecllmError
from sasrecllm.machine import signals
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.progress import Progress, readable_seconds
from sasrecllm.names import ENV_PREFIX
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import refuse_changed
from sasrecllm.runs.standing import standing
from sasrecllm.settings import Config
from sasrecllm.stages.names import check_names
from sasrecllm.studies.plan import Cell, Plan, cells_of, settings_of, slug
from sasrecllm.studies.tune import refuse_other_search, what_is_asked

CHILD = (sys.executable, "-P", "-c", "from sasrecllm.cli import child; child()")
FAILED_BY_SETTINGS = (2, 4, 5, 7)
"""Exit codes of a cell that the same settings would end with again."""


@dataclass
class Study:
    """A plan, the file that it stands in, and the folder that its runs lie in."""

    plan: Plan
    file: Path
    out: Path
    progress: Progress

    def settings(self, cell: Cell) -> Config:
        """Settings of one cell, with what tuning chose for its row."""
        return settings_of(self.plan, cell, self.file.parent, self.out, self.chosen(cell))

    def untuned(self, cell: Cell) -> Config:
        """Settings that the tuning of a cell's row starts from."""
        return settings_of(self.plan, cell, self.file.parent, self.out)

    def tuned(self, cell: Cell) -> Path:
        """Where the tuning of a cell's row lies, or of the row it takes over: one for all seeds."""
        other = self.plan.rows[cell.row].tuned_as
        return replace(cell, row=other or cell.row).folder(self.out).parent / "tune"

    def chosen(self, cell: Cell) -> dict[str, Any]:
        """Dotted key -> chosen value; empty without tuning."""
        path = self.tuned(cell) / "tune.json"
        return read_json(path, best=dict)["best"] if path.is_file() else {}

    def failure(self, cell: Cell) -> Path:
        """Where a failed cell's reason stands."""
        return cell.folder(self.out).with_name(f"seed-{cell.seed}.failed.json")


def run_study(study: Study) -> int:
    """Run every unfinished cell; returns the exit code of the last failed one, else 0.

    Raises:
        ConfigError: as :func:`check_study`, before anything is trained.
        InUseError: another process runs it.
    """
    with in_use(study.out):
        return _run_cells(study, check_study(study))


def _run_cells(study: Study, cells: Sequence[Cell]) -> int:
    open_cells = [c for c in cells if not _finished(study, c)]
    study.progress.line(f"study {study.plan.name}: {len(cells)} runs, {len(open_cells)} of them open")
    code, seconds = 0, {c: _seconds(study, c) for c in cells if _finished(study, c)}
    for done, cell in enumerate(open_cells, 1):
        study.progress.line(f"[{done}/{len(open_cells)}] {cell.dataset}: {cell.row}, seed {cell.seed}")
        started = time.monotonic()
        failed = _tune(study, cell) or _run(study, cell)
        took = time.monotonic() - started
        seconds[cell], code = took, failed or code
        said = f"FAILED, exit {failed}" if failed else "done"
        left = _left(open_cells[done:], seconds)
        study.progress.line(f"  {said} in {readable_seconds(took)}; {left}")
    return code


def check_study(study: Study) -> list[Cell]:
    """Every cell of the plan, each with settings that can be run, or were.

    Raises:
        ConfigError: a wrong key, or a cell that lies there was trained (or its row tuned) with other
            settings than the plan's.
    """
    cells = cells_of(study.plan)
    for cell in cells:
        try:
            check_names(study.settings(cell))
        except ConfigError as error:
            where = f"datasets.{cell.dataset} with rows.{cell.row}"
            said = error.what if error.what.startswith(where) else f"{where}: {error.what}"
            raise ConfigError(said, error.remedy) from error
        if not _starts_afresh(study, cell):
            refuse_changed(RunFolder(cell.folder(study.out)), study.settings(cell))
        _refuse_other_tuning(study, cell)
    return cells


def estimate_study(study: Study) -> float:
    """Say what every unfinished row would cost here; returns the seconds of those that can be timed.

    Raises:
        ConfigError: as :func:`check_study`.
    """
    total = 0.0
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in check_study(study):
        if not _finished(study, cell):
            rows.setdefault((cell.dataset, cell.row), []).append(cell)
    for (dataset, row), cells in rows.items():
        one = _estimated(study, cells[0])
        budget = study.plan.tuning.trials if study.plan.rows[row].space else 0
        if one is None:
            study.progress.line(f"{dataset}: {row}: cannot be told before the rows that it loads from")
            continue
        seconds = one * (len(cells) + budget)
        total += seconds
        study.progress.line(
            f"{dataset}: {row}: {len(cells)} runs and {budget} trials of at most"
            f" {readable_seconds(one)}: {readable_seconds(seconds)}"
        )
    study.progress.line(f"in all at most about {readable_seconds(total)}")
    return total


def _estimated(study: Study, cell: Cell) -> float | None:
    """Seconds of one run as its own ``--dry-run`` says; None where parts are not there yet."""
    import tempfile

    from sasrecllm.pipeline.estimate import estimate
    from sasrecllm.runs.opening import Run

    with tempfile.TemporaryDirectory() as scratch:
        quiet = Progress(quiet=True)
        try:
            return estimate(Run(RunFolder(Path(scratch)), study.settings(cell), "study", quiet))
        except SasrecllmError:
            return None


def _run(study: Study, cell: Cell) -> int:
    """One cell; its exit code, with the reason on disk where that is not 0."""
    folder = cell.folder(study.out)
    config = folder.with_name(f"seed-{cell.seed}.yaml")
    config.parent.mkdir(parents=True, exist_ok=True)
    values = study.settings(cell).model_dump(exclude_unset=True)
    write_text(config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    arguments = ["run", "--config", str(config), "--out", str(folder)]
    return _child(study, cell, arguments + ["--force"] * _starts_afresh(study, cell))


def _tune(study: Study, cell: Cell) -> int:
    """Tune a cell's row if it has a space and no result yet."""
    row, tuning, folder = study.plan.rows[cell.row], study.plan.tuning, study.tuned(cell)
    if not row.space or not tuning.trials or (folder / "tune.json").is_file():
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    space = {k: r.model_dump(exclude_defaults=True) for k, r in row.space.items()}
    base, spaces = folder / "base.yaml", folder / "space.yaml"
    write_text(
        base, yaml.safe_dump(study.untuned(cell).model_dump(exclude_unset=True), sort_keys=False)
    )
    write_text(spaces, yaml.safe_dump(space, sort_keys=False))
    arguments = ["tune", "--config", str(base), "--space", str(spaces), "--out", str(folder)]
    budget = ["--trials", str(tuning.trials), "--metric", tuning.metric]
    return _child(study, cell, [*arguments, *budget])


def _refuse_other_tuning(study: Study, cell: Cell) -> None:
    """Refuse a plan whose tuning of a row is not the one that its runs took over."""
    row, tuning, folder = study.plan.rows[cell.row], study.plan.tuning, study.tuned(cell)
    if not row.space:
        return
    refuse_other_search(folder, what_is_asked(study.untuned(cell), row.space, tuning.metric))
    path = folder / "tune.json"
    if path.is_file() and (done := len(read_json(path, trials=list)["trials"])) != tuning.trials:
        raise ConfigError(
            f"{folder} holds a finished search: tuning.trials is {done} there, {tuning.trials} here",
            f"give another --out, or delete {folder.parent}",
        )


def _child(study: Study, cell: Cell, arguments: Sequence[str]) -> int:
    """``sasrecllm ARGUMENTS`` in a process of its own, without our settings of the environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX) or k in NOT_SETTINGS}
    log = cell.folder(study.out).with_name(f"seed-{cell.seed}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        code = signals.run_child([*CHILD, *arguments], stdout=stream, stderr=stream, env=kept)
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code in (143, -signal.SIGTERM):
        raise signals.Stopped
    study.failure(cell).unlink(missing_ok=True)
    if code:
        reason = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
        said = [i for i, line in enumerate(reason) if line.startswith("error:")]
        reason = reason[said[-1] :] if said else reason[-1:]
        if code < 0:
            reason = [f"ended by signal {-code} (9: perhaps for want of memory)", *reason]
            code = 128 - code
        write_json(study.failure(cell), {"exit": code, "reason": " ".join(reason)})
    return code


def _starts_afresh(study: Study, cell: Cell) -> bool:
    """Whether a cell failed under settings that the plan has changed since: nothing there is of use.

    One that failed for want of disk or memory, or by a bug of ours, would go on under its settings.
    """
    path = study.failure(cell)
    if not path.is_file() or read_json(path)["exit"] not in FAILED_BY_SETTINGS:
        return False
    try:
        refuse_changed(RunFolder(cell.folder(study.out)), study.settings(cell))
    except ConfigError:
        return True
    return False


def _finished(study: Study, cell: Cell) -> bool:
    return standing(RunFolder(cell.folder(study.out)).summary, study.settings(cell)) is not None


def _seconds(study: Study, cell: Cell) -> float:
    about = read_json(RunFolder(cell.folder(study.out)).summary, seconds=(int, float))
    return float(about["seconds"])


def _left(cells: Sequence[Cell], seconds: Mapping[Cell, float]) -> str:
    """What is still to do, by the mean time of the finished runs of each row."""
    seconds_of: dict[tuple[str, str], list[float]] = {}
    for cell, value in seconds.items():
        seconds_of.setdefault((cell.dataset, cell.row), []).append(value)
    timed = [seconds_of[c.dataset, c.row] for c in cells if (c.dataset, c.row) in seconds_of]
    total = sum(sum(values) / len(values) for values in timed)
    unknown = (
        f" and {len(cells) - len(timed)} runs of unknown length" if len(timed) < len(cells) else ""
    )
    return f"ETA {readable_seconds(total)}{unknown}"


def failures(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Data set -> row, seed, exit code and reason of every failed cell."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells_of(study.plan):
        path = study.failure(cell)
        if path.is_file() and not _finished(study, cell):
            about = {"row": cell.row, "seed": cell.seed} | read_json(path, exit=int, reason=str)
            found.setdefault(cell.dataset, []).append(about)
    return found


def tuning_of(study: Study) -> dict[str, dict[str, Any]]:
    """Data set -> row -> search space, chosen values and their validation metrics."""
    found: dict[str, dict[str, Any]] = {}
    for cell in cells_of(study.plan):
        path = study.tuned(cell) / "tune.json"
        if study.plan.rows[cell.row].space and path.is_file():
            result = read_json(path, space=dict, best=dict, valid=dict, metric=str, trials=list)
            keep = {k: result[k] for k in ("space", "best", "valid", "metric")}
            keep["trials"] = len(result["trials"])
            found.setdefault(cell.dataset, {})[cell.row] = keep
    return found


def folder_name(plan: Plan) -> Path:
    """Where a study lies if no other place is named."""
    return Path("studies") / slug(plan.name)
