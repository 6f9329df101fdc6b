"""Where language models come from: one row for each kind of thing that ``llm.backbone`` may name.

Every row ends in the same place: an ordinary Hugging Face folder, or a hub id, which
``loading.load_backbone`` reads.  One's own is ``package.module:function``, a function without
arguments that returns such a folder.

The converter is imported inside the functions: it needs torch, and most names need no conversion.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath

from sasrecllm.checkpoint import commit_folder, is_whole
from sasrecllm.errors import ConfigError, ModelNotFoundError, did_you_mean
from sasrecllm.llm.gguf_file import ABOUT, FORMAT, SUFFIX, Report, is_gguf
from sasrecllm.llm.naming import backbone_path, folder_of, refuse_unreachable
from sasrecllm.machine.cache import cache_folder
from sasrecllm.machine.lock import in_use
from sasrecllm.manifest import file_digest
from sasrecllm.plugins import called, resolve

OFFLINE = "offline"
_IN_PACKAGE = re.compile(r"([A-Za-z_][\w-]+):(?![/\\])([^:]+\.gguf)", re.IGNORECASE)
_PLUGIN = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of source.

    Attributes:
        name: for people.
        takes: whether a value of ``llm.backbone`` is one of its kind.
        refuse: raises what is wrong with such a value, in no more than seconds.
        locate: the folder or hub id to load, made where it has to be; None where a run builds the
            model itself, from its own data, into its own folder.
        runs_code: whether locating it imports a module that the value names.
    """

    name: str
    takes: Callable[[str], bool]
    refuse: Callable[[str], None]
    locate: Callable[[str, Report | None], str] | None
    runs_code: bool = False

    @property
    def in_run(self) -> bool:
        """Whether a run builds the model itself."""
        return self.locate is None


def source_of(name: str) -> Source:
    """The first row of :data:`SOURCES` that takes ``name``; the last takes every name."""
    return next(source for source in SOURCES if source.takes(name))


def located(name: str, report: Report | None = None) -> str:
    """The folder or hub id behind a value of ``llm.backbone``, checked; a GGUF file is converted once.

    Args:
        report: is told how a conversion goes: what, how much is done, of how much.

    Raises:
        ConfigError: a run builds this model itself, or a plug-in cannot be used.
        ModelNotFoundError: there is nothing to load.
        CheckpointError: a damaged file.
        MissingExtraError: a package is missing.
    """
    source = source_of(name)
    if source.locate is None:
        raise ConfigError(
            f"llm.backbone {name!r} is built by each run from its own data",
            "give a folder, a hub id or a .gguf file",
        )
    source.refuse(name)
    return source.locate(name, report)


def convert(name: str, out: Path, *, force: bool = False, report: Report | None = None) -> None:
    """Turn a GGUF file into an ordinary folder at ``out``, which stands whole or not at all.

    Args:
        name: path of the file, or ``package:path`` of one inside an installed package.
        force: replace a converted model that stands at ``out``; nothing else is ever replaced.

    Raises:
        ConfigError: ``out`` is there already.
        InUseError: another process converts into it.
        ModelNotFoundError, CheckpointError, MissingExtraError: as :func:`sasrecllm.llm.gguf.convert`.
    """
    from sasrecllm.llm.gguf import refuse

    path, origin = _gguf_path(name)
    out = out.expanduser().absolute()
    _refuse_taken(out, force)
    refuse(path)
    with in_use(out.parent, f".{out.name}.lock", each=True):
        _refuse_taken(out, force)
        commit_folder(out, lambda folder: _write(path, folder, origin, report))


def _write(path: Path, folder: Path, origin: str, report: Report | None) -> None:
    from sasrecllm.llm.gguf import convert

    def named(what: str, done: int, total: int) -> None:
        if report is not None:
            report(f"converting {path.name}: {what}", done, total)

    convert(path, folder, origin=origin, report=named)
    for licence in _licences(origin):
        shutil.copyfile(licence, folder / licence.name)


