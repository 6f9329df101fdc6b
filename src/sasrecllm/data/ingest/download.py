"""Fetching a publisher's file: checked, whole or not at all, and never for long without a word."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from sasrecllm.errors import DataError

TIMEOUT = 10.0
"""Seconds without a byte after which the network counts as absent."""
BLOCK = 1 << 20
_MD5 = re.compile(r"\b[0-9a-fA-F]{32}\b")  # in GNU or BSD form
Report = Callable[[str, int, int], None]
"""What is done, how much of it, and of how much."""
FAILURES = (OSError, http.client.HTTPException, ValueError)


def fetch(url: str, target: Path, checksum_url: str | None, report: Report | None = None) -> Path:
    """Download ``url`` to ``target`` unless it stands there, and check it against its publisher.

    Args:
        url: of the file.
        target: where it belongs; it appears there only when it is whole.
        checksum_url: publisher's MD5 file for it; None where the publisher gives none, and then
            the SHA-256 is written beside the file, so that a later copy can be compared.
        report: is told what arrives, the megabytes done, and those announced.

    Raises:
        DataError: no network, a refusal by the server, or a checksum that differs.
    """
    if target.exists():
        return target
    try:
        expected = _published(checksum_url) if checksum_url else None
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                md5, sha256 = _copy(url, out, report)
            if expected is not None and md5 != expected:
                raise DataError(
                    f"{url}: MD5 is {md5}, its publisher says {expected} ({checksum_url})",
                    "try again; if it stays so, ask the publisher",
                )
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except FAILURES as error:
        raise DataError(
            f"{url} cannot be downloaded: {getattr(error, 'reason', None) or error}",
            f"fetch it on another machine and put it at {target}, or set data.path to it",
        ) from None
    target.with_name(target.name + ".sha256").write_text(f"{sha256}  {target.name}\n")
    return target


def check_beside(archive: Path) -> None:
    """Check a local archive against its publisher's MD5 file, where the user put that beside it.

    Raises:
        DataError: the two differ.
    """
    beside = archive.with_name(archive.name + ".md5")
    if not archive.is_file() or not beside.is_file():
        return
    found = _MD5.search(beside.read_text(encoding="ascii", errors="replace"))
    with archive.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if found is None or found.group().lower() != md5:
        raise DataError(
            f"{archive}: MD5 is {md5}, {beside.name} says {found.group() if found else 'nothing'}",
            "fetch the archive and its .md5 file again",
        )


def _copy(url: str, out: IO[bytes], report: Report | None) -> tuple[str, str]:
    """Write what ``url`` answers; MD5 and SHA-256 of it."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with _open(url) as answer:
        announced = answer.headers.get("Content-Length")
        count = 0
        while block := answer.read(BLOCK):
            out.write(block)
            md5.update(block)
            sha256.update(block)
            count += len(block)
            if report is not None:
                name, total = url.rsplit("/", 1)[1], int(announced or count)
                report(f"download {name}, MB", count >> 20, max(count, total) >> 20)
    if announced is not None and count != int(announced):
        raise OSError(f"{count} of {announced} bytes arrived")
    return md5.hexdigest(), sha256.hexdigest()


def _published(url: str) -> str:
    """The MD5 in a publisher's checksum file, in GNU or BSD form."""
    with _open(url) as answer:
        text = answer.read(4096).decode("ascii", "replace")
    found = _MD5.search(text)
    if found is None:
        raise OSError(f"no MD5 in {url}")
    return found.group().lower()


def _open(url: str) -> http.client.HTTPResponse:
    if not url.startswith("https://"):
        raise ValueError("only https addresses are fetched")
    asked = urllib.request.Request(url, headers={"User-Agent": "sasrecllm"})
    answer: http.client.HTTPResponse = urllib.request.urlopen(asked, timeout=TIMEOUT)
    return answer
