"""From YAML, environment and command line to checked settings, refused in the user's words.

A configuration is YAML with only what differs from the defaults (:mod:`sasrecllm.settings`);
``SASRECLLM_SECTION__KEY`` in the environment comes on top of the file, and ``section.key=value`` on the
command line on top of both.  Typos, impossible values and names of earlier versions fail here, before
torch is imported, with the key, the value got, what is allowed and the nearest name.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.former_settings import refuse_former, translated
from sasrecllm.machine.cache import VARIABLE as CACHE
from sasrecllm.names import ENV_PREFIX
from sasrecllm.plugins import VARIABLE as ALLOW_PLUGIN
from sasrecllm.settings import Config, Section

MOST_VALUES = 100_000
"""In a file of settings."""
NOT_SETTINGS = {
    "SASRECLLM_API_KEY": "the key of the server, and of a client",
    "SASRECLLM_STORE": "where the server keeps what people told it",
    "SASRECLLM_DATA": "the development data sets, for tests and examples",
    ALLOW_PLUGIN: "modules that a run may name and import",
    CACHE: "folder for what is fetched or converted once",
    "SASRECLLM_FUZZ": "cases an operation of the server's fuzz test",
    "SASRECLLM_FAKE_SECONDS": "how long the tests' server takes for an answer",
}
"""Variables with the prefix of a setting that mean something else; every verb may run with them."""


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The checked configuration out of a YAML file, the environment and ``key=value`` overrides.

    Raises:
        ConfigError: with file or flag, key, value, what is allowed and the nearest name.
    """
    values: dict[str, Any] = read_yaml(path) if path is not None else {}
    refuse_former(values, f"--config {path}")
    for key, value, where in (*_read_environment(), *read_overrides(overrides)):
        alone: dict[str, Any] = {}
        put(alone, key, value, where)
        refuse_former(alone, where)
        put(values, key, value, where)
    return parse_config(values, str(path) if path else "configuration")


def reread_config(path: Path) -> Config:
    """The settings that a run folder was made with, perhaps by an earlier version.

    Raises:
        ConfigError: they cannot be read, or are no settings.
    """
    return parse_config(translated(read_yaml(path)), str(path))


def judged_by(config: Config, overrides: Iterable[str]) -> Config:
    """The settings of a trained run with other ones of ``evaluation``, as ``evaluation.key=value``.

    Raises:
        ConfigError: another section, or a key or value that cannot be.
    """
    values = config.model_dump()
    for key, value, where in read_overrides(overrides):
        if not key.startswith("evaluation."):
            raise ConfigError(
                f"{where}: a trained run is judged by other settings of evaluation alone; allowed:"
                f" evaluation.{', evaluation.'.join(_keys(['evaluation'], Config))}"
                + did_you_mean(key, [f"evaluation.{name}" for name in _keys(["evaluation"], Config)]),
                "what it was trained with stays; `sasrecllm run` trains another one into another --out",
            )
        alone: dict[str, Any] = {}
        put(alone, key, value, where)
        refuse_former(alone, where)
        put(values, key, value, where)
    return parse_config(values, "configuration")


def _read_environment() -> Iterator[tuple[str, Any, str]]:
    """Dotted key, value and origin of every variable that is a setting."""
    for name, text in sorted(os.environ.items()):
        if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS:
            key = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            yield key, _parse(text, name, key), f"environment variable {name}"


def read_overrides(overrides: Iterable[str]) -> Iterator[tuple[str, Any, str]]:
    """Dotted key, value and origin of every ``key=value``.

    Raises:
        ConfigError: there is no ``=``, the value is not YAML, or a section is set after one of its
            keys, which would be lost without a word.
    """
    before: dict[str, str] = {}
    for override in overrides:
        key, equals, text = override.removeprefix("--").partition("=")
        if not equals:
            raise ConfigError(
                f"override {override!r} has no '='", "write it as section.key=value, for example seed=1"
            )
        for longer in (other for other in before if other.startswith(f"{key}.")):
            raise ConfigError(
                f"override {override!r} replaces all of {key}, {before[longer]!r} before it too",
                f"write {before[longer]!r} after it, or into it",
            )
        before[key] = override
        yield key, _parse(text, override, key), f"override {override!r}"


