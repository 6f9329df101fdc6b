"""The guard against CUDA packages, plug-in names, and what progress prints."""

import gc
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sasrecllm.errors import ConfigError, EnvironmentRefusal
from sasrecllm.machine.device import check_cuda_packages, pick_device
from sasrecllm.machine.environment import versions
from sasrecllm.machine.memory import keep_freed_memory, lasting
from sasrecllm.machine.progress import Progress
from sasrecllm.plugins import resolve


def test_cuda_packages_without_a_gpu_are_refused_with_a_remedy():
    with pytest.raises(EnvironmentRefusal, match="nvidia-cublas-cu12") as refused:
        check_cuda_packages(["torch", "nvidia-cublas-cu12", "triton"], gpu=False)
    assert refused.value.exit_code == 3 and "PIP_CONSTRAINT" in refused.value.remedy
    check_cuda_packages(["torch", "nvidia-cublas-cu12"], gpu=True)
    check_cuda_packages(["torch"], gpu=False)


def test_a_name_is_a_row_or_a_path_to_an_object():
    assert resolve("a", {"a": 1}) == 1
    assert resolve("math:floor", {})(2.5) == 2
    for name, says in (
        ("b", "allowed: alpha"),
        ("alhpa", "did you mean 'alpha'"),
        ("no.such:x", "imported"),
    ):
        with pytest.raises(ConfigError, match=says):
            resolve(name, {"alpha": 1}, "encoder.kind")


def test_a_named_device_that_is_absent_is_refused():
    import torch

    if not torch.cuda.is_available():
        assert pick_device() == "cpu"
        with pytest.raises(EnvironmentRefusal, match="no CUDA device"):
            pick_device("cuda")


def test_progress_lines_go_to_the_log_even_when_quiet(capsys):
    lines = []
    progress = Progress(lines.append, quiet=True)
    progress.line("a stage ended")
    assert lines == ["a stage ended"] and capsys.readouterr().err == ""
    loud = Progress(lines.append)
    loud.line("again")
    assert "again" in capsys.readouterr().err


def test_versions_name_what_changes_results():
    assert {"python", "torch", "transformers", "peft", "numpy"} <= set(versions())


FAULTS = """
import resource, sys
import numpy as np
from sasrecllm.machine.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    blocks = [np.ones(10 * 2**17) for _ in range(6)]  # 10 MB each, and all are given back
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc's options are glibc's")
def test_the_allocator_is_told_to_keep_what_is_freed(monkeypatch):
    told = {}
    library = SimpleNamespace(mallopt=told.__setitem__)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    keep_freed_memory()
    assert told == {-3: 32 * 2**20, -1: 256 * 2**20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


@pytest.mark.soak
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc's options are glibc's")
def test_memory_that_is_kept_is_not_fetched_again():
    fetched = {}
    for way in ("keep", "hand back"):
        done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True)
        fetched[way] = int(done.stdout)
    assert fetched["keep"] * 10 < fetched["hand back"]


def test_what_lasts_is_not_looked_through_by_the_collector():
    before = gc.get_freeze_count()
    with lasting():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() - before >= len(kept)
    with pytest.raises(RuntimeError), lasting():
        raise RuntimeError
    assert gc.isenabled()
    gc.unfreeze()
