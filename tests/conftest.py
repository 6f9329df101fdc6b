"""What all tests share: no luck, a closed door to the hub, one tiny trained run, the command line."""

import contextlib
import fcntl
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

# One thread for whatever a test computes in its own process, as in the processes it starts: the same
# kernels add in the same order on two cores and on sixty-four.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# bitsandbytes, which peft imports wherever it is installed, would import torch's compiler: more than a
# second in each of the hundreds of processes that the tests start.  Nothing here compiles.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, is_hypothesis_test, register_random, settings

TINY = Path(__file__).parent / "tiny.yaml"
THOROUGH = bool(os.environ.get("THOROUGH"))
"""Set by ``make soak``: what can be repeated is repeated as often as docs/reliability.md says."""
FUZZ_TIMES = 10
"""How many times the examples of ``make test`` the profile "fuzz" tries, for every property."""
SLOW = 600
"""Seconds after which a process of ours is taken for hung, on a machine however busy."""
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SASRECLLM_")} | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}

# ---------------------------------------------------------------------------------- no luck

# Who started the tests may ignore Ctrl-C (a shell does, for jobs in the background), and what is
# ignored stays so in every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


torch.set_warn_always(True)  # a warning given once would be the error of whichever test comes first


class TorchRandom:
    """torch's global generator, so that hypothesis seeds it for each example as it does numpy's."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()  # hypothesis keeps a weak reference only
register_random(TORCH_RANDOM)

# The examples of "test" are the same on every machine and in every run; "fuzz" draws new ones from the
# seed that --hypothesis-seed names (see fuzz.py).  Neither keeps examples between runs.
settings.register_profile("test", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("fuzz", derandomize=False, deadline=None, database=None, print_blob=True)
settings.load_profile("test")


def pytest_addoption(parser):
    parser.addoption("--reversed", action="store_true", help="run the test files in reversed order")


def pytest_collection_modifyitems(config, items):
    profile = settings.get_profile(config.getoption("--hypothesis-profile") or "test")
    seen = set()
    for item in items:
        function = getattr(item, "function", None)
        if THOROUGH and "times" in getattr(item, "fixturenames", ()):
            item.add_marker("soak")
        if function is not None and is_hypothesis_test(function) and function not in seen:
            seen.add(function)
            _as_profiled(function, profile)
    # Whole runs first, which take minutes in one file: at the end one worker would wait for the other.
    items.sort(key=lambda item: item.nodeid.partition("::")[0].count("/"))
    if config.getoption("--reversed"):
        files = {}
        for item in items:
            files.setdefault(item.nodeid.partition("::")[0], []).append(item)
        items[:] = [item for own in reversed(files.values()) for item in own]


@pytest.fixture(scope="session")
def times():
    """``times(usual, thorough)``: how often to repeat what is tried, or which bound to hold it to.

    ``make soak`` takes the second; a bound of time belongs there alone.
    """
    return lambda usual, thorough: thorough if THOROUGH else usual


@pytest.fixture(scope="session")
def fuzzed(request):
    """``fuzzed(count)``: (examples, seed) for what draws its own; (count, 1) but for ``make fuzz``."""
    if request.config.getoption("--hypothesis-profile") != "fuzz":
        return lambda count: (count, 1)
    seed = request.config.getoption("--hypothesis-seed") or random.SystemRandom().randrange(2**32)
    return lambda count: (count * FUZZ_TIMES, int(seed))


def _as_profiled(function, profile):
    """A test's own @settings keep their number of examples (times ten in "fuzz"), and nothing that is
    luck: no time limit, no complaint of a slow machine, no order of their own.

    Hypothesis has no public way to do this for all tests; test_luck.py sees to it that this one works.
    """
    own = function._hypothesis_internal_use_settings
    times = 1 if profile.derandomize else FUZZ_TIMES
    function._hypothesis_internal_use_settings = settings(
        own,
        max_examples=own.max_examples * times,
        derandomize=profile.derandomize,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check={*own.suppress_health_check, HealthCheck.too_slow},
    )


def _seed(name):
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """A fixture draws the same numbers whichever test asks for it first."""
    _seed(fixturedef.argname)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """A test draws the same numbers whatever ran before it."""
    _seed(item.nodeid)


# ------------------------------------------------------------------------- data and trained runs


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of development datasets, or a skip that says what is missing."""
    where = os.environ.get("SASRECLLM_DATA")
    if not where or not Path(where).is_dir():
        pytest.skip("SASRECLLM_DATA names no folder with the development datasets")
    return Path(where)


