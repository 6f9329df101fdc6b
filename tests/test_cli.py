"""Every verb: how it ends when it is stopped, when the disk refuses, and when nobody can read it."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from sasrecllm.config import NOT_SETTINGS, load_config
from sasrecllm.errors import ConfigError
from sasrecllm.machine.progress import Progress
from sasrecllm.manifest import file_digest
from sasrecllm.names import ENV_PREFIX
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import Run
from sasrecllm.settings import Config

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).parent / "tiny.yaml"
ALONE = ("strategy=encoder-only", "fusion.enabled=false", "evaluation.ablations=false")
FAST = (*ALONE, "encoder.folds=0", "encoder.loop.epochs=1")
VERBS = ("run", "prepare", "train", "evaluate", "report", "recommend", "tune", "study")


class Shim:
    """Acts at the n-th file operation that would change something below a folder.

    It hears of what Python itself opens, makes and renames; not of what is written by Rust.  The
    functions are replaced only while it waits: an audit hook would stay for good, and one in Python
    lets CPython 3.11 refuse coverage's trace function to threads that start at the same time.
    """

    PLACES = (
        (builtins, "open"),
        (io, "open"),
        *((os, n) for n in ("open", "mkdir", "rename", "replace")),
    )

    def __init__(self, monkeypatch):
        self.monkeypatch, self.act = monkeypatch, None

    def _heard(self, function, name):
        def call(*arguments, **named):
            if self.act is not None and self._changes(name, arguments, named):
                paths = [
                    os.fsdecode(p) for p in arguments[:2] if isinstance(p, (str, bytes, os.PathLike))
                ]
                if any(path.startswith(self.under) for path in paths):
                    self.left -= 1
                    if self.left == 0:
                        act, self.act = self.act, None
                        act(paths[0])
            return function(*arguments, **named)

        return call

    @staticmethod
    def _changes(name, arguments, named):
        if name == "mkdir":
            return not os.path.isdir(arguments[0])  # else it was mkdir(exist_ok=True)
        if name != "open":
            return True
        how = named.get("mode", named.get("flags", arguments[1] if len(arguments) > 1 else "r"))
        return (
            any(c in how for c in "wax+")
            if isinstance(how, str)
            else bool(how & (os.O_WRONLY | os.O_RDWR))
        )

    def arm(self, act, under, nth):
        self.act, self.under, self.left = act, str(under), nth
        for room, name in self.PLACES:
            self.monkeypatch.setattr(room, name, self._heard(getattr(room, name), name))

    def has_struck(self):
        """Whether it has acted; it does not any more, in any case."""
        struck, self.act = self.act is None, None
        self.monkeypatch.undo()
        return struck


@pytest.fixture
def shim():
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Shim(monkeypatch)


@pytest.fixture(scope="session")
def alone(once, cli):
    """A finished run of an encoder alone.  Change a copy of it, not it."""
    return once("alone", lambda to: cli("run", "-q", "--config", TINY, "--out", to, *FAST))


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place" / "out"


@pytest.fixture
def words(alone, place, tmp_path):
    """Verb -> what is called; it writes below ``place``, and reads from elsewhere."""
    (tmp_path / "space.yaml").write_text("encoder.width: {choices: [8]}\n")
    pl.DataFrame({"user_id": [f"u{n:04d}" for n in range(9)]}).write_csv(tmp_path / "users.csv")
    plan = {"name": "p", "resamples": 100, "datasets": {"w": {"config": str(TINY)}}}
    plan["rows"] = {"r": {"set": dict(word.split("=") for word in FAST)}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    users = ("--users", tmp_path / "users.csv")
    search = ("--space", tmp_path / "space.yaml", "--trials", "1")
    return {
        "run": ("run", "-q", "-c", TINY, "-o", place, *FAST),
        "prepare": ("prepare", "-q", "-c", TINY, "-o", place),
        "train": ("train", "-q", "-c", TINY, "-o", place, *FAST),
        "evaluate": ("evaluate", "-q", place),
        "report": ("report", "-q", place),
        "recommend": ("recommend", alone, "-q", *users, "-o", f"{place}.csv"),
        "tune": ("tune", "-q", "-c", TINY, "-o", place, *search, *FAST),
        "study": ("study", tmp_path / "plan.yaml", "-q", "-o", place),
    }


def prepared(verb, alone, place):
    """What a verb needs to stand."""
    if verb in ("evaluate", "report"):
        shutil.copytree(alone, place)


def raising(number):
    def act(path):
        raise OSError(number, os.strerror(number), path)

    return act


def stopping(number):
    return lambda path: signal.raise_signal(number)


def leavings(folder):
    """Half-written files and held locks."""
    return [p for p in folder.rglob("*") if p.name.endswith((".tmp", ".lock")) or ".tmp" in p.suffix]


FAULTS = ((errno.ENOSPC, 6), (errno.EROFS, 2), (errno.EACCES, 2), (errno.EIO, 6), (errno.EDQUOT, 6))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8])
def test_a_disk_that_refuses_is_a_refusal_and_the_same_command_goes_on_afterwards(
    verb, nth, words, alone, place, shim, cli, tmp_path
):
    prepared(verb, alone, place)
    number, code = FAULTS[(VERBS.index(verb) + nth) % len(FAULTS)]
    shim.arm(raising(number), place.parent, nth)
    try:
        said = cli(*words[verb], expect=code)
    except AssertionError:
        if shim.has_struck():
            raise
        return  # fewer operations than that
    finally:
        shim.has_struck()
    assert os.strerror(number) in said and str(place.parent) in said and "\n  -> " in said
    assert "Traceback" not in said and ("MB free" in said) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert not leavings(tmp_path)
    if verb != "study":  # whose process of its own is slow
        cli(*words[verb])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_every_verb_with_its_code_and_the_command_that_goes_on(
    verb, number, code, words, alone, place, shim, cli, tmp_path
):
    prepared(verb, alone, place)
    shim.arm(stopping(number), place.parent, 3 if verb != "recommend" else 2)
    said = cli(*words[verb], expect=code)
    assert shim.has_struck(), "or this tests nothing"
    assert "Traceback" not in said and not leavings(tmp_path)
    kind = "interrupted" if code == 130 else "stopped by SIGTERM"
    again = verb in ("evaluate", "report")
    assert f"{kind}; the same command {'begins again' if again else 'goes on from the last'}" in said
    assert f"sasrecllm {verb} " in said and str(tmp_path) in said
    if verb != "study":
        cli(*words[verb])


LOOPS = (
    "scoring SASRec", "lists: channels", "lists: validation likes", "lists: weights of fold",
    "lists: new items", "lists: P(like) of SASRec", "lists: channels with validation",
    "scoring item mean", "intervals, row", "lists, popularity", "lists, list fusion",
    "1 + 88 items, SASRec", "ablation, history shuffled",
)  # fmt: skip
"""What a run says of every loop that may take long, but for training."""
ALL_LOOPS = (
    "strategy=encoder-only",
    "fusion.enabled=false",
    "encoder.folds=0",
    "encoder.loop.epochs=1",
)


def test_every_loop_that_may_take_long_says_how_far_it_is(place, cli, monkeypatch):
    heard = {}
    monkeypatch.setattr(
        Progress,
        "step",
        lambda self, what, done, total, extra=None: heard.update({what: (done, total)}),
    )
    cli("run", "-q", "-c", TINY, "-o", place, *ALL_LOOPS, "evaluation.ranking.when=always")
    for loop in LOOPS:
        done, total = heard.get(loop, (0, 0))
        assert done == total > 0, (loop, heard)


@pytest.mark.parametrize("loop", ["lists: channels", "lists: validation likes", "lists, list fusion"])
def test_a_stop_in_the_middle_of_a_loop_of_lists_is_obeyed_and_the_command_goes_on(
    loop, place, cli, monkeypatch
):
    step, struck = Progress.step, []

    def strikes(self, what, done, total, extra=None):
        if what == loop and not struck:
            struck.append(done)
            signal.raise_signal(signal.SIGTERM)
        step(self, what, done, total, extra)

    monkeypatch.setattr(Progress, "step", strikes)
    said = cli("run", "-q", "-c", TINY, "-o", place, *FAST, expect=143)
    assert struck and "stopped by SIGTERM; the same command goes on" in said
    assert not leavings(place) and not (place / "results.json").exists()
    encoder = (place / "stages/1-encoder/stage.json").stat().st_mtime_ns
    assert "list fusion" in cli("run", "-q", "-c", TINY, "-o", place, *FAST)
    assert (place / "stages/1-encoder/stage.json").stat().st_mtime_ns == encoder


def test_the_data_card_is_shown_before_anything_is_trained(place, cli):
    for words in (("prepare",), ("run", "--dry-run"), ("run", "--dry-run")):
        said = cli(*words, "-c", TINY, "-o", place, *FAST)
        for label in ("rows ", "users ", "likes ", "dates ", "median history", "ties ", "new users "):
            assert f"  {label}" in said, said
        assert "split: given" in said and "budget: " in said
    assert "median history" not in cli("prepare", "-q", "-c", TINY, "-o", place, *FAST)


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_cannot_be_is_named(verb, words, place, cli, tmp_path):
    place.parent.write_text("a file where a folder should be")
    if verb in ("evaluate", "report"):  # which read a run: there is none below a file
        assert str(place) in cli(*words[verb], expect=5)
        return
    said = cli(*words[verb], expect=2)
    assert "Not a directory" in said and str(place.parent) in said and "--out" in said


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "y" * 5000])
def test_a_name_that_is_too_long_is_named(name, cli, tmp_path):
    said = cli("prepare", "-q", "-c", TINY, "-o", tmp_path / name, expect=2)
    assert "too long" in said and "Traceback" not in said


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("float64")),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory:"
            " you tried to allocate 1099511627776 bytes. Error code 12 (Cannot allocate memory)"
        ),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        pl.exceptions.ComputeError("Cannot allocate memory (os error 12)"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("verb", ["run", "evaluate", "recommend", "tune"])
def test_a_lack_of_memory_is_a_refusal(verb, error, words, alone, place, cli, monkeypatch, tmp_path):
    prepared(verb, alone, place)

    def refuses(*_, **__):
        raise error

    monkeypatch.setattr("sasrecllm.runs.system.System.__init__", refuses)
    said = cli(*words[verb], expect=6)
    assert "memory ran out" in said and "\n  -> " in said and "Traceback" not in said
    assert not leavings(tmp_path)


# ------------------------------------------------------------------------------------------- words


class Stream(io.TextIOWrapper):
    """Standard output of some encoding, or one that nobody reads any more, or on a full disk."""

    def __init__(self, encoding="utf-8", fault=None):
        self.bytes, self.fault = io.BytesIO(), fault
        super().__init__(self.bytes, encoding=encoding, write_through=True)

    def write(self, text):
        if self.fault and text:
            raise OSError(self.fault, os.strerror(self.fault))
        return super().write(text)


def ended(monkeypatch, out, error, *arguments):
    """Exit code of the command with these two streams."""
    from sasrecllm.cli import main

    monkeypatch.setattr(sys, "argv", ["sasrecllm", *map(str, arguments)])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", error)
        with pytest.raises(SystemExit) as stop:
            main()
        for given, used in ((out, sys.stdout), (error, sys.stderr)):
            if given is None and used is not None:
                used.close()  # what stood in for a closed stream
    return stop.value.code


@pytest.fixture
def foreign(alone, tmp_path):
    """A run whose showcase needs characters that few encodings have."""
    copy = tmp_path / "foreign"
    shutil.copytree(alone, copy)
    from sasrecllm.runs.seal import resealed

    line = {"rank": 1, "item_id": "ß🎬", "title": "日本 → \x1b", "probability": 0.5, "flags": []}
    with resealed(RunFolder(copy)):
        (copy / "showcase.json").write_text(json.dumps({"warm user ü": [line]}))
    return copy


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("as_json", [True, False])
def test_no_encoding_is_too_narrow(encoding, as_json, foreign, monkeypatch):
    out = Stream(encoding)
    words = ["recommend", foreign, "--showcase", *["--json"] * as_json]
    assert ended(monkeypatch, out, Stream(encoding), *words) == 0
    said = out.bytes.getvalue().decode(encoding)
    if as_json:
        assert json.loads(said)["warm user ü"][0]["item_id"] == "ß🎬"


def test_a_finished_run_is_finished_whatever_becomes_of_what_it_says(alone, words, monkeypatch):
    again = ["run", "-c", TINY, "-o", alone, *FAST]
    for out in (Stream("ascii"), Stream(fault=errno.EPIPE), None):
        for error in (Stream("cp1252"), Stream(fault=errno.EPIPE), Stream(fault=errno.ENOSPC), None):
            assert ended(monkeypatch, out, error, *again) == 0


def test_what_is_asked_for_and_cannot_be_written_is_no_success(alone, monkeypatch):
    error = Stream()
    full = Stream(fault=errno.ENOSPC)
    assert ended(monkeypatch, full, error, "recommend", alone, "--showcase", "--json") == 6
    assert "standard output cannot be written: No space left" in error.bytes.getvalue().decode()


def test_half_a_character_in_a_name_is_refused(cli, place):
    """Bytes that are no UTF-8 come as half characters; the libraries that write tables take none."""
    said = cli("prepare", "-q", "-c", TINY, "-o", f"{place}-\udcff", expect=2)
    assert "is no UTF-8" in said and not place.parent.exists()


# ------------------------------------------------------------------------------- claims and places


def test_without_a_name_the_place_must_be_said(cli, tmp_path):
    for verb in ("run", "prepare", "train"):
        said = cli(verb, "-q", cwd=tmp_path, expect=2)
        assert "--out" in said and "name=" in said
    printed = cli("run", "--print-config", cwd=tmp_path)
    (tmp_path / "all.yaml").write_text(printed)
    said = cli("run", "-q", "--config", "all.yaml", cwd=tmp_path, expect=2)
    assert "--out" in said, "printed defaults name no folder"
    assert [p.name for p in tmp_path.iterdir()] == ["all.yaml"]
    cli("prepare", "-q", "name=mine", "data.world={users: 60, items: 60, rows: 14}", cwd=tmp_path)
    assert (tmp_path / "runs" / "mine" / "data" / "dataset.json").is_file()


def test_a_run_without_a_name_is_called_by_its_folder(tmp_path):
    for settings, called in (({}, "books"), ({"name": "mine"}, "mine")):
        run = Run(
            RunFolder(tmp_path / "books"), Config.model_validate(settings), "", Progress(quiet=True)
        )
        assert run.name == called


def test_a_refused_start_deletes_nothing_by_force(alone, cli):
    before = sorted(p for p in alone.rglob("*"))
    for wrong in ("strategy=nothing", "encoder.kind=sasrek", "encoder.loss=bcee",
                  "fusion.components=[encoderr]", "evaluation.metrics=[nowhere:at_all]"):  # fmt: skip
        cli("run", "-q", "-c", TINY, "-o", alone, *FAST, "--force", wrong, expect=2)
    assert sorted(p for p in alone.rglob("*")) == before


def test_a_refused_start_claims_nothing(cli, place):
    for wrong, code in (
        (["encoder.kind=sasrek"], 2),
        (["data.source=files", "data.path=nowhere.csv"], 4),
        (["evaluation.baselines=[popularityy]"], 2),
        (["item_features.attributes=[nothing]"], 2),
        (["data.world={users: 60, items: 60, rows: 14}", "item_features.attributes=[no]"], 2),
    ):
        cli("run", "-q", "-c", TINY, "-o", place, *FAST, *wrong, expect=code)
    cli("run", "-q", "-c", TINY, "-o", place, *FAST)
    summary = json.loads((place / "data/truth.json").read_text())
    assert summary["parameters"]["users"] == 120, "the data of the refused start was prepared anew"


def test_a_refusal_changes_nothing_in_a_finished_run(alone, place, cli):
    shutil.copytree(alone, place)
    before = {p: file_digest(p) for p in place.rglob("*") if p.is_file() and p.name != "log.txt"}
    for wrong in ("evaluation.baselines=[popularityy]", "encoder.width=4", "encoder.kind=sasrek"):
        cli("run", "-q", "-c", TINY, "-o", place, *FAST, wrong, expect=2)
    after = {p: file_digest(p) for p in place.rglob("*") if p.is_file() and p.name != "log.txt"}
    assert after == before
    cli("recommend", place, "--showcase")


def test_a_finished_run_on_a_disk_that_cannot_be_written_is_finished(alone, shim, cli):
    before = sorted(alone.rglob("*"))
    shim.arm(raising(errno.EROFS), alone, 1)
    said = cli("run", "-c", TINY, "-o", alone, *FAST)
    assert not shim.has_struck() and "finished already" in said
    assert sorted(alone.rglob("*")) == before


# ------------------------------------------------------------------------------------- environment


def test_every_variable_that_anything_mentions_is_a_setting_or_known_not_to_be_one(monkeypatch):
    """What a server is told by the environment must not refuse the other verbs."""
    import re

    folders = ("src", "docs", "tests", "examples", "benchmarks", "configs")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*")]
    named = set()
    for path in [*files, ROOT / "README.md", ROOT / "Makefile"]:
        if path.is_file() and path.suffix in (".py", ".md", ".sh", ".js", ".yaml", ".html", ""):
            named |= set(re.findall(rf"\b{ENV_PREFIX}[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    assert {"SASRECLLM_API_KEY", "SASRECLLM_STORE"} <= named
    sections = {f"{ENV_PREFIX}{field.upper()}" for field in Config.model_fields}
    unknown = {n for n in named - set(NOT_SETTINGS) if n.partition("__")[0] not in sections}
    assert not unknown - {"SASRECLLM_SECTION__KEY"}
    for name in NOT_SETTINGS:
        monkeypatch.setenv(name, "some: [text")
    assert load_config() == Config()
    for wrong in ("APIKEY", "STOER", "ENCODER__WIDHT"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ConfigError):
            patch.setenv(f"{ENV_PREFIX}{wrong}", "1")
            load_config()


@pytest.mark.parametrize("verb", ["run", "train", "prepare"])
def test_a_flag_that_is_gone_is_refused_with_what_to_do(verb, cli, tmp_path):
    said = cli(verb, "--config", TINY, "--out", tmp_path / "run", "--resume", expect=2)
    assert "there is no flag --resume any more" in said and "leave it out" in said
    assert "did you mean '--quiet'" in cli(verb, "--config", TINY, "--quite", expect=2)
    assert not (tmp_path / "run").exists()
