"""What can change a result from outside: versions, commit, device, disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from sasrecllm.machine.device import pick_device

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


def diagnosis() -> dict[str, str]:
    """What ``sasrecllm doctor`` shows: versions, device, threads, hub and disk."""
    import torch
    from huggingface_hub.constants import HF_HUB_OFFLINE

    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return {
        **versions(),
        "device": pick_device(),
        "threads": str(torch.get_num_threads()),
        "hub": "offline (HF_HUB_OFFLINE)" if HF_HUB_OFFLINE else "online",
        "HF_HOME": os.environ.get("HF_HOME", "~/.cache/huggingface"),
        "free disk": f"{free:.1f} GB",
    }
