"""The machine and the process: plug-in names, threads, device, progress, versions.

Imports neither torch nor transformers at the top, so that ``sasrecllm --help`` answers at once.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sasrecllm import stops, streams
from sasrecllm.errors import ConfigError, EnvironmentRefusal, did_you_mean

T = TypeVar("T")

PACKAGES = [
    "sasrecllm",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "tokenizers",
    "numpy",
    "polars",
    "pydantic",
    "bitsandbytes",
]


def resolve(name: str, table: Mapping[str, T], what: str = "name") -> T:
    """Row ``name`` of ``table``, or the object behind ``package.module:Name``.

    Raises:
        ConfigError: the name is in neither; the message lists what is allowed.

    >>> resolve("one", {"one": 1})
    1
    >>> resolve("math:pi", {})
    3.141592653589793
    """
    if name in table:
        return table[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"{what} is {name!r}; allowed: {', '.join(table)}, or package.module:Name"
            + did_you_mean(name, table),
            "use one of these names",
        )
    try:
        found: T = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{what} is {name!r}, which cannot be imported: {error}",
            "check the spelling, and that the package is installed in this environment or its folder"
            " stands in PYTHONPATH (the current folder does not)",
        ) from error
    return found


def has_nvidia_device() -> bool:
    """Whether this machine shows an NVIDIA device (driver files or a working nvidia-smi)."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def check_cuda_packages(installed: Iterable[str] | None = None, gpu: bool | None = None) -> None:
    """Refuse gigabytes of CUDA packages on a machine that has no GPU.

    Raises:
        EnvironmentRefusal: with the command that mends it.
    """
    names = (
        [d.metadata["Name"] or "" for d in importlib.metadata.distributions()]
        if installed is None
        else list(installed)
    )
    cuda = sorted({n for n in names if n.lower().startswith(("nvidia-", "triton"))})
    if cuda and not (has_nvidia_device() if gpu is None else gpu):
        raise EnvironmentRefusal(
            f"CUDA packages are installed on a machine without an NVIDIA GPU: {', '.join(cuda)}",
            "remove the environment (rm -rf .venv), set PIP_CONSTRAINT=constraints.txt, install again"
            " with a CPU build of torch (pip's --index-url for PyTorch CPU wheels, or"
            " uv pip install --torch-backend=cpu)",
        )


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MB, instead of handing it back at once.

    A training step on a CPU asks for the same megabytes again and again; given back and fetched again
    they cost a sixth of the time in page faults.  Where the C library is another, nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    library = ctypes.CDLL(None)
    largest_block, trimmed_from = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
    library.mallopt(largest_block, 32 * 2**20)
    library.mallopt(trimmed_from, 256 * 2**20)


@contextmanager
def lasting() -> Iterator[None]:
    """A block whose objects stay as long as the process: imports, a loaded run.

    The cyclic collector would look through the million objects of the libraries again and again while
    they are made, and once more at the end of the process: a third of the time to a first answer.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision(folder: Path | None = None) -> str | None:
    """The commit of the source tree this package runs from, or None outside a checkout."""
    where = folder or Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(where), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def pick_device(wanted: str = "auto") -> str:
    """``cuda`` where torch sees one, else ``cpu``; a named device that is absent is refused.

    Raises:
        ConfigError: it is none of auto, cpu, cuda and cuda:N.
        EnvironmentRefusal: there is no such device here.
    """
    import torch

    name = str(wanted)  # torch has devices as objects too
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise ConfigError(
            f"device is {name[:60]!r}; allowed: auto, cpu, cuda, cuda:N", "set device: auto"
        )
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise EnvironmentRefusal(
            f"device is {name!r}, but torch {torch.__version__} sees no CUDA device",
            "set device: cpu, or install a CUDA build of torch and its driver",
        )
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise EnvironmentRefusal(
            f"device is {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices",
            f"set device: cuda:{torch.cuda.device_count() - 1}, or cuda",
        )
    return name


def process_count() -> int:
    """How many processes train together; more than one under torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """True for rank 0 of a torchrun job and for every ordinary process."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Let the processes of a torchrun job meet; nothing in an ordinary process."""
    if process_count() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()


def diagnosis() -> dict[str, str]:
    """What ``sasrecllm doctor`` shows: versions, device, threads, hub and disk."""
    import torch

    free = shutil.disk_usage(Path.cwd()).free / 1e9
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    return {
        **versions(),
        "device": pick_device(),
        "threads": str(torch.get_num_threads()),
        "hub": "offline (HF_HUB_OFFLINE=1)" if offline else "online",
        "HF_HOME": os.environ.get("HF_HOME", "~/.cache/huggingface"),
        "free disk": f"{free:.1f} GB",
    }


def readable_seconds(seconds: float) -> str:
    """A duration for people.

    >>> readable_seconds(75), readable_seconds(3.21)
    ('1:15', '3.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """One line of progress with an ETA: redrawn on a terminal, a line every 15 s elsewhere.

    Args:
        write: where finished lines go (the run's log); None for stderr only.
        quiet: print nothing to the terminal.
    """

    def __init__(self, write: Callable[[str], None] | None = None, quiet: bool = False) -> None:
        self._write = write
        self._quiet = quiet or not is_main_process()
        self._tty = sys.stderr is not None and sys.stderr.isatty()
        self._last = self._started = 0.0
        self._first = 0

    def line(self, text: str, *, keep: bool = True) -> None:
        """One finished line, to the terminal and, to ``keep`` it, to the log."""
        stops.check()
        if keep and self._write is not None and is_main_process():
            self._write(text)
        if not self._quiet:
            clear = "\r\x1b[K" if self._tty else ""
            streams.say(clear + text, error=True)

    def warning(self, text: str) -> None:
        """A finished line that is shown on a quiet terminal too."""
        quiet, self._quiet = self._quiet, not is_main_process()
        self.line(f"warning: {text}")
        self._quiet = quiet

    def start(self, done: int = 0) -> None:
        """Begin a new bar; ``done`` units stand already (a resumed stage)."""
        self._started = self._last = time.monotonic()
        self._first = done

    def step(self, what: str, done: int, total: int, extra: Mapping[str, Any] | None = None) -> None:
        """Say that ``done`` of ``total`` units are finished; a stop that got lost is heard here."""
        stops.check()
        now = time.monotonic()
        if self._quiet or now - self._last < (0.2 if self._tty else 15.0):
            return
        self._last = now
        rate = (now - self._started) / max(1, done - self._first)
        values = "".join(f"  {k} {v:.4f}" for k, v in (extra or {}).items())
        text = f"{what} {done}/{total}{values}  ETA {readable_seconds(rate * (total - done))}"
        line, end = (f"\r\x1b[K{text}", "") if self._tty else (text, "\n")
        streams.say(line, error=True, end=end)
