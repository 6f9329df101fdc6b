"""From YAML, environment and command line to checked settings, refused in the user's words.

A configuration is YAML with only what differs from the defaults (:mod:`sasrecllm.settings`);
``SASRECLLM_SECTION__KEY`` in the environment comes on top of the file, and ``section.key=value`` on the
command line on top of both.  Typos, impossible values and names of earlier versions fail here, before
torch is imported, with the key, the value got, what is allowed and the nearest name.
"""

from __future__ import annotations

import os
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

NO_YAML = (yaml.YAMLError, ValueError, LookupError)
"""What the parser raises; the last two for a tag that its value does not fit (``!!int``)."""
MOST_VALUES = 100_000
"""In a file of settings."""
IN_WORDS = {
    "string_type": "allowed: text; what YAML reads as a truth value (yes, no, on, off), a number or"
    " nothing is text in quotes: 'no'",
    "model_type": "allowed: keys and values",
    "dict_type": "allowed: keys and values",
    "list_type": "allowed: a list, [a, b]",
    "tuple_type": "allowed: a list, [a, b]",
}
"""What the library's refusals mean, by their kind, where its words are those of a programmer."""
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
    given = (*_read_environment(), *read_overrides(overrides))
    return _with(values, given, str(path) if path else "configuration")


def _with(values: dict[str, Any], given: Iterable[tuple[str, Any, str]], where: str) -> Config:
    """Checked settings: ``values`` of ``where``, and on top of them key, value and origin of others."""
    origins = {}
    for key, value, origin in given:
        alone: dict[str, Any] = {}
        put(alone, key, value, origin)
        refuse_former(alone, origin)
        put(values, key, value, origin)
        origins[key] = origin
    return parse_config(values, where, origins)


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
    given = [*read_overrides(overrides)]
    for key, _, where in given:
        if not key.startswith("evaluation."):
            raise ConfigError(
                f"{where}: a trained run is judged by other settings of evaluation alone; allowed:"
                f" evaluation.{', evaluation.'.join(_keys(['evaluation'], Config))}"
                + did_you_mean(key, [f"evaluation.{name}" for name in _keys(["evaluation"], Config)]),
                "what it was trained with stays; `sasrecllm run` trains another one into another --out",
            )
    return _with(config.model_dump(), given, "configuration")


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


def parse_config(
    values: Mapping[str, Any], where: str, origins: Mapping[str, str] | None = None
) -> Config:
    """Check plain values.

    Args:
        where: their origin, for a refusal.
        origins: dotted key -> its own origin, of what came on top of them.

    Raises:
        ConfigError: with origin, key, value, what is allowed and the nearest name.
    """
    refuse_former(values, where)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines: dict[str, list[str]] = {}
        for found in error.errors():
            said = lines.setdefault(_origin(found["loc"], origins or {}) or where, [])
            said.append(_explained(found, Config))
        raise ConfigError(
            "\n  ".join(f"{of}: " + "\n  ".join(dict.fromkeys(said)) for of, said in lines.items()),
            "correct the key; `sasrecllm run --print-config` shows every key with its default",
        ) from None


def _origin(location: Sequence[str | int], origins: Mapping[str, str]) -> str:
    """Where the key at ``location``, or the nearest section around it, was set; empty if unknown."""
    names = [str(name) for name in location]
    around = (".".join(names[:n]) for n in range(len(names), 0, -1))
    return next((origins[key] for key in around if key in origins), "")


def explained(error: ValidationError, section: type[Section]) -> str:
    """What is wrong with the values of a ``section``: a line for each, with what is allowed."""
    return "\n  ".join(_explained(e, section) for e in error.errors())


def _explained(error: Any, section: type[Section]) -> str:
    location = [str(p) for p in error["loc"]]
    if section is Config and location[:1] == ["strategy"]:  # behind it stand pydantic's branches
        return "strategy: allowed: a name, or a list of stages"
    key = ".".join(location) or "configuration"
    if error["type"] == "extra_forbidden":
        allowed = _keys(location[:-1], section)
        hint = did_you_mean(location[-1], allowed)
        return f"unknown key {key}; allowed here: {', '.join(allowed)}{hint}"
    if error["type"] == "missing":
        return f"{key} is missing"
    message = IN_WORDS.get(error["type"], error["msg"].removeprefix("Value error, "))
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
            f"{path}: no such file" + did_you_mean(str(path), near),
            "give the path of a YAML file, for example configs/demo.yaml",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", "give the path of a YAML file"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}", "store it as UTF-8") from None
    except (RecursionError, *NO_YAML) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "correct the YAML") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}", "write keys and values: seed: 0")
    try:
        return {key: _own(value, Counter()) for key, value in values.items()}
    except (OverflowError, RecursionError):
        raise ConfigError(
            f"{path} unfolds without end: its aliases (*name) repeat what holds them",
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
    """Safe YAML in which a date is text: settings are stored as JSON, which has no dates.

    A key that stands twice is refused: the first of its values would be lost without a word.
    """

    def compose_mapping_node(self, anchor: Any) -> Any:
        """The node of a mapping, whose keys are looked at."""
        node: Any = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(name)
        return node


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
    except (RecursionError, *NO_YAML) as error:
        problem = getattr(error, "problem", None) or error
        raise ConfigError(
            f"{where}: {reprlib.repr(text)} is not YAML: {problem}",
            "correct it, or quote the value",
        ) from None


def put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put ``value`` at the dotted ``key``; what stands above it must be a section."""
    *path, last = key.split(".")
    if not (last and all(path)):
        raise ConfigError(f"{where}: {key!r} names no setting", "write it as section.key=value")
    for name in path:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: {name} is not a section", "check the dotted key")
    values[last] = value
