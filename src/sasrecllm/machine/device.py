"""Which device computes, and the refusal of CUDA packages where there is none."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from sasrecllm.errors import ConfigError, EnvironmentRefusal

NAMES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
NAMED = "allowed: auto, cpu, cuda, cuda:N"


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


def pick_device(wanted: str = "auto") -> str:
    """``cuda`` where torch sees one, else ``cpu``; a named device that is absent is refused.

    Raises:
        ConfigError: it is none of auto, cpu, cuda and cuda:N.
        EnvironmentRefusal: there is no such device here.
    """
    import torch

    name = str(wanted)  # torch has devices as objects too
    if not NAMES.fullmatch(name):
        raise ConfigError(f"device is {name[:60]!r}; {NAMED}", "set device: auto")
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


def wait_for_device(kind: str) -> None:
    """Return once everything that was queued there is done; a CPU queues nothing."""
    if kind == "cuda":
        import torch

        torch.cuda.synchronize()


def use_threads(count: int) -> None:
    """Compute on so many CPU threads from now on; 0 leaves torch its own choice."""
    import torch

    if count:
        torch.set_num_threads(count)
