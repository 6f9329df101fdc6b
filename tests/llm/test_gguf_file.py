"""Whatever a file holds, its reader gives a description that fits the file, or a refusal."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sasrecllm.errors import CheckpointError, ModelNotFoundError, SasrecllmError
from sasrecllm.llm.gguf_file import read_gguf, refuse_cut

BLOCKS = {0: (1, 4), 8: (32, 34)}


def text(value):
    return struct.pack("<Q", len(value)) + value


def whole(dimensions=(4, 3), kind=0):
    """A file with one key and one tensor."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    head += text(b"table") + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    head += struct.pack("<IQ", kind, 0)
    count = 1
    for n in dimensions:
        count *= n
    values, size = BLOCKS.get(kind, (1, 4))
    return head + b"\0" * (-len(head) % 32) + b"\1" * (count // values * size)


def read(folder, data):
    path = folder / "m.gguf"
    path.write_bytes(data)
    file = read_gguf(path)
    refuse_cut(file, BLOCKS)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def test_a_whole_file_is_read(folder):
    file = read(folder, whole())
    assert file.architecture == "llama"
    assert [(t.name, t.dimensions) for t in file.tensors] == [("table", (4, 3))]
    assert file.data_start % 32 == 0 and file.data_start + 48 == file.size


@given(st.binary(max_size=400))
@example(b"")
@example(b"GGUF")
@example(b"GGUF" + b"\xff" * 100)
@example(b"GGUF\x03\0\0\0" + b"\xff" * 100)
@example(b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0))
@example(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 1))
@example(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"a") + struct.pack("<IIQ", 9, 8, 2**60))
@example(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"a") + struct.pack("<IIQ", 9, 0, 2**60))
@example(
    b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"a") + struct.pack("<IIQ", 9, 9, 1) + b"\0" * 99
)
@example(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"\xff\xfe") + struct.pack("<II", 4, 1))
def test_arbitrary_bytes_are_refused(folder, data):
    with pytest.raises(SasrecllmError) as caught:
        read(folder, data)
    assert caught.value.exit_code in (4, 5) and caught.value.remedy


@given(st.binary(max_size=300))
def test_arbitrary_bytes_after_a_good_start_are_refused_or_fit_the_file(folder, data):
    try:
        file = read(folder, b"GGUF" + struct.pack("<I", 3) + data)
    except SasrecllmError as error:
        assert error.exit_code in (4, 5) and error.remedy
    else:
        assert file.data_start <= file.size or not file.tensors


@given(st.integers(0, len(whole()) - 1))
def test_a_file_that_was_cut_short_is_refused(folder, length):
    with pytest.raises(SasrecllmError) as caught:
        read(folder, whole()[:length])
    wanted = CheckpointError if length >= 4 else ModelNotFoundError
    assert isinstance(caught.value, wanted)


@given(st.integers(0, len(whole()) - 1), st.integers(1, 255))
def test_a_changed_byte_never_ends_in_anything_but_a_refusal(folder, place, change):
    data = bytearray(whole())
    data[place] ^= change
    try:
        read(folder, bytes(data))
    except SasrecllmError as error:
        assert error.exit_code in (4, 5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04" + b"\0" * 50, "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'\x10\x00\x00\x00\x00\x00\x00\x00{"a":{}}       ', "safetensors"),
        (b"GGML" + b"\0" * 50, "older format"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "version 4"),
    ],
)
def test_what_is_something_else_is_named(folder, data, said):
    with pytest.raises(ModelNotFoundError, match=said) as caught:
        read(folder, data)
    assert caught.value.exit_code == 4 and caught.value.remedy


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (whole((4, 3))[:-1], "would end at byte"),
        (whole((40, 3), kind=8)[:-1] + b"\0" * 99, "no blocks of 32"),
    ],
)
def test_tensors_that_the_file_does_not_have_are_refused(folder, data, said):
    with pytest.raises(CheckpointError, match=said):
        read(folder, data)


def test_a_type_that_nobody_knows_is_refused_with_the_next_step(folder):
    path = folder / "n.gguf"
    path.write_bytes(whole(kind=77))
    with pytest.raises(ModelNotFoundError, match="type 77") as caught:
        refuse_cut(read_gguf(path), BLOCKS)
    assert "upgrade gguf" in caught.value.remedy


def test_a_path_that_is_no_file_is_refused(folder):
    (folder / "model-q4.gguf").write_bytes(whole())
    with pytest.raises(ModelNotFoundError, match=r"did you mean 'model-q4\.gguf'"):
        read_gguf(folder / "model-q5.gguf")
    with pytest.raises(ModelNotFoundError, match="is a folder"):
        read_gguf(folder)
