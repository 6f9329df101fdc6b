"""A small shop: ratings of items with taste, day after day, under column names of its own."""

import numpy as np
import polars as pl

COLUMNS = {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "at", "title": "name"}
SMALL = {
    "strategy": "encoder-only",
    "encoder": {"width": 8, "blocks": 1, "length": 5, "loop": {"epochs": 2, "batch_size": 8}},
    "lists": {"next_item": {"seconds": 1}},
    "evaluation": {"resamples": 100, "ablations": False},
    "quiet": True,
}
START, DAY = 1_600_000_000, 86_400


def log_of(users, days, seed=0, items=30):
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{u}", f"i{i}", 5 if i % 2 == u % 2 else 2, START + DAY * day + 60 * u)
        for u in users
        for day, i in zip(days, rng.permutation(items), strict=False)
    ]
    return pl.DataFrame(rows, ["who", "what", "stars", "at"], orient="row")


def shelf(numbers):
    ids, titles = [f"i{n}" for n in numbers], [f"The {n % 3} story {n}" for n in numbers]
    return pl.DataFrame({"what": ids, "name": titles})