@pytest.fixture(scope="session")
def once(request, tmp_path_factory):
    """``once(name, make)``: the folder that ``make(folder)`` fills, made once for all test processes.

    Each process gets a copy, so that nobody sees what another one's tests do to it.
    """
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if hasattr(request.config, "workerinput") else mine
    return lambda name, make: _once(shared / "once" / name, mine / "copies" / name, make)


def _once(place, copy, make):
    if not copy.exists():
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other processes wait here for the one that makes it
            if not (place / "made").exists():
                shutil.rmtree(place / "original", ignore_errors=True)
                make(place / "original")
                (place / "made").touch()
        shutil.copytree(place / "original", copy, symlinks=True)
    return copy


@pytest.fixture(scope="session")
def run(once, cli):
    """A finished run of tiny.yaml, trained once for the whole session.  Change a copy of it, not it."""
    command = ("run", "--config", TINY, "--quiet", "--out")
    return once("tiny", lambda folder: cli(*command, folder, process=True))


@pytest.fixture(scope="session")
def log():
    """Forty users with ten rows each, who like the even or the odd items of thirty, a day a row."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{i}", 5 if i % 2 == u % 2 else 2, 1_600_000_000 + 86_400 * n + u)
        for u in range(40)
        for n, i in enumerate(rng.permutation(30)[:10])
    ]
    return pl.DataFrame(rows, ["user_id", "item_id", "rating", "timestamp"], orient="row")


@pytest.fixture(scope="session")
def alike():
    """``alike(got, wanted, within=1e-5)``: two ranked lists of (id, score) that rounding alone parts.

    The scores of each place agree, and an item stands at another place only among its equals: batches
    of other sizes are other kernels, which add single precision (1e-7) in other orders.
    """
    return _alike


def _alike(got, wanted, within=1e-5):
    scores = [np.array([s for _, s in ranked], dtype=float) for ranked in (got, wanted)]
    np.testing.assert_allclose(*scores, rtol=0, atol=within)
    of = dict(wanted)
    for place, (item, score) in enumerate(got):
        if item != wanted[place][0]:
            assert abs(score - of.get(item, wanted[-1][1])) <= within, (place, item)


# ------------------------------------------------------------------------------ the command line


@pytest.fixture(scope="session")
def cli():
    """``cli(*arguments, expect=0, process=False, cwd=None, env=None)``: what the command printed.

    In this process unless ``process=True`` (where signals, the environment of a start or two runs
    beside each other matter: a start costs seconds).
    """
    return _command


def _command(*arguments, expect=0, process=False, cwd=None, env=None):
    way = _in_a_process if process else _in_this_process
    code, out = way([str(a) for a in arguments], cwd, env or {})
    assert code == expect, f"exit {code}, not {expect}: {' '.join(map(str, arguments))}\n{out[-3000:]}"
    return out


def _in_a_process(arguments, cwd, env):
    done = subprocess.run(
        [sys.executable, "-m", "sasrecllm", *arguments],
        capture_output=True, text=True, env=ENVIRONMENT | env, cwd=cwd, timeout=SLOW,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def _in_this_process(arguments, cwd, env):
    from sasrecllm.cli import main

    said, code = io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd or "."):
        patch.setattr(sys, "argv", ["sasrecllm", *arguments])
        for name in [n for n in os.environ if n.startswith("SASRECLLM_")]:
            patch.delenv(name)
        for name, value in ({"NO_COLOR": "1", "COLUMNS": "200"} | env).items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
    return code, said.getvalue()
