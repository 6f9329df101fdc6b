"""Names that settings had in earlier versions: refused with the new one, understood in older runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from sasrecllm.errors import ConfigError
from sasrecllm.names import variable

RENAMED = {
    "taste": "item_features",
    "mapper.logit": "mapper.encoder_logit",
    "mapper.absent": "mapper.cold_item_dropout",
    "mapper.fresh_users": "mapper.llm_holdout_users",
}
"""Dotted key -> what it is called now, in the same section."""

LOOPS = ("encoder.loop", "llm.loop", "llm.offline.titles_loop", "llm.offline.answers_loop")
REMOVED = {
    "encoder.prior_rows": "the title prior always weighs as much as two training rows",
    "evaluation.cutoff": "the showcase has ten items; `sasrecllm recommend RUN -k 20` gives twenty",
    "fusion.ridge": "the penalty on the fusion's weights is always 1",
    "llm.offline.dropout": "the offline language model has no dropout",
    **dict.fromkeys(
        (f"{loop}.clip" for loop in LOOPS),
        "gradients are always shortened to a norm of 1; where training diverges, lower lr",
    ),
}
"""Dotted key of a setting that is gone -> why it is not missed."""

RENAMED_NAMES = {"user taste": "user preference"}
NAME_LISTS = ("fusion.components", "evaluation.baselines")
"""Settings that list such names."""

RENAMED_TASKS = {"prior": "title_prior"}
"""In the stages of a strategy that is spelt out."""


def refuse_former(values: Mapping[str, Any], where: str) -> None:
    """Refuse nested settings that have a key or a name of an earlier version.

    Args:
        where: what they were read from, for the message.

    Raises:
        ConfigError: with each such key, and the new name or the reason why there is none.
    """
    found: list[str] = []
    for old, new in RENAMED.items():
        for key in _set_below(values, old):
            now = new + key.removeprefix(old)
            found.append(f"{key} is called {now} now (in the environment {variable(now)})")
    for old, why in REMOVED.items():
        if _section(values, old).get(old.rpartition(".")[2], found) is not found:
            found.append(f"{old} is no setting any more, leave it out: {why}")
    for key in NAME_LISTS:
        names = _section(values, key).get(key.rpartition(".")[2])
        for name in names if isinstance(names, list) else ():
            if current_names([name]) != [name]:
                found.append(f"{key}: {name!r} is called {current_names([name])[0]!r} now")
    for stage in _spelt_out(values):
        if (task := stage.get("task")) != (now := _task(task)):
            found.append(f"strategy: the task {task!r} is called {now!r} now")
    if found:
        raise ConfigError(
            f"{where}: " + "\n  ".join(found),
            "write the new names; `sasrecllm run --print-config` shows every setting",
        )


def translated(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings of an earlier version in today's names; what is gone is left out."""
    copy = deepcopy(dict(values))
    for old, new in RENAMED.items():
        section, last = _section(copy, old), old.rpartition(".")[2]
        if last in section:
            section[new.rpartition(".")[2]] = section.pop(last)
    for old in REMOVED:
        _section(copy, old).pop(old.rpartition(".")[2], None)
    for key in NAME_LISTS:
        section, last = _section(copy, key), key.rpartition(".")[2]
        if isinstance(section.get(last), list):
            section[last] = current_names(section[last])
    for stage in _spelt_out(copy):
        if "task" in stage:
            stage["task"] = _task(stage["task"])
    if _section(copy, "llm.backbone").get("backbone", "offline") != "offline":
        copy["llm"].setdefault("chat", "off")  # all were asked so before there was the setting
    return copy


def current_names(names: Iterable[Any]) -> list[Any]:
    """Names of baselines and components as they are now."""
    return [RENAMED_NAMES.get(n, n) if isinstance(n, str) else n for n in names]


def _task(name: Any) -> Any:
    return RENAMED_TASKS.get(name, name) if isinstance(name, str) else name


def _spelt_out(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stages of a strategy that is more than a name."""
    strategy = values.get("strategy")
    return [s for s in strategy if isinstance(s, dict)] if isinstance(strategy, list) else []


def _section(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The section in which a dotted key stands; an empty one where there is none."""
    inside: Any = values
    for name in key.split(".")[:-1]:
        inside = inside.get(name) if isinstance(inside, dict) else None
    return inside if isinstance(inside, dict) else {}


def _set_below(values: Mapping[str, Any], key: str) -> Iterator[str]:
    """The dotted keys that are set under ``key``, or itself where it is no section."""
    last = key.rpartition(".")[2]
    section = _section(values, key)
    if last in section:
        inside = section[last]
        names = [f"{key}.{name}" for name in inside] if isinstance(inside, dict) else []
        yield from names or [key]
