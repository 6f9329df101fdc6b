"""A log and titles of one's own, from CSV to recommendations, in under a minute.

Run: python examples/own_data.py FOLDER
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own-data")
folder.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)
with (folder / "items.csv").open("w", newline="", encoding="utf-8") as stream:
    table = csv.writer(stream)
    table.writerow(["isbn", "name"])
    table.writerows([f"{i:03d}", f"{'Sea' if i % 2 else 'War'} story number {i}"] for i in range(60))
with (folder / "log.csv").open("w", newline="", encoding="utf-8") as stream:
    table = csv.writer(stream)
    table.writerow(["reader", "isbn", "stars", "when"])
    for reader in range(60):
        for n, item in enumerate(rng.permutation(60)[:12]):
            stars = 5 if item % 2 == reader % 2 else 2
            table.writerow(
                [f"reader-{reader}", f"{item:03d}", stars, 1_600_000_000 + 86_400 * n + reader]
            )

columns = "{user_id: reader, item_id: isbn, rating: stars, timestamp: when, title: name}"
settings = [
    "data.source=files", f"data.path={folder / 'log.csv'}", f"data.items_path={folder / 'items.csv'}",
    f"data.columns={columns}", "data.split=global-time",
    "data.words={item: book, items: books, consumed: read}",
    "llm.offline.documents=200", "llm.offline.width=32", "llm.loop.epochs=1", "llm.loop.batch_size=64",
    "encoder.folds=2", "encoder.loop.epochs=5", "evaluation.resamples=100",
    "llm.text_prompt=short-text",
    "llm.soft_prompt=short-soft",
]  # fmt: skip
run = folder / "run"
command = [sys.executable, "-m", "sasrecllm"]
subprocess.run([*command, "run", "--quiet", "--out", str(run), *settings], check=True)
subprocess.run(
    [*command, "recommend", str(run), "--liked", "001", "--liked", "003", "-k", "5"], check=True
)
