"""What stands on disk: folders that are whole or absent.

One mechanism serves every folder that must not be half there (a checkpoint, a part of the model, a
language model, prepared data): :func:`commit_folder` writes into ``NAME.tmp``, adds
``MANIFEST.sha256`` last, flushes everything and renames the folder into place.  A folder counts only
with a valid manifest.  Weights are safetensors, everything else is JSON; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sasrecllm.errors import CheckpointError, did_you_mean
from sasrecllm.faults import told

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "MANIFEST.sha256"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def commit_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Create ``folder`` so that it is whole or absent, whatever happens meanwhile.

    Args:
        write: fills the temporary folder that it is given.
    Raises:
        ResourceError: the disk is full, or memory; nothing of the new folder is left.
        ConfigError: there can be no such folder, or nothing may be written there.
    """
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with told(folder):
            temporary.mkdir(parents=True)
            write(temporary)
            files = sorted(p for p in temporary.rglob("*") if p.is_file())
            lines = [f"{file_digest(p)}  {p.relative_to(temporary).as_posix()}\n" for p in files]
            for path in files:
                _flush(path)
            (temporary / MANIFEST).write_text(_sealed("".join(lines)), encoding="utf-8")
            _flush(temporary / MANIFEST)
            _flush(temporary)
            _replace(temporary, folder)
            _flush(folder.parent)
    except BaseException:  # a stop and a lack of memory leave nothing half-written either
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def verify_folder(folder: Path) -> None:
    """Check every file of ``folder`` against its manifest.

    Raises:
        CheckpointError: the folder, its manifest or a file is missing or changed.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(
            f"{folder} is not a finished folder: {MANIFEST} is missing",
            "point to a folder that sasrecllm finished writing, or train again",
        )
    text = manifest.read_bytes().decode("utf-8", errors="replace")
    body = "".join(text.splitlines(keepends=True)[:-1])
    if text != _sealed(body):
        raise CheckpointError(
            f"{manifest} is damaged: its last line is not the SHA-256 of the lines above",
            "restore the file from a copy, or delete the folder and train the stage again",
        )
    for line in body.splitlines():
        wanted, _, name = line.partition("  ")
        path = folder / name
        got = file_digest(path) if path.is_file() else "nothing"
        if got != wanted:
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 is {got[:12]}, the manifest says {wanted[:12]}",
                "restore the file from a copy, or delete the folder and train the stage again",
            )


def _sealed(body: str) -> str:
    """Lines of a manifest with their own digest below, so that a cut manifest is found too."""
    return f"{body}{hashlib.sha256(body.encode()).hexdigest()}  {MANIFEST}\n"


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` passes :func:`verify_folder`."""
    try:
        verify_folder(folder)
    except CheckpointError:  # not an OSError: what cannot be read now must not be taken for damaged
        return False
    return True


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as UTF-8 JSON that a person can read; NaN is refused, None is null."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; half a character is spelt out."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with told(path):
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "restore the file or train the stage again"
        ) from error


def save_part(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    requires: Mapping[str, str],
) -> None:
    """Commit one trained part (encoder, mapper, adapter, ...).

    Args:
        config: what rebuilds the part.
        requires: digests of what it was trained with (``catalog``, ``backbone``); checked on load.
    """

    def write(temporary: Path) -> None:
        _save_tensors(temporary / "weights.safetensors", tensors)
        write_json(temporary / "part.json", {"config": dict(config), "requires": dict(requires)})

    if folder.exists():
        shutil.rmtree(folder)
    commit_folder(folder, write)


def load_part(folder: Path, requires: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and config of a part, after checking that it is whole and belongs here.

    Raises:
        CheckpointError: damaged, or trained with another catalogue or language model.
    """
    verify_folder(folder)
    about = read_json(folder / "part.json")
    for key, wanted in requires.items():
        got = about["requires"].get(key)
        if got is not None and got != wanted:
            raise CheckpointError(
                f"{folder} was trained with another {key} ({got[:12]}; this run has {wanted[:12]})",
                f"use a part trained with the same {key}, or train this part here",
            )
    return _load_tensors(folder / "weights.safetensors"), about["config"]


class CheckpointFolder:
    """The training loop's store: ``step-00000100/`` folders, the last ``keep`` of them, and metrics.

    The best state so far lies inside each checkpoint, so a checkpoint is all that a resume needs.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self.metrics = folder.parent / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Commit the state of ``step``; older checkpoints go only afterwards."""

        def write(temporary: Path) -> None:
            _save_tensors(temporary / "state.safetensors", tensors)
            write_json(temporary / "state.json", state)

        target = self.folder / f"step-{step:08d}"
        if target.exists() and is_whole(target):
            return  # the same step gives the same bits
        shutil.rmtree(target, ignore_errors=True)
        commit_folder(target, write)
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(old)

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest whole checkpoint, or None; damaged ones are passed over, never deleted here.

        Cuts the metrics back to that state, so that a resumed run writes no record twice.
        """
        for folder in reversed(self._steps()):
            if is_whole(folder):
                state = read_json(folder / "state.json")
                self._cut_metrics(state["step"], len(state.get("curve", ())) or None)
                return _load_tensors(folder / "state.safetensors"), state
        self._cut_metrics(0)
        return None

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON record to ``metrics.jsonl``."""
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, allow_nan=False) + "\n")

    def clear(self) -> None:
        """Remove the checkpoints once the stage's parts are committed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if not p.name.endswith(".tmp"))

    def _cut_metrics(self, step: int, most: int | None = None) -> None:
        if not self.metrics.exists():
            return
        kept: list[str] = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] > step or len(kept) == most:
                    break
            except ValueError:  # the line that a kill cut in two
                break
            kept.append(line + "\n")
        write_text(self.metrics, "".join(kept))


def choose_run(path: Path) -> Path:
    """A run folder that exists and is finished.

    Raises:
        CheckpointError: with the nearest name when it was misspelt.
    """
    if (path / "run.json").is_file():
        return path
    near = [p.parent.name for p in path.parent.glob("*/run.json")]
    raise CheckpointError(
        f"{path} is not a finished run folder: run.json is missing" + did_you_mean(path.name, near),
        "give the folder that `sasrecllm run` printed; an interrupted run goes on when the same"
        " command is given again",
    )


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _load_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "train the stage again") from error


def _flush(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, folder: Path) -> None:
    """Put the finished folder in its place (a folder that stands there was removed by the caller)."""
    os.rename(temporary, folder)
