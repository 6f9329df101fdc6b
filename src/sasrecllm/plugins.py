"""Modules that a run names and that are not ours: none is imported without being allowed by name.

What a person writes into a configuration or a command of their own is their word.  A run folder may
come from somebody else: opening it runs nothing that it names.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from sasrecllm.errors import ConfigError, SasrecllmError, did_you_mean

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


def allowed_by_then() -> Iterator[str]:
    """``package.module:`` of those allowed when the first is asked for, for :func:`at_work`."""
    yield from (f"{module}:" for module in allowed())


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
    except Exception as error:
        raise ConfigError(
            f"{what} is {name!r}, which cannot be imported: {_said(error)}", "correct it there"
        ) from error
    return found


@contextlib.contextmanager
def called(name: str) -> Iterator[None]:
    """A block that calls the object behind ``name``: what somebody's own code raises is no bug of ours.

    A name without a colon is a row of ours, and what it raises stays as it is.

    Raises:
        ConfigError: with the exception and the line that raised it.
    """
    try:
        yield
    except SasrecllmError:
        raise
    except Exception as error:
        if ":" not in name or name.startswith("sasrecllm."):
            raise
        raise ConfigError(
            f"the plug-in {name} failed: {_said(error)}",
            "correct it there, or take it out of the settings that name it",
        ) from error


@contextlib.contextmanager
def at_work(names: Iterable[str]) -> Iterator[None]:
    """A block in which code of ours calls that behind ``names`` somewhere, and it calls ours.

    What passes through a module of theirs is theirs to mend; anything else is raised as it is.

    Args:
        names: ``package.module:Name``, or ``package.module:`` for all of it.

    Raises:
        ConfigError: with the exception and their line.
    """
    try:
        yield
    except SasrecllmError:
        raise
    except Exception as error:
        passed = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        for name in names:
            module = sys.modules.get(name.partition(":")[0])
            file = getattr(module, "__file__", None)
            if ":" in name and not name.startswith("sasrecllm.") and file in passed:
                raise ConfigError(
                    f"the plug-in {name.rstrip(':')} failed: {_said(error, file)}",
                    "correct it there, or take it out of the settings that name it",
                ) from error
        raise


def _said(error: BaseException, file: str = "") -> str:
    """An exception in one line, with the place that raised it: the last one in ``file``, or outside
    this package."""
    text = " ".join(str(error).split())
    kind = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return kind  # which ends with the file and the line
    here = os.path.dirname(__file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_file(f.filename)]
    others = [f for f in frames if (f.filename == file if file else not f.filename.startswith(here))]
    return kind + (f" ({others[-1].filename}, line {others[-1].lineno})" if others else "")


def _is_file(name: str) -> bool:
    return not name.startswith("<")
