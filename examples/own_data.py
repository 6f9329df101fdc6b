"""Files with columns of their own names, every stage with a language model, a run folder that stays.

Run: python examples/own_data.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

import sasrecllm

# A language model of a size for a laptop's minute; without these lines the defaults take their time.
SMALL = {
    "llm.offline.documents": 200, "llm.offline.width": 32, "llm.loop.epochs": 1,
    "llm.loop.batch_size": 64, "llm.text_prompt": "short-text", "llm.soft_prompt": "short-soft",
    "encoder.folds": 2, "encoder.loop.epochs": 5, "evaluation.resamples": 100,
}  # fmt: skip

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own-data")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    log = [
        (f"reader-{r}", f"{book:03d}", 5 if book % 2 == r % 2 else 2, 1_600_000_000 + 86_400 * n + r)
        for r in range(60)
        for n, book in enumerate(rng.permutation(60)[:12])
    ]
    pl.DataFrame(log, ["reader", "isbn", "stars", "when"], orient="row").write_csv(folder / "log.csv")
    pl.DataFrame(
        {
            "isbn": [f"{b:03d}" for b in range(60)],
            "name": [f"{'Sea' if b % 2 else 'War'} story number {b}" for b in range(60)],
        }
    ).write_csv(folder / "items.csv")

    system = sasrecllm.fit(
        folder / "log.csv",
        folder / "items.csv",
        out=folder / "run",  # serve it: sasrecllm serve FOLDER/run
        columns={
            "user_id": "reader", "item_id": "isbn", "rating": "stars", "timestamp": "when",
            "title": "name",
        },
        data={"words": {"item": "book", "items": "books", "consumed": "read"}},
        **SMALL,
    )  # fmt: skip
    print(system.evaluate())
    new = system.with_items([sasrecllm.NewItem("new", "Sea story that nobody has read")])
    print(new.score_items(["new"], history=["001", "003"]))
