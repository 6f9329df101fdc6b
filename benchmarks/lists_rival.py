"""What the scripts of the rivals share; numpy alone, since each runs in an environment of its own.

    python -m benchmarks.lists export RUN FOLDER
    peers/rectools/bin/python benchmarks/lists_rectools.py FOLDER
    peers/replay/bin/python benchmarks/lists_replay.py FOLDER

A model is made of the training likes under each of its settings and asked about the validation likes;
the setting with the best NDCG@10 there is made again of training and validation likes, and fills the
lists of the test.  (A network keeps its weights, as ours does, and reads the validation like.)  A model
that has answered is passed over; one that fails is named, and the others go on.

Legend: B users who are asked about, k places, N rows.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PLACES, UNKNOWN = 10, -1


class Rows(NamedTuple):
    """Rows in the order of each user's history, users one after another."""

    users: np.ndarray  # [N]
    items: np.ndarray  # [N]
    liked: np.ndarray  # [N] bool
    validation: np.ndarray  # [N] bool
    asked: Mapping[str, np.ndarray]  # "valid", "test" -> [B] users
    targets_valid: np.ndarray  # [B]
    n_items: int
    allow_seen: bool

    def likes(self, split: str) -> np.ndarray:
        """Places of the likes that a model which answers ``split`` may be made of."""
        return np.flatnonzero(self.liked & (~self.validation if split == "valid" else True))

    def met(self, split: str) -> list[np.ndarray]:
        """What may not be served to each user who is asked about."""
        users = self.asked[split]
        if self.allow_seen:
            return [np.empty(0, dtype=np.int64)] * len(users)
        known = np.flatnonzero(~self.validation | (split == "test"))
        begin, end = (np.searchsorted(self.users[known], users, side) for side in ("left", "right"))
        return [self.items[known[b:e]] for b, e in zip(begin, end, strict=True)]

    def depth(self, split: str) -> int:
        """Places of a list out of which nothing has been taken, so that enough of them are left."""
        longest = max((len(items) for items in self.met(split)), default=0)
        return min(self.n_items, PLACES + longest)


def read(folder: Path) -> Rows:
    """What was exported."""
    with np.load(folder / "rows.npz", allow_pickle=False) as stored:
        found = {key: stored[key] for key in stored}
    asked = {split: found.pop(f"asked_{split}") for split in ("valid", "test")}
    n_items, allow_seen = int(found.pop("n_items")), bool(found.pop("allow_seen"))
    return Rows(**found, asked=asked, n_items=n_items, allow_seen=allow_seen)


def lists_of(rows: Rows, split: str, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The first places of what may be served, [B, k].

    Args:
        users, items: recommendations, each user's together and best first.
    """
    order = np.argsort(users, kind="stable")
    users, items = np.asarray(users)[order], np.asarray(items)[order]
    out = np.full((len(rows.asked[split]), PLACES), UNKNOWN, dtype=np.int64)
    for row, (user, met) in enumerate(zip(rows.asked[split], rows.met(split), strict=True)):
        begin, end = np.searchsorted(users, [user, user + 1])
        mine = items[begin:end]
        mine = mine[~np.isin(mine, met)][:PLACES]
        out[row, : len(mine)] = mine
    return out


def ndcg(rows: Rows, lists: np.ndarray) -> float:
    """Of the validation likes."""
    hit = lists == rows.targets_valid[:, None]
    return float((hit / np.log2(np.arange(PLACES) + 2.0)).sum(1).mean())


Model = Callable[[Rows], tuple[np.ndarray, np.ndarray, dict[str, Any]]]
"""Lists of validation and of test, and what is to be known of how they were made."""


def searched(
    settings: Iterable[Mapping[str, Any]],
    fill: Callable[[Rows, str, Mapping[str, Any]], np.ndarray],
) -> Model:
    """A model whose ``settings`` are chosen on validation.

    Args:
        fill: lists [B, k] of a model of ``rows.likes(split)`` under a setting.
    """

    def model(rows: Rows) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        tried = [(dict(setting), fill(rows, "valid", setting)) for setting in settings]
        gains = [ndcg(rows, lists) for _, lists in tried]
        best = int(np.argmax(gains))
        setting, valid = tried[best]
        noted = [{"setting": s, "ndcg@10": round(g, 4)} for (s, _), g in zip(tried, gains, strict=True)]
        return valid, fill(rows, "test", setting), {"setting": setting, "tried": noted}

    return model


def answer(rival: str, version: str, models: Mapping[str, Model]) -> int:
    """Run every model that has not answered; returns the exit code.

    Args:
        rival: the first word of the rows' names.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", choices=[*models, []], help="these alone; all without")
    given = parser.parse_args()
    folder, rows, failed = given.folder, read(given.folder), 0
    for name in given.models or models:
        path = folder / f"{rival} {name}.lists.npz"
        if path.is_file():
            continue
        started, cpu = time.perf_counter(), time.process_time()
        try:
            valid, test, about = models[name](rows)
        except Exception:  # whatever another package raises: the other models are still wanted
            traceback.print_exc()
            print(f"{rival} {name}: FAILED", flush=True)
            failed = 1
            continue
        seconds = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        about |= {"version": version} | {key: round(value, 1) for key, value in seconds.items()}
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, valid=valid, test=test, about=json.dumps(about))
        part.rename(path)
        print(f"{rival} {name}: {json.dumps(about)}", flush=True)
    return failed
