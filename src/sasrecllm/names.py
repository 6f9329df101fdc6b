"""Names: of runs and stages, which become folders, of what is being written, of variables."""

from __future__ import annotations

import re
from pathlib import Path

from sasrecllm.errors import ConfigError

MOST_BYTES = 100
ENV_PREFIX = "SASRECLLM_"
ASIDE = re.compile(r"\.([^/\\]+)\.sasrecllm-(?:new|old)\.tmp")


def variable(key: str) -> str:
    """The environment variable of a setting's dotted key.

    >>> variable("encoder.width")
    'SASRECLLM_ENCODER__WIDTH'
    """
    return ENV_PREFIX + key.upper().replace(".", "__")


def aside(path: Path, which: str = "new") -> Path:
    """Where the file or folder that will stand at ``path`` is made, beside it; what is left there of an
    interrupted work may be deleted.

    Hidden and with our own name in it: people choose ``path``, and may have a ``NAME.tmp`` of theirs.

    Args:
        which: ``new``, or ``old`` for what made room and is not deleted yet.

    >>> aside(Path("models/mine")).as_posix()
    'models/.mine.sasrecllm-new.tmp'
    """
    return path.with_name(f".{path.name}.sasrecllm-{which}.tmp")


def without_aside(text: str) -> str:
    """``text`` with every name that :func:`aside` gives replaced by the one that it was given.

    >>> without_aside("models/.mine.sasrecllm-new.tmp/config.json")
    'models/mine/config.json'
    """
    return ASIDE.sub(r"\1", text)


def refuse_folder_name(what: str, name: str) -> None:
    """Refuse a name that would be a folder elsewhere, or that a file system cannot hold.

    Raises:
        ConfigError: it is empty, too long, ``.`` or ``..``, or has a separator or a control character.

    >>> refuse_folder_name("name", "SASRec, 3 seeds")
    >>> refuse_folder_name("name", "../mine")
    Traceback (most recent call last):
    sasrecllm.errors.ConfigError: name is '../mine', which cannot be the name of a folder
      -> use letters, digits, '-', '_' and '.', at most 100 bytes
    """
    long = len(name.encode("utf-8", errors="replace")) > MOST_BYTES
    if long or name != name.strip() or name in ("", ".", "..") or not _is_plain(name):
        shown = f"{name[:40]!r}... ({len(name)} characters)" if long else repr(name)
        raise ConfigError(
            f"{what} is {shown}, which cannot be the name of a folder",
            f"use letters, digits, '-', '_' and '.', at most {MOST_BYTES} bytes",
        )


def _is_plain(name: str) -> bool:
    """No separator of any system, no control character, no half of a character."""
    return name.isprintable() and not set(name) & set("/\\:")
