"""``MANIFEST.sha256``: what lies in a folder, file by file, and the check that it still does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from sasrecllm.errors import CheckpointError
from sasrecllm.machine.os_errors import as_refusals

MANIFEST = "MANIFEST.sha256"
RESTORE = (
    "restore the file from a copy, or give the `sasrecllm run` command that trained the run again with"
    " --force, which trains all of it anew"
)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify_folder(folder: Path) -> None:
    """Check every file of ``folder`` against its manifest.

    Hidden files, which file managers leave behind and nobody reads, are passed over.

    Raises:
        CheckpointError: the folder, its manifest or a file is missing or changed, is a symbolic link,
            or is not in the manifest.
    """
    listed = read_manifest(folder)
    verify_files(folder, listed)
    for path in folder.rglob("[!.]*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name != MANIFEST and name not in listed:
            raise CheckpointError(
                f"{path} does not belong to its folder: {MANIFEST} does not list it",
                "remove the file; nothing that sasrecllm did not write there is read",
            )


def manifest_of(folder: Path, files: list[Path]) -> str:
    """The text of the manifest that lists ``files``, all inside ``folder``."""
    lines = [f"{file_digest(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    return _sealed("".join(lines))


def read_manifest(folder: Path) -> dict[str, str]:
    """Path inside ``folder`` -> SHA-256, as its manifest says.

    Raises:
        CheckpointError: there is none, it is damaged, or it names something outside the folder.
    """
    manifest = folder / MANIFEST
    if manifest.is_symlink() or not manifest.is_file():
        raise CheckpointError(
            f"{folder} is not a finished folder: {MANIFEST} is missing",
            "point to a folder that sasrecllm finished writing, or train again",
        )
    with as_refusals(manifest):
        text = manifest.read_bytes().decode("utf-8", errors="replace")
    body = "".join(text.splitlines(keepends=True)[:-1])
    if text != _sealed(body):
        raise CheckpointError(
            f"{manifest} is damaged: its last line is not the SHA-256 of the lines above", RESTORE
        )
    listed = {}
    for line in body.splitlines():
        wanted, _, name = line.partition("  ")
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise CheckpointError(f"{manifest} lists {name!r}, which is not inside its folder", RESTORE)
        listed[name] = wanted
    return listed


def verify_files(folder: Path, listed: Mapping[str, str]) -> None:
    """Check files of ``folder`` (path inside it -> SHA-256), several at a time.

    Raises:
        CheckpointError: one is missing, changed or reached through a symbolic link.
        ConfigError: who runs this may not read one.
        ResourceError: the disk cannot read one.
    """
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        found = list(pool.map(lambda name: _digest_inside(folder, name), listed))
    for (name, wanted), got in zip(listed.items(), found, strict=True):
        if got != wanted:
            raise CheckpointError(
                f"{folder / name} is damaged: its SHA-256 is {got[:12]}, the manifest says"
                f" {wanted[:12]}",
                RESTORE,
            )


def _digest_inside(folder: Path, name: str) -> str:
    """SHA-256 of an ordinary file that lies in ``folder`` itself, else ``nothing``."""
    path = folder
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            return "nothing, for it is a symbolic link"
    with as_refusals(
        path
    ):  # a disk that cannot be read, or no right to: nothing is wrong with the file
        return file_digest(path) if path.is_file() else "nothing"


def _sealed(body: str) -> str:
    """Lines of a manifest with their own digest below, so that a cut manifest is found too."""
    return f"{body}{hashlib.sha256(body.encode()).hexdigest()}  {MANIFEST}\n"
