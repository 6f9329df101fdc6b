"""The command of this process, as it is written down and shown."""

from __future__ import annotations

import re
import shlex
import sys

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+", re.DOTALL)
"""To the end of a word: a password may hold a space."""
_PARTS = re.compile(r"([^:]*)://([^/?#]*)([^?#]*)")
"""Scheme, who and where, path: also of what no parser of URLs takes."""


def own_command() -> str:
    """The command of this process as a shell takes it, without passwords.

    A URL with a user or a query, a database's for example, keeps scheme, host, port and path alone.
    """
    return shlex.join(["sasrecllm", *(URL.sub(_shown, word) for word in sys.argv[1:])])


def without_password(url: str) -> str:
    """A URL that can stand in a message, with neither user nor query.

    Of one whose password holds a ``/``, ``?`` or ``#`` as it is, the scheme is all that is shown:
    nobody can tell where the password ends.
    """
    found = _PARTS.match(url)
    if found is None:
        return url
    scheme, place, path = found.groups()
    if ":" in place and "@" not in place and "@" in url[found.end(2) :]:
        return f"{scheme}://..."
    return f"{scheme}://{place.rpartition('@')[2]}{path}"


def _shown(found: re.Match[str]) -> str:
    url = found[0]
    return without_password(url) if "@" in url or "?" in url else url
