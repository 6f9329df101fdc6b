"""The user's cache folder: what was fetched or converted once, and could be made again."""

from __future__ import annotations

import os
from pathlib import Path

from sasrecllm.errors import ConfigError

VARIABLE = "SASRECLLM_CACHE"


def cache_folder() -> Path:
    """``$SASRECLLM_CACHE``, else ``sasrecllm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; not made here.

    Raises:
        ConfigError: none of them is set, and the user has no home folder.
    """
    try:
        if own := os.environ.get(VARIABLE):
            return Path(own).expanduser().absolute()
        root = os.environ.get("XDG_CACHE_HOME")
        return (Path(root) if root else Path.home() / ".cache").absolute() / "sasrecllm"
    except RuntimeError:  # no home folder
        raise ConfigError(
            "there is no folder for what is fetched or converted once: this user has no home folder",
            f"set {VARIABLE} to a folder",
        ) from None
