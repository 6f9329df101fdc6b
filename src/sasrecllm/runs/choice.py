"""What a run chooses for itself: values for settings that nobody named, kept with its settings.

``chosen`` in ``RUN/config.yaml`` lists them, dotted key -> value; they stand in their own places too,
so that who reads the folder needs to know nothing of this.  A run that goes on takes them from there
and does not choose anew, on whatever machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config
from sasrecllm.settings import Config, Section


def is_named(config: Section, key: str) -> bool:
    """Whether a file, the environment, the command line or a call named the dotted ``key``."""
    name, _, rest = key.partition(".")
    if name not in config.model_fields_set:
        return False
    return not rest or is_named(getattr(config, name), rest)


def value_at(config: Section, key: str) -> Any:
    """The value of a dotted key."""
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with each dotted key of ``values`` set.

    Raises:
        ValueError: one cannot be (pydantic's ``ValidationError``).
    """
    for key, value in values.items():
        config = _with(config, key.split("."), value)
    Config.model_validate(config.model_dump())
    return config


def _with(section: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    inner = _with(getattr(section, name), rest, value) if rest else value
    return section.model_copy(update={name: inner})


def with_choice(config: Config, chosen: Mapping[str, Any]) -> Config:
    """The settings with ``chosen`` where nobody named one, and the list of what was taken."""
    taken = {key: value for key, value in chosen.items() if not is_named(config, key)}
    return with_values(config, {**taken, "chosen": taken})


def as_chosen(folder: RunFolder, config: Config) -> Config:
    """The settings with what the run that was trained in ``folder``, if any, chose for itself."""
    if not folder.config.is_file() or not folder.is_trained():
        return config
    there = stored_config(folder, None)
    if (there.budget, there.quick) != (config.budget, config.quick):
        return config
    return with_choice(config, there.chosen)


def goes_on_from_quick(folder: RunFolder, config: Config) -> bool:
    """Whether a quick run was trained in ``folder`` and these settings ask for the whole of it."""
    if config.quick or not folder.config.is_file() or not folder.is_trained():
        return False
    return stored_config(folder, None).quick
