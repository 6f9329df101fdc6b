"""The README's blocks run as they stand, on a small run and small files instead of those they name."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sasrecllm.config import load_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of a language, in the README's order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for kind, text in fenced if kind == language]


def test_the_python_block_runs(run):
    (code,) = blocks("python")
    assert '"runs/demo"' in code
    names = {}
    exec(code.replace('"runs/demo"', repr(str(run))), names)
    assert len(names["system"].recommend(user="u0007", k=10)) == 10


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The files that the README's own-data block names: 60 users, 40 items, 12 rows each."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 12)
    items = np.concatenate([rng.permutation(40)[:12] for _ in range(60)])
    log = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in users],
            "item_id": [f"{i:03}" for i in items],
            "timestamp": 1_600_000_000 + rng.permutation(len(users)) * 3600,
        }
    )
    log.write_csv(folder / "orders.csv")
    log.with_columns(rating=pl.Series(rng.integers(1, 6, len(users)))).write_csv(folder / "ratings.csv")
    log.with_columns(label=pl.Series(rng.integers(0, 2, len(users)))).write_parquet(
        folder / "shown.parquet"
    )
    titles = pl.DataFrame({"item_id": [f"{i:03}" for i in range(40)]}).with_columns(
        title="Title " + pl.col("item_id")
    )
    for name in ("books", "articles", "products"):
        titles.write_csv(folder / f"{name}.csv")
    return folder


RUNS = [
    command
    for block in blocks("")
    for command in re.sub(r"\\\n\s*", "", block).splitlines()
    if command.startswith(("sasrecllm run", "torchrun"))
]
OWN = [command for command in RUNS if "data.source=files" in command]


def test_every_setting_in_the_readme_is_one():
    assert len(RUNS) > len(OWN)
    for command in RUNS:
        words = shlex.split(command, comments=True)
        overrides = [w for w in words if re.match(r"^[a-z_.]+=", w)]
        config = words[words.index("--config") + 1] if "--config" in words else None
        load_config(ROOT / config if config else None, overrides)


def test_three_kinds_of_own_data_are_shown():
    assert len(OWN) == 3


@pytest.mark.parametrize("command", OWN, ids=["ratings", "labels", "purchases"])
def test_the_own_data_commands_read_and_split_such_files(command, shop, cli, tmp_path):
    """``prepare`` in place of ``run``: what these commands train is tested elsewhere."""
    words = shlex.split(command)[2:]
    out = words.index("--out") + 1
    words[out] = str(tmp_path / "run")
    said = cli("prepare", *words, cwd=shop)
    assert "train" in said and (tmp_path / "run/data").is_dir()
