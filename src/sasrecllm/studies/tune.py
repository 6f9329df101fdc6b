"""Settings chosen on the validation split by a seeded search (Optuna's TPE), which resumes.

The first trial is the configuration as it stands, so the choice is never worse there than no tuning.
The test split is not scored by any trial.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.config import parse_config, put
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingExtraError,
    ResourceError,
    SasrecllmError,
)
from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.former_settings import refuse_former, translated
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.progress import Progress
from sasrecllm.pipeline.run import train_all
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run, first_difference, open_run
from sasrecllm.runs.scores import load_scores
from sasrecllm.settings import Config
from sasrecllm.stages.strategies import planned
from sasrecllm.studies.plan import Range, merge

if TYPE_CHECKING:
    import optuna

ASKED = "asked.json"
FOUND = "found"
"""In that file: whether any trial came out well.  Until then another search may take the folder."""
JOURNAL = "trials.journal"


def tune(
    config: Config,
    space: Mapping[str, Range],
    folder: Path,
    *,
    trials: int,
    metric: str = "auc+uauc",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search ``space`` (dotted key -> range) and write ``tune.json`` and ``best.yaml`` into ``folder``.

    A trial that is refused or diverges counts as one of the budget; one that was interrupted does not.

    Args:
        trials: finished trials in all, those of an earlier sitting included.
        metric: ``auc``, ``uauc`` or ``auc+uauc`` of the last stage on the validation split.

    Returns:
        ``best`` (dotted key -> value), its ``valid`` metrics, the ``space`` and every trial.

    Raises:
        ConfigError: a key of the space is no setting, the folder holds another search, or every
            trial failed.
        MissingExtraError: Optuna is not installed.
    """
    progress = progress or Progress(quiet=True)
    values = config.model_dump(exclude_unset=True)  # a trial chooses the rest as any run does
    defaults = {key: _value_at(config.model_dump(), key) for key in space}
    asked = what_is_asked(config, space, metric)
    with in_use(folder):
        refuse_other_search(folder, asked)
        _clear(folder, asked)
        return _search(config, space, folder, asked, values, defaults, trials, progress)


def _search(
    config: Config,
    space: Mapping[str, Range],
    folder: Path,
    asked: Mapping[str, Any],
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    trials: int,
    progress: Progress,
) -> dict[str, Any]:
    study = _open(folder)
    good = bool(_good(study))
    write_json(folder / ASKED, {**asked, FOUND: good})
    if not study.trials:
        study.enqueue_trial({k: v for k, v in defaults.items() if _allows(space[k], v)})
    progress.start()
    while (done := len(_counted(study))) < trials:
        trial = _ask(study, config.seed + done)
        chosen = {k: _suggest(trial, k, r, defaults[k]) for k, r in space.items()}
        result = _try(values, chosen, folder, trial.number, asked["metric"])
        _tell(study, trial, result)
        if not good and not result["error"]:
            good = True
            write_json(folder / ASKED, {**asked, FOUND: good})
        progress.line(f"trial {done + 1}/{trials}: {chosen}: {result['error'] or result['valid']}")
        progress.step("tuning", done + 1, trials)
    return _conclude(study, config, asked, folder)


def what_is_asked(config: Config, space: Mapping[str, Range], metric: str) -> dict[str, Any]:
    """What makes two searches the same; one serves every seed, and no trial is judged."""
    return {
        "metric": metric,
        "space": {k: r.model_dump(exclude_defaults=True) for k, r in space.items()},
        "config": config.model_dump(exclude={"evaluation", "seed", "track"}),
    }


