"""What stands on disk: folders that are whole or absent.

One mechanism serves every folder that must not be half there (a checkpoint, a part of the model, a
language model, prepared data): :func:`commit_folder` writes into a hidden folder beside it, adds
``MANIFEST.sha256`` last, flushes everything and renames the folder into place.  A folder counts only
with a valid manifest, and only what the manifest lists is in it.  Weights are safetensors, everything
else is JSON; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sasrecllm.errors import CheckpointError
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.manifest import MANIFEST, manifest_of, verify_folder
from sasrecllm.names import aside

if TYPE_CHECKING:
    from torch import Tensor

PART = "part.json"
"""In the folder of a part: what rebuilds it, and what it was trained with."""
METRICS = "metrics.jsonl"
"""Beside the checkpoints of a training: its losses and validations, a record a line."""
REQUIRES = "requires.json"
"""Among the checkpoints of a stage: digests of what its parts are trained with."""
SECONDS = "seconds.json"
"""In a checkpoint: seconds of training up to it, in all sittings."""


def commit_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Create ``folder`` so that it is whole or absent, whatever happens meanwhile.

    Args:
        write: fills the temporary folder that it is given.
    Raises:
        ResourceError: the disk is full, or memory; nothing of the new folder is left.
        ConfigError: there can be no such folder, or nothing may be written there.
    """
    temporary = aside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with as_refusals(folder):
            temporary.mkdir(parents=True)
            write(temporary)
            files = sorted(p for p in temporary.rglob("*") if p.is_file())
            text = manifest_of(temporary, files)
            readable = temporary.stat().st_mode & 0o666  # as the umask has it; safetensors writes 0600
            for path in files:
                path.chmod(readable)
                sync(path)
            (temporary / MANIFEST).write_text(text, encoding="utf-8")
            sync(temporary / MANIFEST)
            sync(temporary)
            _replace(temporary, folder)
            sync(folder.parent)
    except BaseException:  # a stop and a lack of memory leave nothing half-written either
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` passes :func:`verify_folder`; what cannot be read need not be damaged."""
    try:
        verify_folder(folder)
    except CheckpointError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Put a whole UTF-8 text file at ``path``, in place of what stands there, at once.

    A symbolic link at ``path`` is replaced, never written through; half a character is spelt out.

    Raises:
        ResourceError: the disk is full.
        ConfigError: nothing may be written there.
    """
    temporary = aside(path)
    try:
        with as_refusals(path):
            temporary.unlink(missing_ok=True)  # left by a kill, or a link that somebody laid
            with temporary.open("x", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as UTF-8 JSON that a person can read; NaN is refused, None is null."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, **needed: type | tuple[type, ...]) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        needed: keys that it must have, each with the type of its value.

    Raises:
        CheckpointError: it is missing, not JSON, not an object, or lacks a key of that type.
    """
    again = "restore the file from a copy, or give the command that wrote it again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", again) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not keys and values", again)
    for key, kind in needed.items():
        if not isinstance(values.get(key), kind):
            got = f"a {type(values[key]).__name__}" if key in values else "missing"
            raise CheckpointError(f"{path}: {key} is {got}", again)
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


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
        write_json(temporary / PART, {"config": dict(config), "requires": dict(requires)})

    commit_folder(folder, write)


def is_part(folder: Path) -> bool:
    """Whether ``folder`` is one that :func:`save_part` wrote."""
    return (folder / PART).is_file()


def load_part(folder: Path, requires: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and config of a part, after checking that it is whole and belongs here.

    Raises:
        CheckpointError: damaged, or trained with another catalogue or language model.
    """
    verify_folder(folder)
    about = refuse_other(folder, requires)
    tensors = _load_tensors(folder / "weights.safetensors")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{folder}: {name} holds numbers that are not finite",
                "use a part that was trained to its end, or train this part again",
            )
    return tensors, about["config"]


def refuse_other(folder: Path, requires: Mapping[str, str]) -> dict[str, Any]:
    """What a part says of itself, where it was trained with what this run has.

    Raises:
        CheckpointError: damaged, or trained with another catalogue or language model.
    """
    about = read_json(folder / PART, config=dict, requires=dict)
    for key, wanted in requires.items():
        got = about["requires"].get(key)
        if got is not None and got != wanted:
            raise CheckpointError(
                f"{folder} was trained with another {key} ({str(got)[:12]}; this run has"
                f" {wanted[:12]})",
                f"use a part trained with the same {key}, or train this part here",
            )
    return about


def seconds_in(folder: Path) -> float:
    """Seconds of training, in all sittings, up to the newest checkpoint of ``folder``; 0 without one.

    A damaged one is passed over, as it is where training goes on.
    """
    for path in sorted(folder.glob(f"step-*/{SECONDS}"), reverse=True):
        with contextlib.suppress(CheckpointError):
            return float(read_json(path, seconds=(int, float))["seconds"])
    return 0.0


class CheckpointFolder:
    """The training loop's store: ``step-00000100/`` folders, the last ``keep`` of them, and metrics.

    The best state so far lies inside each checkpoint, so a checkpoint is all that a resume needs.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self.metrics = folder.parent / METRICS
        folder.mkdir(parents=True, exist_ok=True)
        self._before, self._since = seconds_in(folder), time.monotonic()

    def begin(self, requires: Mapping[str, str], *, writes: bool = True) -> None:
        """Refuse to go on with what was begun with something else, another language model say.

        Args:
            requires: digests of what the parts are trained with (:attr:`sasrecllm.runs.parts.Part`).
            writes: whether this process notes them for the next start; one of several does.

        Raises:
            CheckpointError: with what differs; the checkpoints stay.
        """
        path = self.folder / REQUIRES
        if self._steps() and path.is_file():  # a run of an older version has checkpoints alone
            before = read_json(path)
            for key, now in requires.items():
                if (was := before.get(key, now)) != now:
                    raise CheckpointError(
                        f"{self.folder.parent}: this stage was begun with another {key}"
                        f" ({str(was)[:12]}; this start has {now[:12]}), and its checkpoints go with"
                        " that one",
                        f"put the {key} back that it was begun with and give the same command again,"
                        " or --force to train the run anew",
                    )
        if writes:
            write_json(path, dict(requires))

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Commit the state of ``step``; older checkpoints go only afterwards."""

        def write(temporary: Path) -> None:
            _save_tensors(temporary / "state.safetensors", tensors)
            write_json(temporary / "state.json", state)
            spent = self._before + time.monotonic() - self._since
            write_json(temporary / SECONDS, {"seconds": spent})

        target = self.folder / f"step-{step:08d}"
        if target.exists() and is_whole(target):
            return  # the same step gives the same bits
        shutil.rmtree(target, ignore_errors=True)
        commit_folder(target, write)
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(old)

    def latest(self, *, logs: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest whole checkpoint, or None; damaged ones are passed over, never deleted here.

        Args:
            logs: whether this process goes on to write the metrics: they are cut back to that state, so
                that a resumed run writes no record twice.
        """
        for folder in reversed(self._steps()):
            if is_whole(folder):
                state = read_json(folder / "state.json", step=int)
                if logs:
                    self._cut_metrics(state["step"], len(state.get("curve", ())) or None)
                return _load_tensors(folder / "state.safetensors"), state
        if logs:
            self._cut_metrics(0)
        return None

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON record to the metrics."""
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, allow_nan=False) + "\n")

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


def sync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, folder: Path) -> None:
    """Put the finished folder in its place; the one that stands there goes when nothing needs it."""
    old = aside(folder, "old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)
