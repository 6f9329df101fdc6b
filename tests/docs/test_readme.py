"""The README's blocks run as they stand, on a small run and small files instead of those they name."""

import ast
import functools
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import sasrecllm
from sasrecllm.config import load_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of a language, in the README's order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for kind, text in fenced if kind == language]


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
    rated = log.with_columns(rating=pl.Series(rng.integers(1, 6, len(users))))
    named = rated.with_columns(  # as the README's Python names them
        user_id=pl.col("user_id").replace("u7", "42"),
        item_id=pl.col("item_id").replace("008", "0061120081"),
    )
    named.write_csv(folder / "ratings.csv")
    log.with_columns(label=pl.Series(rng.integers(0, 2, len(users)))).write_parquet(
        folder / "shown.parquet"
    )
    ids = [*(f"{i:03}" for i in range(40)), "0061120081"]
    titles = pl.DataFrame({"item_id": ids}).with_columns(title="Title " + pl.col("item_id"))
    for name in ("books", "articles", "products"):
        titles.write_csv(folder / f"{name}.csv")
    return folder


SMALL = {
    "llm.offline.documents": 50, "llm.offline.width": 16, "llm.offline.layers": 1,
    "llm.offline.heads": 2, "llm.text_prompt": "short-text", "llm.soft_prompt": "short-soft",
    "llm.loop.max_steps": 2, "encoder.folds": 0, "encoder.loop.epochs": 1,
    "evaluation.resamples": 100, "quiet": True,
}  # fmt: skip


def test_the_python_block_runs(shop, monkeypatch):
    """With fewer steps of training, so that it is over in seconds; not a word else."""
    (code,) = blocks("python")
    assert len(code.strip().splitlines()) <= 7
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sasrecllm, "fit", functools.partial(sasrecllm.fit, **SMALL))
    shown = []
    tree = ast.parse(code)
    for number, node in enumerate(tree.body):  # as a notebook shows what an expression gives
        if isinstance(node, ast.Expr):
            call = ast.Expr(ast.Call(ast.Name("shown", ast.Load()), [node.value], []))
            tree.body[number] = ast.fix_missing_locations(ast.copy_location(call, node))
    exec(compile(tree, "README.md", "exec"), {"shown": shown.append})
    known, new, scores, table = shown
    assert len(known) == len(new) == 10 and not {"007", "0061120081"} & {r.item_id for r in new}
    assert 0 < scores[0] < 1 and "SASRecLLM + fusion" in str(table)
    assert Path("runs/books/run.json").is_file()


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
