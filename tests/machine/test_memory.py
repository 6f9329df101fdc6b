"""Freed memory that is kept, and objects that the collector leaves alone."""

import gc
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sasrecllm.machine.memory import (
    CAPACITIES,
    KERNELS,
    hand_back_freed_memory,
    keep_few_kernels,
    keep_freed_memory,
    lasting,
)

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


def test_onednn_keeps_few_compiled_products_unless_the_user_says_how_many(monkeypatch):
    kept, other = CAPACITIES
    monkeypatch.setenv(kept, "7")
    monkeypatch.delenv(other, raising=False)
    keep_few_kernels()
    assert (os.environ[kept], os.environ[other]) == ("7", str(KERNELS))


@pytest.mark.parametrize(
    "first",
    [
        "from sasrecllm.machine.arithmetic import bf16_is_faster; bf16_is_faster(11)",
        "from sasrecllm.errors import ModelNotFoundError\n"
        "from sasrecllm.llm.loading import load_backbone\ntry: load_backbone('no/such/folder')\n"
        "except ModelNotFoundError: pass",
        "import torch\nfrom sasrecllm.training import loop\n"
        "try: loop.fit(None, None)\nexcept AttributeError: pass",
    ],
)  # fmt: skip
def test_whatever_multiplies_in_half_precision_first_has_said_how_many(first, monkeypatch):
    for name in CAPACITIES:
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    exec(first, {})
    assert {os.environ.get(name) for name in CAPACITIES} == {str(KERNELS)}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
@pytest.mark.parametrize("parts", [False, True])
def test_what_is_free_is_handed_back(monkeypatch, parts):
    told, looked = [], []
    library = SimpleNamespace(malloc_trim=told.append)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    monkeypatch.setattr(gc, "collect", lambda: looked.append(1))
    hand_back_freed_memory(parts)
    assert told == [0] and len(looked) == parts


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
