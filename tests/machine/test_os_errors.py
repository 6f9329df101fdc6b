"""What the machine refuses, however it is said, is one of two refusals with a next step."""

from __future__ import annotations

import errno
import os
import sqlite3

import polars as pl
import pytest

from sasrecllm.errors import ConfigError, DataError, ResourceError
from sasrecllm.machine.os_errors import as_refusals, refusal
from sasrecllm.names import aside

RUST = "{} (os error {})"


def os_error(number, *path):
    return OSError(number, os.strerror(number), *path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_is_called_full_only_where_it_is(number, tmp_path):
    found = refusal(os_error(number, str(tmp_path / "x" / "weights")))
    assert isinstance(found, ResourceError) and "free some space" in found.remedy
    assert str(tmp_path / "x" / "weights") in found.what
    assert ("MB free" in found.what) == (number != errno.EFBIG)


def test_what_people_named_is_told_and_not_where_it_is_made_meanwhile(tmp_path):
    found = refusal(os_error(errno.ENOSPC, str(aside(tmp_path / "mine") / "model.safetensors")))
    assert f"{tmp_path / 'mine' / 'model.safetensors'} cannot be written" in found.what
    assert "MB free" in found.what


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT,
     errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL],
)  # fmt: skip
def test_a_path_that_cannot_be_is_a_wrong_setting(number):
    found = refusal(os_error(number, "/some/run"))
    assert isinstance(found, ConfigError) and found.exit_code == 2
    assert "/some/run" in found.what and os.strerror(number) in found.what
    assert "free" not in str(found) and "--out" in found.remedy


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MemoryError(), ResourceError, "memory ran out"),
        (os_error(errno.ENOMEM), ResourceError, "memory ran out"),
        (RuntimeError("CUDA error: out of memory"), ResourceError, "memory ran out"),
        (RuntimeError("can't start new thread"), ResourceError, "memory ran out"),
        (pl.exceptions.ComputeError(RUST.format("No space left", 28)), ResourceError, "MB free"),
        (pl.exceptions.ComputeError(RUST.format("denied", 13)), ConfigError, "Permission denied"),
        (os_error(errno.EMFILE, "x"), ResourceError, "ulimit"),
        (os_error(errno.EIO, "x"), ResourceError, "Input/output error"),
        (sqlite3.OperationalError("database or disk is full"), ResourceError, "MB free"),
        (sqlite3.OperationalError("attempt to write a readonly database"), ConfigError, "Read-only"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), ResourceError, "network"),
        (OSError("something"), ResourceError, "something"),
    ],
)
def test_libraries_say_the_same_thing_in_their_own_ways(error, kind, said, tmp_path):
    found = refusal(error, tmp_path)
    assert isinstance(found, kind) and said in str(found)


def test_a_bug_of_ours_stays_one():
    for error in (KeyError("x"), RuntimeError("shape [2] is not [3]"), ValueError("no"), TypeError()):
        assert refusal(error) is None
        with pytest.raises(type(error)), as_refusals("place"):
            raise error


def test_a_file_that_cannot_be_read_for_want_of_memory_is_no_bad_file():
    """Readers turn whatever their library raises into a refusal about the file."""
    for fault, kind in (
        (MemoryError(), ResourceError),
        (os_error(errno.EMFILE, "log.csv"), ResourceError),
        (os_error(errno.ENOENT, "log.csv"), DataError),
        (ValueError("row 3"), DataError),
    ):
        try:
            try:
                raise fault
            except Exception:
                raise DataError("log.csv cannot be read", "write it again") from None
        except DataError as error:
            assert type(refusal(error)) is kind


def test_what_a_block_cannot_write_names_its_place(tmp_path):
    with pytest.raises(ResourceError, match="run9 cannot be written"), as_refusals(tmp_path / "run9"):
        raise os_error(errno.ENOSPC)  # as write() and fsync() raise it, without a name


def test_a_full_disk_that_was_refused_with_its_place_keeps_it(tmp_path):
    place = tmp_path / "run/data"
    with pytest.raises(ResourceError) as raised, as_refusals(place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a write names no file
    assert refusal(raised.value) is raised.value
    assert str(place) in raised.value.what


def test_a_process_that_lost_another_of_its_job_says_how_the_job_goes_on(monkeypatch):
    gloo = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    assert refusal(gloo) is None, "alone it would be a bug"
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = refusal(gloo)
    assert isinstance(found, ResourceError) and "same torchrun command goes on" in found.remedy
    assert refusal(RuntimeError("a bug of ours")) is None
