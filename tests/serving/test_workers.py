"""Processes that answer: the Python API's answers and refusals, new items, deaths; a made-up model."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from sasrecllm import errors
from sasrecllm.data.catalog import Catalog
from sasrecllm.inference.requests import NewItem, Recommendation, Scored, Title
from sasrecllm.serving import security, workers
from sasrecllm.serving.queueing import Overloaded
from sasrecllm.serving.workers import RemoteSystem, Workers

CODE = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from sasrecllm import errors
from sasrecllm.inference.requests import NewItem, Recommendation, Scored, Title

class System:
    def __init__(self, items=()):
        self.items = items
    @classmethod
    def from_pretrained(cls, run):
        if run.name == "damaged":
            raise errors.CheckpointError("a part is damaged", "train it again")
        if run.name == "dies":
            os._exit(3)
        print("a library greets")
        return cls()
    def with_items(self, items):
        return System((*self.items, *(i.item_id for i in items)))
    def recommend(self, history, k, **rest):
        print("a library talks")
        line = Recommendation(1, repr(history), repr(self.items), 0.1, 1 / 3, None, ("cold_user",))
        return [line] * k
    def score_items(self, items, history, user=None):
        if "hangs" in items:
            time.sleep(10**6)
        if "together" in items:  # waits for the other process
            Path(os.environ["MEETING"], str(os.getpid())).touch()
            while len(os.listdir(os.environ["MEETING"])) < 2:
                time.sleep(0.01)
        if "refused" in items:
            raise errors.DataError("no such item", "ask for another")
        if "broken" in items:
            raise KeyError("secret")
        if "dead" in items:
            os._exit(9)
        return [float(os.getpid()), float(os.environ["OMP_NUM_THREADS"])]
    def scored(self, items, history):
        return [Scored(i, 1 / 3, ("cold_item",)) for i in items]
    def explain(self, item, history):
        return SimpleNamespace(to_dict=lambda: {"item": item, "environment": sorted(os.environ)})

sys.modules["sasrecllm.inference.recommender"] = SimpleNamespace(
    NewItem=NewItem, Recommender=System, Title=Title
)
from sasrecllm.serving import worker
worker.main(Path(sys.argv[1]))
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", CODE))
    monkeypatch.setattr(workers, "MOMENT", 0.1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def system(name="run", count=1):
        catalog = Catalog(["a", "b"], ["A", "B"], ["u"])
        return RemoteSystem(Workers(tmp_path / name, count), catalog, SimpleNamespace())

    return system


def shown(system, history=()):
    """What its process knows: the history that reached it, and the new items."""
    (line,) = system.recommend(history=list(history), k=1)
    return line.item_id, line.title


def test_questions_and_answers_come_through_unchanged(make):
    system = make()
    history = ["007", (Title("Ünïcode \n 🎬"), False), ("b", False)]
    pairs = [("007", True), (Title("Ünïcode \n 🎬"), False), ("b", False)]
    assert (
        system.recommend(history=history, k=2)
        == [Recommendation(1, repr(pairs), "()", 0.1, 1 / 3, None, ("cold_user",))] * 2
    )
    assert system.scored(["a"], history=[]) == [Scored("a", 1 / 3, ("cold_item",))]
    assert system.explain("a", history=[]).to_dict()["item"] == "a"


def test_refusals_keep_their_kind_and_bugs_do_not_end_the_process(make):
    system = make()
    with pytest.raises(errors.DataError, match="no such item") as refusal:
        system.score_items(["refused"], history=[])
    assert refusal.value.remedy == "ask for another"
    with pytest.raises(RuntimeError, match="KeyError: 'secret'"):
        system.score_items(["broken"], history=[])
    before = system.score_items(["a"], history=[])
    assert before == system.score_items(["a"], history=[])


def test_every_process_learns_of_new_items_and_an_old_view_stays_as_it_was(make):
    own = make(count=2)
    first = own.with_items([NewItem("x", "X"), NewItem("y", "Y")])
    second = first.with_items([NewItem("z", "Z")])
    renamed = own.with_items([NewItem("x", "New")])
    assert second.catalog.item_ids == ["a", "b", "x", "y", "z"]
    known = {own: "()", first: "('x', 'y')", second: "('x', 'y', 'z')", renamed: "('x',)"}
    for system in (own, first, second, second, renamed, first, own, second, first, renamed, own, own):
        assert shown(system)[1] == known[system]
    with pytest.raises(errors.DataError, match="in the catalogue already"):
        first.with_items([NewItem("x", "X")])


def test_questions_are_answered_side_by_side_on_their_share_of_the_cores(make, monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "cores", lambda: 6)
    (tmp_path / "meeting").mkdir()
    monkeypatch.setenv("MEETING", str(tmp_path / "meeting"))
    system = make(count=2)
    with ThreadPoolExecutor(2) as pool:
        ask = lambda _: system.score_items(["together"], history=[])  # noqa: E731
        answers = list(pool.map(ask, range(2)))
    assert len({process for process, _ in answers}) == 2 and {t for _, t in answers} == {3.0}


def test_a_process_that_dies_is_replaced_and_told_everything_again(make):
    system = make().with_items([NewItem("x", "X")])
    assert shown(system)[1] == "('x',)"
    with pytest.raises(Overloaded) as refusal:
        system.score_items(["dead"], history=[])
    assert refusal.value.reason == "process died"
    assert shown(system)[1] == "('x',)"
    before = pid_of(system)
    os.kill(before, signal.SIGKILL)
    until(lambda: not system.workers._all[0].lives)
    assert shown(system)[1] == "('x',)"


def test_a_dead_process_is_not_replaced_by_one_of_another_run(make, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "MANIFEST.sha256").write_text("one")
    system = make()
    (tmp_path / "run" / "MANIFEST.sha256").write_text("two")
    with pytest.raises(Overloaded, match="process died"):
        system.score_items(["dead"], history=[])
    assert not system.workers.ready()
    for _ in range(2):
        with pytest.raises(Overloaded, match="run changed"):
            shown(system)
    (tmp_path / "run" / "MANIFEST.sha256").write_text("one")
    assert shown(system)[1] == "()"


def until(true):
    """Wait for it, as long as a busy machine may need."""
    ends = time.monotonic() + 120
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def pid_of(system):
    return int(system.score_items(["a"], history=[])[0])


def test_a_process_that_hangs_is_replaced_and_told_everything_again(make):
    system = make().with_items([NewItem("x", "X")])
    assert shown(system)[1] == "('x',)"
    before, system.workers.seconds = pid_of(system), 0.2
    with pytest.raises(Overloaded, match="process died"):
        system.score_items(["hangs"], history=[])
    system.workers.seconds = 120
    assert shown(system)[1] == "('x',)" and pid_of(system) != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_one_that_hangs_does_not_hold_up_the_other(make):
    system = make(count=2)
    system.workers.seconds = 0.5
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(system.score_items, ["hangs"], history=[])
        until(lambda: any(p.since for p in system.workers._all))
        system.workers.seconds = 120
        assert pid_of(system) and system.workers.ready()
        with pytest.raises(Overloaded):
            hangs.result()
    until(lambda: system.workers._idle.qsize() == 2)
    assert len({p.process.pid for p in system.workers._all}) == 2


def test_ready_is_no_while_the_only_process_is_late_and_yes_once_it_is_replaced(make):
    system = make()
    before = pid_of(system)
    assert system.workers.ready()
    system.workers.seconds = 3600
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(system.score_items, ["hangs"], history=[])
        until(lambda: system.workers._all[0].since)
        assert system.workers.ready()  # it works, and is in time
        system.workers.seconds = 0
        assert not system.workers.ready()
        system.workers.seconds = 3600
        os.kill(before, signal.SIGKILL)
        with pytest.raises(Overloaded):
            hangs.result()
    until(system.workers.ready)  # nobody has to ask it anything
    assert pid_of(system) != before


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_an_idle_process_that_was_stopped_or_killed_is_found_by_asking_for_readiness(
    make, tmp_path, number
):
    (tmp_path / "run").mkdir()
    manifest = tmp_path / "run" / "MANIFEST.sha256"
    manifest.write_text("one")
    system = make()
    before, system.workers.seconds = pid_of(system), 0.5
    os.kill(before, number)
    manifest.write_text("two")  # so that it cannot be replaced yet
    for _ in range(2):
        assert not system.workers.ready()
    until(lambda: not system.workers._all[0].lives)
    manifest.write_text("one")
    system.workers.seconds = 120
    until(system.workers.ready)
    assert pid_of(system) != before


def test_a_question_that_finds_no_process_in_time_is_refused(make):
    system = make()
    held, system.workers.seconds = system.workers._idle.get(), 0.05
    with pytest.raises(Overloaded, match="process died"):
        system.score_items(["a"], history=[])
    assert not system.workers.ready()
    system.workers._idle.put(held)
    system.workers.seconds = 120
    assert system.workers.ready() and pid_of(system) == held.process.pid


def test_a_run_that_cannot_be_loaded_is_refused_in_words_and_leaves_no_process(make):
    with pytest.raises(errors.CheckpointError, match="damaged"):
        make("damaged", count=2)
    with pytest.raises(errors.ResourceError, match="ended with code 3 while it loaded"):
        make("dies")


def test_processes_end_with_the_last_reference_and_a_signal_to_the_group_does_not_end_them(make):
    system = make()
    process = int(system.score_items(["a"], history=[])[0])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process, number)
    assert system.score_items(["a"], history=[])[0] == process
    del system
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_process_whose_server_is_gone_ends_without_a_word(make, capfd):
    system = make()
    process = system.workers._all[0].process
    process.stdout.close()
    asked = b'{"history": null, "items": []}'
    question = b'{"call": "score_items", "items": [], "afresh": true, "asked": ' + asked + b"}"
    process.stdin.write(question + b"\n")
    process.stdin.close()
    assert process.wait(300) == 0
    assert "Traceback" not in capfd.readouterr().err


def test_the_key_of_the_server_is_not_handed_on(make, monkeypatch):
    monkeypatch.setenv(security.KEY_VARIABLE, "a-key-that-is-long-enough")
    assert security.KEY_VARIABLE not in make().explain("a", history=[]).to_dict()["environment"]


def test_no_more_processes_than_cores_unless_told_and_one_on_a_gpu(monkeypatch):
    for gpu, cores, count in ((False, 1, 1), (False, 2, 2), (False, 64, 4), (True, 64, 1)):
        monkeypatch.setattr("sasrecllm.machine.device.has_nvidia_device", lambda gpu=gpu: gpu)
        monkeypatch.setattr(workers, "cores", lambda cores=cores: cores)
        assert workers.default_workers() == count


def test_readiness_does_not_flicker_between_two_questions(make, monkeypatch):
    monkeypatch.setattr(workers, "MOMENT", 60)
    system, stop = make(), threading.Event()

    def keep_asking():
        while not stop.is_set():
            system.score_items(["a"], history=[])

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keep_asking)
        assert all(system.workers.ready() for _ in range(300))
        stop.set()
        asking.result()