def refuse_other_search(folder: Path, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with, or to take over, what was found for another question, if anything was.

    Raises:
        ConfigError: the folder holds a search of other settings, space or metric.
    """
    old = _asked_before(folder)
    if old and old.pop(FOUND, True) and (difference := first_difference(old, asked)):
        raise ConfigError(
            f"{folder} holds another search: {difference}", "give another --out, or delete the folder"
        )


def _asked_before(folder: Path) -> dict[str, Any]:
    """What the search in ``folder`` was asked, in today's names of settings; empty without one."""
    if not (folder / ASKED).is_file():
        return {}
    old = read_json(folder / ASKED)
    return {**old, "config": translated(old.get("config", {}))}


def _clear(folder: Path, asked: Mapping[str, Any]) -> None:
    """Remove what a killed trial left, and all of a search for another question that found nothing."""
    leavings = [*folder.glob("trial-*"), *folder.glob(f"{JOURNAL}.lock*")]
    old = _asked_before(folder)
    old.pop(FOUND, None)
    if old and first_difference(old, asked):
        leavings += [folder / ASKED, RunFolder(folder).data, folder / JOURNAL]
    for path in leavings:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _open(folder: Path) -> optuna.Study:
    """The search as it was left, or a new one."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise MissingExtraError("tuning needs Optuna", "tune") from None

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        study = optuna.create_study(
            storage=storage, study_name="tune", direction="maximize", load_if_exists=True
        )
        _drop_interrupted(study)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / JOURNAL} is damaged: {type(error).__name__}: {error}",
            "restore it from a copy, or delete the folder and search again",
        ) from error
    return study


def _ask(study: optuna.Study, seed: int) -> optuna.Trial:
    """The next trial; seeded by how many are done, as a resumed search needs."""
    import optuna

    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study.ask()


def _tell(study: optuna.Study, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
    import optuna

    for key, value in result.items():
        trial.set_user_attr(key, value)
    failed = optuna.trial.TrialState.FAIL if result["error"] else None
    study.tell(trial, result["objective"], state=failed)


def _try(
    values: Mapping[str, Any], chosen: Mapping[str, Any], folder: Path, number: int, metric: str
) -> dict[str, Any]:
    """Train one trial's stages; only the scores of the validation split are looked at."""
    started = time.monotonic()
    place = folder / f"trial-{number}"
    result: dict[str, Any] = {"objective": None, "valid": None, "error": None}
    try:
        changed = Config.model_validate(values).model_dump(exclude_unset=True)
        merge(changed, chosen, "space")
        changed["track"] = "none"  # its folder goes at once
        run = open_run(place, parse_config(changed, f"trial {number}"), "tune", quiet=True, force=True)
        _share_data(folder, place)
        dataset = train_all(run, splits=("valid",))
        _keep_data(folder, place)
        found = _validation(run, dataset)
        result |= {"valid": found, "objective": sum(found[m] for m in metric.split("+"))}
    except ResourceError:  # no fault of what was chosen
        raise
    except SasrecllmError as error:
        result["error"] = str(error)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return result | {"seconds": round(time.monotonic() - started, 1)}


def _share_data(folder: Path, place: Path) -> None:
    """The prepared data of the first trial serves all whose settings of data are the same."""
    if RunFolder(folder).data.is_dir():
        shutil.copytree(RunFolder(folder).data, RunFolder(place).data)


def _keep_data(folder: Path, place: Path) -> None:
    if not RunFolder(folder).data.is_dir():
        RunFolder(place).data.rename(RunFolder(folder).data)


def _validation(run: Run, dataset: Dataset) -> dict[str, float]:
    last, _ = list(run.folder.of_stages(planned(run.config)))[-1]
    scores = load_scores(last)["valid"]
    asked = dataset.questions("valid")
    values = {
        "auc": auc(scores, asked.labels),
        "uauc": uauc(scores, asked.labels, asked.histories.users).value,
    }
    missing = [k for k, v in values.items() if v is None]
    if missing:
        raise DataError(
            f"{' and '.join(missing)} of the validation split is undefined: no user has both labels",
            "tune for the other metric, or give the validation split more rows a user",
        )
    return {k: float(v) for k, v in values.items() if v is not None}


def _conclude(
    study: optuna.Study, config: Config, asked: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    records = [{"values": t.params, **t.user_attrs} for t in _counted(study)]
    good = _good(study)
    if not good:
        raise ConfigError(
            f"{folder}: all {len(records)} trials failed; the last one: {records[-1]['error']}",
            "correct the space or the configuration",
        )
    best = max(good, key=lambda r: float(r["objective"]))
    result = {
        "metric": asked["metric"],
        "space": asked["space"],
        "best": best["values"],
        "valid": best["valid"],
        "trials": records,
    }
    write_json(folder / "tune.json", result)
    values = config.model_dump(exclude_unset=True)
    merge(values, best["values"], "space")
    write_text(folder / "best.yaml", yaml.safe_dump(values, sort_keys=False))
    return result


def _counted(study: optuna.Study) -> list[Any]:
    """Trials that ran to their end, well or badly."""
    return [t for t in study.trials if t.state.is_finished() and "seconds" in t.user_attrs]


def _good(study: optuna.Study) -> list[dict[str, Any]]:
    """What is known of the trials that ended well."""
    records = [{"values": t.params, **t.user_attrs} for t in _counted(study)]
    return [r for r in records if r["error"] is None]


def _drop_interrupted(study: optuna.Study) -> None:
    """A trial that a kill left running is closed without a result."""
    import optuna

    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _suggest(trial: optuna.Trial, key: str, range_: Range, default: Any) -> Any:
    if range_.choices:
        return trial.suggest_categorical(key, range_.choices)
    assert range_.low is not None and range_.high is not None  # a Range has seen to it
    if not isinstance(default, int) or isinstance(default, bool):
        return trial.suggest_float(key, range_.low, range_.high, log=range_.log)
    low, high = math.ceil(range_.low), math.floor(range_.high)
    if low > high:
        raise ConfigError(
            f"space.{key} is a whole number, and none lies between {range_.low} and {range_.high}",
            "give other bounds, or choices: [..]",
        )
    return trial.suggest_int(key, low, high, log=range_.log)


def _allows(range_: Range, value: Any) -> bool:
    if range_.choices:
        return value in range_.choices
    return range_.low is not None and range_.high is not None and range_.low <= value <= range_.high


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            alone: dict[str, Any] = {}
            put(alone, key, None, "space")
            refuse_former(alone, "space")
            raise ConfigError(
                f"space.{key} is no setting",
                "`sasrecllm run --print-config` shows every key; write it as section.key",
            )
        found = found[name]
    return found
