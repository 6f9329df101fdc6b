"""The command of this process, as it is written down and shown."""

from __future__ import annotations

import re
import shlex
import sys
from urllib.parse import urlsplit

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def own_command() -> str:
    """The command of this process as a shell takes it, without passwords.

    A URL with a user or a query, a database's for example, keeps scheme, host and path alone.
    """
    return shlex.join(["sasrecllm", *(URL.sub(_shown, word) for word in sys.argv[1:])])


def without_password(url: str) -> str:
    """A URL that can stand in a message."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _shown(found: re.Match[str]) -> str:
    url = found[0]
    return without_password(url) if "@" in url or "?" in url else url
