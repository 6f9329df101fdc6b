"""Modules that a run names and that are not ours: none is imported without being allowed by name.

What a person writes into a configuration or a command of their own is their word.  A run folder may
come from somebody else: opening it runs nothing that it names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from sasrecllm.errors import ConfigError, did_you_mean

T = TypeVar("T")

OWN = "package.module:Name"

VARIABLE = "SASRECLLM_ALLOW_PLUGIN"
"""Modules that runs may name, with commas; processes that are started inherit it."""


def allow(modules: Iterable[str]) -> None:
    """Allow ``modules`` in this process and in those that it starts (``--allow-plugin``)."""
    named = [*allowed(), *modules]
    if named:
        os.environ[VARIABLE] = ",".join(dict.fromkeys(named))


def refuse_foreign(key: str, name: str, run: str, also: Iterable[str] = ()) -> None:
    """Refuse a run whose setting ``key`` is ``package.module:Name``, unless that module is allowed.

    Args:
        name: the setting's value; without a colon it is a name of ours.
        run: the run folder, for the message.
        also: modules that are allowed, beside those of :data:`VARIABLE`.

    Raises:
        ConfigError: with the flag that would allow it.
    """
    module, colon, _ = name.partition(":")
    if not colon or module.startswith("sasrecllm.") or module in {*also, *allowed()}:
        return
    raise ConfigError(
        f"the run {run} names the plug-in {name!r} ({key}), which opening it would import and run",
        f"if you trust it, add --allow-plugin {module} to the command, set {VARIABLE}={module},"
        f" or in Python give SASRecLLM.from_pretrained allow_plugins=[{module!r}]",
    )


def allowed() -> list[str]:
    """Modules that this process may import if a run names them."""
    return [m.strip() for m in os.environ.get(VARIABLE, "").split(",") if m.strip()]


def resolve(name: str, table: Mapping[str, T], what: str = "name") -> T:
    """Row ``name`` of ``table``, or the object behind ``package.module:Name``.

    Raises:
        ConfigError: the name is in neither; the message lists what is allowed.

    >>> resolve("one", {"one": 1})
    1
    >>> resolve("math:pi", {})
    3.141592653589793
    """
    if name in table:
        return table[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"{what} is {name!r}; allowed: {', or '.join(filter(None, [', '.join(table), OWN]))}"
            + did_you_mean(name, table),
            "use one of these names",
        )
    try:
        found: T = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{what} is {name!r}, which cannot be imported: {error}",
            "check the spelling, and that the package is installed in this environment or its folder"
            " stands in PYTHONPATH (the current folder does not)",
        ) from error
    return found
