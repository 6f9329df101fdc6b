"""A process that was forked from one with a loaded run is told so."""

import multiprocessing

import pytest

from sasrecllm import SASRecLLM, Title
from sasrecllm.errors import EnvironmentRefusal
from sasrecllm.inference import forks


@pytest.fixture(scope="module")
def system(run):
    return SASRecLLM.from_pretrained(run)


def _in_the_fork(system, run, queue):
    said = []
    for ask in (
        lambda: system.recommend(["m0003"]),
        lambda: system.recommend([Title("New words")]),
        lambda: system.score_items(["m0003"], ["m0004"]),
        lambda: system.audience("m0003"),
        lambda: SASRecLLM.from_pretrained(run),
    ):
        try:
            said.append(len(ask()))
        except EnvironmentRefusal as error:
            said.append(error.remedy)
    queue.put(said)


def test_a_fork_of_a_process_that_loaded_a_run_is_told_so_and_does_not_hang(system, run):
    system.recommend([Title("New words")], k=2)  # whose reading starts threads
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_the_fork, args=(system, run, queue))
    child.start()
    child.join(300)  # what hangs does so for ever
    hung = child.is_alive()
    child.kill()
    assert not hung
    said = queue.get()
    assert len(said) == 5 and all("spawn" in remedy for remedy in said)
    assert system.recommend(["m0003"], k=1), "the parent goes on"


def test_a_fork_before_anything_is_loaded_is_free(monkeypatch):
    monkeypatch.setattr(forks, "_loaded", False)
    monkeypatch.setattr(forks, "_forked", False)
    forks._after_fork()
    forks.refuse_fork()
    forks.note_loaded()
    forks._after_fork()
    with pytest.raises(EnvironmentRefusal, match="forked"):
        forks.refuse_fork()
