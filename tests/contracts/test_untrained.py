"""That an item was never trained says nothing of a like: in a world without taste the answer is .5."""

import numpy as np

from sasrecllm.encoders.crossfit import CrossFitted, evened, fold_of_user
from sasrecllm.encoders.table import build_encoder
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.metrics import auc
from sasrecllm.types import Histories, Questions

USERS, ITEMS, EACH, OTHERS, FOLDS = 200, 1200, 4, 4, 4


def world():
    """Likes and others drawn evenly among the items that anybody liked; most of them once."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(USERS), EACH)
    liked = rng.integers(0, ITEMS, len(users))
    others = rng.choice(np.unique(liked), (len(users), OTHERS))
    targets = np.concatenate([liked[:, None], others], axis=1)
    labels = np.zeros(targets.shape, dtype=np.int8)
    labels[:, 0] = 1
    who = np.repeat(users, 1 + OTHERS)
    none = np.empty(0, dtype=np.int64)
    known = Histories(
        who, none, none.astype(np.int8), none, np.zeros(len(who) + 1, dtype=np.int64), who * 0
    )
    rows = np.repeat(np.arange(len(users)), 1 + OTHERS)
    return Questions(known, targets.reshape(-1), labels.reshape(-1), rows), users, liked


def crossfitted(users, liked):
    fold = fold_of_user(USERS, FOLDS, 0)
    seen = [np.bincount(liked[fold[users] != k], minlength=ITEMS) > 0 for k in range(FOLDS)]
    full, *folds = (
        build_encoder("mf", n_items=ITEMS, n_users=USERS, width=4) for _ in range(FOLDS + 1)
    )
    for encoder, items in zip(folds, seen, strict=True):
        encoder.mark_seen(items)
    return CrossFitted(full, folds, fold)


def test_a_missing_vector_does_not_say_that_an_item_was_liked():
    asked, users, liked = world()
    encoder = crossfitted(users, liked)
    missing = encoder.without_vector(asked.histories.users, asked.targets)
    assert auc(missing.astype(float), asked.labels) > 0.6, "the channel is there before it is closed"

    shown, cold = evened(asked, missing)
    left = encoder.without_vector(shown.histories.users, shown.targets)
    assert not (left & ~cold).any(), "what is not shown as new has a vector"
    assert 0 < cold.mean() < 1
    score = cold.astype(float)
    boot = UserBootstrap(shown.histories.users, 200, 0)
    value, low, high = interval(auc(score, shown.labels), boot.auc(score, shown.labels)).to_list()
    assert low <= 0.5 <= high and value == 0.5  # every row has one like among five, cold or not
    rows = shown.targets.reshape(-1, 1 + OTHERS)
    assert (rows[:, 0] == asked.targets.reshape(rows.shape)[:, 0]).all()
    assert all(
        set(now) <= set(then) for now, then in zip(rows, asked.targets.reshape(rows.shape), strict=True)
    )


def test_rows_with_labels_stay_as_they_are():
    asked, _, _ = world()
    alone = Questions(asked.histories, asked.targets, asked.labels, np.arange(len(asked)))
    missing = np.random.default_rng(1).random(len(asked)) < 0.3
    shown, cold = evened(alone, missing)
    assert (shown.targets == asked.targets).all() and (cold == missing).all()
