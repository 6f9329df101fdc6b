"""The known world as a data source, and the truth that its report shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.interactions import FILM_WORDS, Tables
from sasrecllm.data.synthetic.world import World, known_world
from sasrecllm.evaluation.metrics import auc, uauc


def world_tables(settings: Mapping[str, Any]) -> tuple[World, Tables]:
    """The world of these settings and its two tables."""
    world = known_world(**settings)
    return world, Tables(world.interactions, world.items, "known-world", dict(FILM_WORDS))


def truth_facts(world: World, dataset: Dataset) -> dict[str, Any]:
    """Parameters, and the Bayes ceiling: how well the true probabilities score the test split."""
    frame = world.interactions
    truth = dict(
        zip(zip(frame["user_id"], frame["item_id"], strict=True), world.probability, strict=True)
    )
    asked = dataset.questions("test")
    users = [dataset.catalog.user_id(int(u)) for u in asked.histories.users]
    items = [dataset.catalog.item_id(int(i)) for i in asked.targets]
    p = np.array([truth[pair] for pair in zip(users, items, strict=True)])
    new = ~dataset.seen_items[asked.targets]
    ceiling = {
        "auc": auc(p, asked.labels),
        "uauc": uauc(p, asked.labels, asked.histories.users).value,
        "auc_new_items": auc(p[new], asked.labels[new]),
    }
    return {"parameters": world.truth, "ceiling": ceiling}
