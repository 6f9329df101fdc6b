"""A log and titles of one's own, from two frames to lists with reasons, in under a minute.

Run: python examples/quickstart.py
"""

from __future__ import annotations

import numpy as np
import polars as pl

import sasrecllm

if __name__ == "__main__":
    # Readers who like sea stories or war stories, ten books each; pandas' frames do as well.
    rng = np.random.default_rng(0)
    reads = [
        (f"reader {r}", f"{book:03d}", 5 if book % 2 == r % 2 else 2, 1_600_000_000 + 86_400 * n + r)
        for r in range(80)
        for n, book in enumerate(rng.permutation(50)[:10])
    ]
    log = pl.DataFrame(reads, ["user_id", "item_id", "rating", "timestamp"], orient="row")
    kinds = ["War", "Sea"]
    books = pl.DataFrame(
        {
            "item_id": [f"{b:03d}" for b in range(50)],
            "title": [f"{kinds[b % 2]} story {b}" for b in range(50)],
        }
    )

    system = sasrecllm.fit(log, books, strategy="encoder-only", encoder={"loop": {"epochs": 15}})

    print(system.evaluate())
    for line in system.recommend(history=["001", "003", ("002", False)], k=5):
        print(line.rank, line.title, f"{line.probability:.2f}")
    print(system.explain("005", ["001", "003"]).nearest[0].title, "is nearest to story 005")