def parse_config(values: Mapping[str, Any], where: str) -> Config:
    """Check plain values; ``where`` names their origin in a refusal.

    Raises:
        ConfigError: with key, value, what is allowed and the nearest name.
    """
    refuse_former(values, where)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: {explained(error, Config)}",
            "correct the key; `sasrecllm run --print-config` shows every key with its default",
        ) from None


def explained(error: ValidationError, section: type[Section]) -> str:
    """What is wrong with the values of a ``section``: a line for each, with what is allowed."""
    return "\n  ".join(_explained(e, section) for e in error.errors())


def _explained(error: Any, section: type[Section]) -> str:
    location = [str(p) for p in error["loc"]]
    key = ".".join(location) or "configuration"
    if error["type"] == "extra_forbidden":
        allowed = _keys(location[:-1], section)
        hint = did_you_mean(location[-1], allowed)
        return f"unknown key {key}; allowed here: {', '.join(allowed)}{hint}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key} is {error['input']!r}: {message}" if location else message


def _keys(path: list[str], section: type[Section]) -> list[str]:
    """Names of the settings inside the section at ``path``; a table of sections has any names."""
    inside: Any = section
    for name in path:
        named = get_origin(inside) is dict
        inside = get_args(inside)[1] if named else inside.model_fields[name].annotation
    return list(inside.model_fields)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of keys and values.

    Raises:
        ConfigError: it is missing, is not YAML, or holds something else.
    """
    try:
        values = _Yaml(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        near = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(
            f"--config {path}: no such file" + did_you_mean(str(path), near),
            "give the path of a YAML file, for example configs/demo.yaml",
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}", "correct the YAML") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"--config {path} holds a {type(values).__name__}", "write keys and values: seed: 0"
        )
    try:
        return {key: _own(value, Counter()) for key, value in values.items()}
    except (OverflowError, RecursionError):
        raise ConfigError(
            f"--config {path} unfolds without end: its aliases (*name) repeat what holds them",
            "write out what they stand for",
        ) from None


def _own(value: Any, seen: Counter[str]) -> Any:
    """A copy in which what YAML's aliases share is apart, so that changing one does not change all.

    Raises:
        OverflowError: more than ``MOST_VALUES``; a few lines of aliases of aliases have billions.
    """
    seen["values"] += 1
    if seen["values"] > MOST_VALUES:
        raise OverflowError
    if isinstance(value, dict):
        return {key: _own(inner, seen) for key, inner in value.items()}
    return [_own(inner, seen) for inner in value] if isinstance(value, list) else value


class _Yaml(yaml.SafeLoader):
    """Safe YAML in which a date is text: settings are stored as JSON, which has no dates."""


_Yaml.yaml_implicit_resolvers = {
    sign: [(tag, form) for tag, form in rows if tag != "tag:yaml.org,2002:timestamp"]
    for sign, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(text: str, where: str, key: str) -> Any:
    """The value of ``key``; a column's name is what is written, be it ``0``, ``on`` or ``@time``."""
    if key.startswith("data.columns.") and key != "data.columns.items":
        if text.strip() in ("", "null", "~"):
            return None
        if text.strip()[0] not in "\"'":
            return text
    try:
        return _Yaml(text).get_single_data()
    except yaml.YAMLError:
        raise ConfigError(f"{where}: {text!r} is not YAML", "quote the value") from None


def put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put ``value`` at the dotted ``key``; what stands above it must be a section."""
    *path, last = key.split(".")
    for name in path:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: {name} is not a section", "check the dotted key")
    values[last] = value
