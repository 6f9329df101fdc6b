"""What a finished run's data asks about lists, and the same rows for other people's models.

A rival is given the training and validation rows in the order of the histories, and the users to fill
lists for; never the likes of the test.  It answers with a file for each of its models: lists for the
validation likes, by which its settings were chosen, and lists for the test.

Legend: B lists, I items of the catalogue, k places.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sasrecllm.checkpoint import write_json
from sasrecllm.data.candidates import servable_items, servable_likes
from sasrecllm.data.dataset import TRAIN, VALID, Dataset
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.served_lists import PLACES, Asked, Served
from sasrecllm.types import UNKNOWN, IntArray

ROWS, ABOUT, ANSWERS = "rows.npz", "about.json", "*.lists.npz"


def asked_of(dataset: Dataset, split: str) -> Asked:
    """A list for every like of ``split`` whose item may be served, in the order of the rows.

    Raises:
        ConfigError: a history holds rows that neither training nor validation has, or a user is asked
            about twice: not leave-one-out.
    """
    rows = servable_likes(dataset, split)
    users = dataset.users[rows]
    kept = np.isin(dataset.splits, (TRAIN,) if split == "valid" else (TRAIN, VALID))
    known = np.bincount(dataset.users[kept], minlength=dataset.n_users)[users]
    if len(np.unique(users)) < len(users) or (known != rows - dataset.starts[users]).any():
        raise ConfigError(
            f"{split} asks about some users twice, or after rows that are not for training",
            "prepare the run with data.split=leave-one-out and data.split_args={likes: true}",
        )
    return Asked(dataset.histories(rows), dataset.items[rows], servable_items(dataset))


def export(dataset: Dataset, folder: Path) -> None:
    """Write what rivals may know (module docstring); what they answered to other rows is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / ABOUT
    if about.is_file() and json.loads(about.read_text("utf-8"))["digest"] != dataset.digest:
        for path in folder.glob(ANSWERS):
            path.unlink()
    kept = np.flatnonzero(np.isin(dataset.splits, (TRAIN, VALID)))
    valid = asked_of(dataset, "valid")
    np.savez_compressed(
        folder / ROWS,
        users=dataset.users[kept],
        items=dataset.items[kept],
        liked=dataset.labels[kept] == 1,
        validation=dataset.splits[kept] == VALID,
        asked_valid=valid.histories.users,
        targets_valid=valid.targets,
        asked_test=asked_of(dataset, "test").histories.users,
        n_items=dataset.n_items,
        allow_seen=dataset.allow_seen,
    )
    write_json(about, {"digest": dataset.digest, "name": dataset.name})


class Answer(NamedTuple):
    """What a rival's model answered.

    Args:
        name: of its row.
        valid, test: lists [B, k], UNKNOWN behind.
        about: version, the settings that were chosen, what was tried, seconds.
    """

    name: str
    valid: IntArray
    test: IntArray
    about: dict[str, Any]


def answers(folder: Path) -> list[Answer]:
    """Every model that answered, by name."""
    found = []
    for path in sorted(folder.glob(ANSWERS)):
        with np.load(path, allow_pickle=False) as stored:
            valid, test = (stored[split].astype(np.int64) for split in ("valid", "test"))
            name = path.name.removesuffix(ANSWERS[1:])
            found.append(Answer(name, valid, test, json.loads(str(stored["about"]))))
    return found


def served_by(name: str, lists_Bk: IntArray, asked: Asked, n_items: int) -> Served:
    """Somebody else's lists as a row of the table; a like outside its list has rank infinity.

    Raises:
        DataError: not a list for each question, an item twice, or one that may not be served.
    """
    free_BI = asked.free(asked.histories)
    rows, places = np.nonzero(lists_Bk != UNKNOWN)
    items = lists_Bk[rows, places]
    right = lists_Bk.shape == (len(asked.targets), PLACES) and bool((items < n_items).all())
    twice = len(np.unique(rows * n_items + items)) < len(items)
    if not right or twice or not free_BI[rows, items].all():
        raise DataError(
            f"{name} does not have {len(asked.targets):,} lists of {PLACES} different items that may"
            " be served",
            "delete its file and run it again",
        )
    hit_Bk = lists_Bk == asked.targets[:, None]
    ranks = np.where(hit_Bk.any(1), hit_Bk.argmax(1) + 1.0, np.inf)
    return Served(lists_Bk, ranks, free_BI.sum(1))
