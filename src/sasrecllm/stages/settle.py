"""Before anything is trained: a run fills in what nobody named, by its data and its budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sasrecllm.checkpoint import PART, read_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import ConfigError
from sasrecllm.llm import backbone, mapper
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.distributed import is_main_process, process_count, wait_for_all
from sasrecllm.machine.memory import hand_back_freed_memory
from sasrecllm.runs.choice import goes_on_from_quick, is_named, with_choice
from sasrecllm.runs.folder import run_before
from sasrecllm.runs.language_model import chosen_dtype, is_own
from sasrecllm.runs.loaded import loaded_part, run_of
from sasrecllm.runs.opening import Run, claim
from sasrecllm.runs.stored import stored_config
from sasrecllm.runs.templates import keep_templates
from sasrecllm.settings import Config
from sasrecllm.stages.budget import fit_in
from sasrecllm.stages.kind import Stage
from sasrecllm.stages.quick import take_over
from sasrecllm.stages.recipe import Rule, recipe, values_of
from sasrecllm.stages.strategies import asks_language_model, planned
from sasrecllm.stages.timing import RunTime, run_time

TOKENS_ON_A_CPU = 2048
"""Of a micro-batch: with SmolLM2-135M in bf16 training then stays within 3 GB (docs/performance.md)."""
LIKES_OF_A_STEP = 8
"""Where items are drawn beside each like; its prompts share a beginning, and twice the tokens fit."""
ON_A_CPU: dict[str, Any] = {
    "llm.title_tokens": 16,
    "llm.validation_users": 0.2,
    "llm.lora.r": 16,
    "llm.lora.alpha": 32,
    "llm.lora.dropout": 0.0,
    "llm.lora.targets": ["all-linear"],
    "llm.loop.epochs": 1,
    "llm.loop.lr": 0.0005,
    "llm.loop.warmup_steps": 50,
    "llm.loop.evals_per_epoch": 4,
}
"""For a pretrained language model that a CPU can train at all: a small one, once over the rows."""
ENCODER = ("kind", "width", "blocks", "heads", "length", "likes_only", "item_bias", "user_bias")
"""Settings that a saved encoder brings with it."""
PROMPT = ("chat", "history", "history_step", "title_tokens")
"""Settings of the prompts that an adapter has learnt to read, which it brings with it."""
Measure = Callable[..., RunTime]
"""Takes what :func:`fit_in`'s own does."""


def settle(run: Run, dataset: Dataset, started: float) -> None:
    """Choose for ``run`` and write the choice down; what was trained already keeps its own.

    Args:
        started: when the run began, of :func:`time.monotonic`.

    Raises:
        ConfigError: a budget under more than one process, whose steps one process cannot time.
    """
    needed, quick = _is_open(run), goes_on_from_quick(run.folder, run.config)
    wait_for_all()
    if not needed:
        return
    if run.config.budget and process_count() > 1:
        raise ConfigError(
            f"budget is {run.config.budget!r}, under {process_count()} processes; one process times its"
            " own steps alone",
            "start one process, or name what `sasrecllm run --dry-run --budget …` shows",
        )
    if is_main_process():
        run.config = choose(run, dataset, started)
        if quick:
            take_over(run, dataset)
        claim(run)
        if asks_language_model(run.config):
            keep_templates(run.folder, run.config)
    wait_for_all()
    if not is_main_process():
        run.config = with_choice(run.config, stored_config(run.folder, None).chosen)


def choose(run: Run, dataset: Dataset, started: float, measure: Measure | None = None) -> Config:
    """The run's settings with what its data and its budget ask for, said in words.

    Args:
        started: when the run began.
        measure: what the run would cost; it is tried out without.
    """
    if not _is_open(run):
        return run.config
    named = run.config
    machine = _of_machine(named, dataset)
    asked = with_choice(named, values_of(machine))
    rules = [] if named.update.of else recipe(asked, dataset)  # an update has those of the run before
    rules += machine
    if brought := loaded_settings(run):
        rules.append(Rule("what is loaded was trained so", brought))
    chosen = _said(run, "recipe", named, rules)
    settled = with_choice(named, chosen)
    if named.budget and not named.quick:

        def timed(language: bool, values: Mapping[str, Any] = MappingProxyType({})) -> RunTime:
            tried = replace(run, config=with_choice(named, chosen | dict(values)))
            found = run_time(tried, dataset, language=language)
            hand_back_freed_memory(parts=True)
            return found

        spent = time.monotonic() - started
        rules = fit_in(settled, named, spent, measure or timed)
        chosen |= _said(run, f"budget {named.budget}", named, rules)
    return with_choice(named, chosen)