def _refuse_taken(out: Path, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and not out.is_symlink() and not any(out.iterdir()):
        return
    if not force:
        raise ConfigError(f"{out} is there already", "give another folder, or --force to replace it")
    if out.is_symlink() or not ((out / ABOUT).is_file() and is_whole(out)):
        raise ConfigError(
            f"--force: {out} is no folder that `sasrecllm convert` wrote and nobody changed",
            "delete it by hand if you mean it, or give another folder",
        )


# ------------------------------------------------------------------------------------ GGUF files


def _names_gguf(name: str) -> bool:
    if folder_of(name) is not None:
        return False
    return name.lower().endswith(SUFFIX) or backbone_path(name) != name or is_gguf(Path(name))


def _refuse_gguf(name: str) -> None:
    from sasrecllm.llm.gguf import refuse

    refuse(_gguf_path(name)[0])


def _gguf_path(name: str) -> tuple[Path, str]:
    """The file behind ``name``, and the package and version that it is from; empty without one."""
    path = Path(backbone_path(name))
    inside = _IN_PACKAGE.fullmatch(name)
    if inside is None or path.is_file():
        return path, ""
    package, rest = inside[1].replace("-", "_"), PurePosixPath(inside[2])
    found = _find(package)
    places = [Path(p) for p in (found.submodule_search_locations or ())] if found else []
    if not places:
        raise ModelNotFoundError(
            f"{name!r}: the package {package!r} is not installed",
            f"pip install {inside[1]}, or give the path of a .gguf file",
        )
    if rest.is_absolute() or ".." in rest.parts:
        raise ModelNotFoundError(f"{name!r} leads out of the package", "give a path inside of it")
    near = [p.relative_to(place).as_posix() for place in places for p in place.rglob("*.gguf")]
    path = next((place / rest for place in places if (place / rest).is_file()), None) or Path()
    if not path.is_file():
        has = f"; it has {', '.join(near)}" if near else "; it has no .gguf file"
        raise ModelNotFoundError(
            f"{name!r}: the package {package!r} has no such file{has}{did_you_mean(str(rest), near)}",
            "give the path of the file inside the package",
        )
    return path, _distribution(package)


def _distribution(package: str) -> str:
    names = importlib.metadata.packages_distributions().get(package, ())
    return next((f"{n} {importlib.metadata.version(n)}" for n in names), package)


def _licences(origin: str) -> list[Path]:
    """Files with a licence of the package that a model is from; none without a package.

    What lies beside a file by itself may be about anything: a folder of downloads holds licences of
    other things.  The model card says what the file itself says of its licence.
    """
    try:
        files = (importlib.metadata.files(origin.split()[0]) or ()) if origin else ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    word = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)\b", re.IGNORECASE)
    return [p for p in (Path(str(f.locate())) for f in files) if word.match(p.name) and p.is_file()]


def _converted(name: str, report: Report | None) -> str:
    """The folder in the cache that the file behind ``name`` was converted into, now or before."""
    path, origin = _gguf_path(name)
    stat = path.stat()
    digest = _digest(path, stat.st_size, stat.st_mtime_ns)
    place = cache_folder() / "gguf"
    folder = place / f"{digest}-{FORMAT}"
    if not is_whole(folder):  # else the cache may be one that nobody may write to
        with in_use(place, f".{digest}.lock", wait=True, each=True):
            if not is_whole(folder):
                commit_folder(folder, lambda made: _write(path, made, origin, report))
    return str(folder)


@lru_cache(maxsize=16)
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, computed once for each state that it is in."""
    return file_digest(path)


# -------------------------------------------------------------------------------------- plug-ins


def _names_plugin(name: str) -> bool:
    """``package.module:function``; else it is another program's name, as of a model with its tag."""
    found = _PLUGIN.fullmatch(name)
    if found is None or folder_of(name) is not None:
        return False
    if not all(part.isidentifier() for part in found[1].split(".")):  # llama3.2:latest
        return False
    return "." in found[1] or _find(found[1]) is not None


def _find(package: str) -> ModuleSpec | None:
    """Where an installed package lies; nothing is imported, for its name has no dot."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None


def _of_plugin(name: str, report: Report | None) -> str:
    function: object = resolve(name, {}, "llm.backbone")
    if not callable(function):
        raise ConfigError(
            f"llm.backbone is {name!r}, which is no function",
            "name a function without arguments that returns a folder with a language model",
        )
    with called(name):
        given = function()
    folder = backbone_path(str(given))
    refuse_unreachable(folder)
    return folder


def _nothing(name: str) -> None:
    """Nothing to refuse before it is located."""


SOURCES: tuple[Source, ...] = (
    Source("offline", lambda name: name == OFFLINE, _nothing, None),
    Source("GGUF file", _names_gguf, _refuse_gguf, _converted),
    Source("plug-in", _names_plugin, _nothing, _of_plugin, runs_code=True),
    Source(
        "folder or hub id", lambda name: True, refuse_unreachable, lambda name, _: backbone_path(name)
    ),
)
"""The sources, the first that takes a name first."""
