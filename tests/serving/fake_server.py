"""A server on a made-up model, for tests of everything around the model.

Run as a program it takes the arguments of :func:`serve`; SASRECLLM_FAKE_SECONDS slows its model down,
no answer comes while FOLDER/shut exists, and the first line of FOLDER/name.txt names the model (a
missing file is a damaged run).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import CheckpointError, DataError
from sasrecllm.serving import run, state


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Line:
    rank: int
    item_id: str
    title: str
    score: float
    probability: float
    retrieval_rank: int | None
    flags: tuple[str, ...] = ()

    def to_dict(self):
        return asdict(self)


@dataclass(frozen=True)
class Scored:
    item_id: str
    probability: float
    flags: tuple[str, ...] = ()

    def to_dict(self):
        return asdict(self)


class FakeSystem:
    """Every number is a digest of the question, so an answer to another question shows."""

    def __init__(self, name="A", items=60, added=(), seconds=0.0, gate=None):
        ids = [f"m{n:04d}" for n in range(items)]
        films = [f"Film {n} of the sea" for n in range(items)]
        genres = {"genre": ["Drama|War" if n % 3 else "Drama" for n in range(items)]}
        self.catalog = Catalog(ids, films, ["ann", "bob"], genres)
        if added:
            self.catalog = self.catalog.extended([i for i, *_ in added], [t for _, t, _ in added])
        self.dataset = SimpleNamespace(
            starts=np.array([0, 2, 3]), items=np.array([0, 1, 2]), labels=np.array([1, 0, 1])
        )
        self.name, self.items, self.added = name, items, tuple(added)
        self.seconds, self.gate = seconds, gate

    def with_items(self, items):
        return FakeSystem(self.name, self.items, [*self.added, *items], self.seconds, self.gate)

    def work(self):
        time.sleep(self.seconds)
        while self.gate and self.gate.exists():
            time.sleep(0.005)

    def probability(self, item, history, user):
        asked = repr((self.name, item, [tuple(e) if isinstance(e, list) else e for e in history], user))
        return int.from_bytes(hashlib.sha256(asked.encode()).digest()[:6]) / 2**48

    def score_items(self, items, history=None, user=None):
        self.work()
        return [self.probability(i, history or [], user) for i in items]

    def scored(self, items, history=None, user=None):
        had = {i for i, *_ in self.added}
        scores = zip(items, self.score_items(items, history, user), strict=True)
        return [Scored(i, p, ("cold_item",) if i in had else ()) for i, p in scores]

    def recommend(
        self,
        history=None,
        user=None,
        k=10,
        retrieve=100,
        only=None,
        where=None,
        rerank=True,
        strict=True,
        seen=None,
        exclude=None,
        boost=None,
        diversity=0.0,
    ):
        self.work()
        self.asked = {"retrieve": retrieve, "where": where, "boost": boost, "diversity": diversity}
        flags = ("fallback",) if not history and user is None else ()
        had = {e if isinstance(e, str) else e[0] for e in history or [] if seen != "allow"}
        had |= set(exclude or ())
        free = [i for i in (self.catalog.item_ids if only is None else only) if i not in had]
        scores = {i: self.probability(i, history or [], user) for i in free}
        places = {i: n for n, i in enumerate(free, 1)}  # the first stage: as the catalogue stands
        best = sorted(scores, key=lambda i: -scores[i] if rerank else places[i])[:k]
        title = self.catalog.title
        index = self.catalog.item_index
        return [
            Line(n, i, title(int(index([i])[0])), scores[i], scores[i], places[i], flags)
            for n, i in enumerate(best, 1)
        ]

    def explain(self, item, history=None, user=None, strict=True):
        value = self.probability(item, history or [], user)
        if not history and user is None and strict:
            raise DataError("nothing to explain by", "give a history")
        return SimpleNamespace(to_dict=lambda: {"item_id": item, "probability": value})


GONE = set()


def forget(folder, users, told):
    """Take users out of the made-up run, for as long as this process lives."""
    if not set(users) <= {"ann", "bob"} - GONE | set(told):
        raise DataError("unknown", "give another")
    GONE.update(users)


def without(loaded, gone):
    """A made-up run from which users were taken."""
    ids = loaded.system.catalog.user_ids
    ids[:] = ["" if user in gone else user for user in ids]
    return loaded


def loaded(name="A", items=60, seconds=0.0, gate=None):
    return state.Loaded(
        FakeSystem(name, items, (), seconds, gate), f"run-{name}", name, lambda *new: new, Words
    )


def load_folder(folder: Path, workers: int, seconds: float):
    try:
        name = (folder / "name.txt").read_text().split()[0]
    except (OSError, IndexError):
        raise CheckpointError(f"{folder} is damaged", "train it again") from None
    seconds = float(os.environ.get("SASRECLLM_FAKE_SECONDS", "0"))
    return without(loaded(name, seconds=seconds, gate=folder / "shut"), GONE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--store")
    parser.add_argument("--rate", type=float, default=float("inf"))
    parser.add_argument("--allowed-host", action="append", default=[])
    parser.add_argument("--root-path", default="")
    parser.add_argument("--log-requests", action="store_true")
    given = parser.parse_args()
    state.load_run = load_folder
    run.choose_run = lambda folder: folder
    run.serve(
        given.folder,
        given.host,
        0,
        None,
        given.store,
        rate=given.rate,
        names=given.allowed_host,
        root=given.root_path,
        log_requests=given.log_requests,
        forget=forget,
    )
