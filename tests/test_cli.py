"""Every verb, called in this process: how it ends when it is stopped, starved of disk, or unheard."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from sasrecllm import cli
from sasrecllm.checkpoint import file_digest

TINY = Path(__file__).parent / "tiny.yaml"
ALONE = (
    "strategy=encoder-only",
    "fusion.enabled=false",
    "evaluation.ablations=false",
    "encoder.folds=0",
)


def call(*words):
    """Exit code of ``sasrecllm WORDS``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sasrecllm", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code


class Shim:
    """Raises when one of the process's file operations under a folder is the one that is armed."""

    def __init__(self):
        self.act, self.under, self.countdown = None, "", 0
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.act is None or event not in ("open", "os.rename", "os.mkdir"):
            return
        if event == "open" and not self._writes(*arguments[1:]):
            return
        if event == "os.mkdir" and Path(os.fsdecode(arguments[0])).is_dir():
            return  # mkdir(exist_ok=True)
        paths = [os.fsdecode(p) for p in arguments[:2] if isinstance(p, (str, bytes, os.PathLike))]
        if any(p.startswith(self.under) for p in paths):
            self.countdown -= 1
            if self.countdown == 0:
                act, self.act = self.act, None
                act(paths[0])

    @staticmethod
    def _writes(mode, flags):
        return bool(flags & (os.O_WRONLY | os.O_RDWR)) if flags is not None else "r" not in mode

    def arm(self, act, under, nth):
        self.act, self.under, self.countdown = act, str(under), nth

    def spent(self):
        """Whether it has struck; disarmed in any case."""
        spent, self.act = self.act is None, None
        return spent


@pytest.fixture(scope="module")
def shim():
    return Shim()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert call("run", "-q", "--config", TINY, "--out", folder, *ALONE) == 0
    return folder


@pytest.fixture
def users(tmp_path):
    pl.DataFrame({"user_id": [f"u{n:04d}" for n in range(9)]}).write_csv(tmp_path / "users.csv")
    return tmp_path / "users.csv"


def raised(number):
    def act(path):
        raise OSError(number, os.strerror(number), path)

    return act


def weights(folder):
    return {p.relative_to(folder): file_digest(p) for p in folder.rglob("weights.safetensors")}


def writing_verbs(run, users, tmp_path):
    """Verb -> its words and the place that it writes to."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    space = tmp_path / "space.yaml"
    space.write_text("encoder.width: {choices: [8]}\n")
    plan = {
        "name": "p",
        "resamples": 100,
        "datasets": {"w": {"config": str(TINY)}},
        "rows": {"r": {"set": dict(s.split("=") for s in ALONE if "folds" not in s)}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    out = tmp_path / "place" / "out"
    return {
        "run": (["run", "-q", "-c", TINY, "-o", out, *ALONE], out),
        "prepare": (["prepare", "-q", "-c", TINY, "-o", out], out),
        "train": (["train", "-q", "-c", TINY, "-o", out, *ALONE], out),
        "evaluate": (["evaluate", "-q", copy], copy),
        "report": (["report", "-q", copy], copy),
        "recommend": (["recommend", run, "--users", users, "-q", "-o", out / "l.csv"], out),
        "tune": (["tune", "-q", "-c", TINY, "-o", out, "--space", space, "--trials", "1", *ALONE], out),
        "study": (["study", tmp_path / "plan.yaml", "-q", "-o", out], out),
        "bench": (["bench", "topk", "--size", "tiny", "--pairs", "1", "--threads", "1", "--json", out / "b.json"], out),
    }  # fmt: skip


VERBS = ("run", "prepare", "train", "evaluate", "report", "recommend", "tune", "study", "bench")
FAULTS = (
    (errno.ENOSPC, 6, "No space left on device"),
    (errno.EROFS, 2, "Read-only file system"),
    (errno.EACCES, 2, "Permission denied"),
    (errno.EIO, 6, "Input/output error"),
)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_disk_that_refuses_is_named_with_a_next_step_in_every_verb(
    verb, nth, run, users, shim, tmp_path, capfd
):
    words, place = writing_verbs(run, users, tmp_path)[verb]
    number, code, said = FAULTS[(VERBS.index(verb) + nth) % len(FAULTS)]
    shim.arm(raised(number), place, nth)
    try:
        got = call(*words)
    finally:
        struck = shim.spent()
    told = capfd.readouterr()
    if not struck:
        assert got == 0, told.err
        return
    assert got == code, told.err
    assert said in told.err and str(tmp_path) in told.err and "\n  -> " in told.err
    assert ("Traceback" not in told.err and "MB free" in told.err) or number != errno.ENOSPC
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.tmp?*"))
