"""The wheel in an empty environment: from a CSV file to lists, away from the checkout.

``make wheel`` runs it.  It builds the wheel, installs it with what it needs and nothing else, and there
trains on a log that it writes; so whatever the package needs of the checkout is missed here.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = (
    "strategy=encoder-only", "encoder.width=16", "encoder.loop.epochs=1", "encoder.folds=0",
    "evaluation.resamples=100",
)  # fmt: skip


def main() -> None:
    """Build, install, run, recommend; any failure ends it with an error."""
    with tempfile.TemporaryDirectory() as place:
        there = Path(place)
        _call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", there / "dist", ROOT)
        (wheel,) = (there / "dist").glob("*.whl")
        venv.create(there / "empty", with_pip=True)
        python = there / "empty" / "bin" / "python"
        _call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
        write_log(there)
        command = there / "empty" / "bin" / "sasrecllm"
        tables = ("data.source=files", "data.path=ratings.csv", "data.items_path=films.csv")
        _call(command, "run", "-q", "--out", "runs/films", *tables, *SMALL, cwd=there)
        said = _call(command, "recommend", "runs/films", "--liked", "f007", "-k", "5", cwd=there)
        if said.count("A film about") < 5:
            raise SystemExit(f"five films were asked for, and this came:\n{said}")
        _call(
            python,
            "-c",
            "import sasrecllm; sasrecllm.SASRecLLM.from_pretrained('runs/films')",
            cwd=there,
        )
        print(f"{wheel.name}: a CSV file became lists in an empty environment")


def write_log(folder: Path) -> None:
    """``ratings.csv`` and ``films.csv``: 80 people, 60 films, 15 ratings each, seeded."""
    draw = random.Random(0)
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "rating", "timestamp"])
        for user in range(80):
            for film in draw.sample(range(60), 15):
                liked = film % 2 == user % 2
                rows.writerow(
                    [
                        f"u{user:03d}",
                        f"f{film:03d}",
                        4 + liked - draw.randint(0, 2),
                        draw.randint(10**9, 11 * 10**8),
                    ]
                )
    with (folder / "films.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title"])
        rows.writerows([f"f{film:03d}", f"A film about {film}"] for film in range(60))


def _call(*words: object, cwd: Path | None = None) -> str:
    """Run a command without anything of this environment; its output."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SASRECLLM", "COV"))}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=kept,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main()