def loaded_parts(run: Run, part: str) -> Iterator[Path]:
    """The parts of the kind ``part`` (encoder, adapter, mapper) that stages take from elsewhere.

    Raises:
        CheckpointError: there is none where a stage loads it from.
    """
    before = run_before(run.config)
    for folder, stage in run.folder.of_stages(planned(run.config)):
        if part in stage.load:
            yield loaded_part(folder, part, stage.load[part], before)


def crossfitted_from(run: Run) -> Iterator[tuple[Stage, str]]:
    """Stages taught by cross-fitted vectors of an encoder of another run, which is not copied yet, and
    the place that it is loaded from."""
    if run.config.encoder.folds < 2 or run.config.update.of:
        return
    place = ""  # where the encoder in use comes from, if from another run
    for folder, stage in run.folder.of_stages(planned(run.config)):
        if stage.kind.trains_folds or folder.loaded_part("encoder").is_dir():  # its own, or begun with
            place = ""
        else:
            place = stage.load.get("encoder", place)
        if place and stage.train and stage.reads_crossfit:
            yield stage, place


def loaded_settings(run: Run) -> dict[str, Any]:
    """What the first loaded encoder, adapter and mapper were trained with: their shapes, and of the
    adapter its prompts.

    A part's own folder, outside a run, tells nothing of prompts.  Empty where nothing is loaded.
    """
    found: dict[str, Any] = {}
    if path := next(loaded_parts(run, "encoder"), None):
        found |= _keyed("encoder", ENCODER, read_json(path / PART, config=dict)["config"])
        if ":" in str(found.get("encoder.kind")):  # a class that its file names: nobody allowed that
            del found["encoder.kind"]
    if path := next(loaded_parts(run, "adapter"), None):
        found |= _keyed("llm.lora", backbone.SHAPE, read_json(path / PART, config=dict)["config"])
        if there := run_of(path):
            found |= _keyed("llm", PROMPT, vars(stored_config(there, None).llm))
    if path := next(loaded_parts(run, "mapper"), None):
        saved = mapper.saved_settings(read_json(path / PART, config=dict)["config"])
        found |= _keyed("mapper", mapper.SHAPE, saved)
    return found


def _keyed(section: str, keys: Sequence[str], made: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value, of those of ``keys`` that ``made`` has."""
    return {f"{section}.{key}": made[key] for key in keys if made.get(key) is not None}


def _of_machine(named: Config, dataset: Dataset) -> list[Rule]:
    """What is another choice on another machine, which is why the run keeps it."""
    if not asks_language_model(named):
        return []
    rules, device = [], pick_device(named.device)
    pretrained = device == "cpu" and not is_own(named)
    if named.llm.dtype == "auto" or (pretrained and not is_named(named, "llm.dtype")):
        dtype, why = chosen_dtype(named, device)
        rules.append(Rule(why, {"llm.dtype": dtype}))
    if pretrained:
        beside = dataset.negatives if dataset.implicit else 0
        values: dict[str, Any] = {"llm.loop.micro_tokens": TOKENS_ON_A_CPU * (2 if beside else 1)}
        rules.append(Rule("a CPU is no faster at more tokens at once, and has less memory", values))
        batch = LIKES_OF_A_STEP * (1 + beside) if beside else 64
    if pretrained and not named.update.of:
        rules.append(Rule("a pretrained model on a CPU", ON_A_CPU | {"llm.loop.batch_size": batch}))
    return rules


def _is_open(run: Run) -> bool:
    """Whether nothing was trained yet that the choice would change."""
    return not run.folder.is_trained() or goes_on_from_quick(run.folder, run.config)


def _said(run: Run, head: str, named: Config, rules: list[Rule]) -> dict[str, Any]:
    """Everything that the rules choose, each said with its reason; the later of two rules counts."""
    chosen: dict[str, Any] = {}
    for rule in rules:
        taken = {key: value for key, value in rule.values.items() if not is_named(named, key)}
        chosen |= taken
        if taken or not rule.values:
            said = ", ".join(f"{key}={_short(value)}" for key, value in taken.items())
            run.progress.line(f"{head}: {rule.why}" + (f": {said}" if said else ""))
    return chosen


def _short(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
