"""Odd logs from data to report: the card, the verdict and the showcase stand, and none is untrue."""

import numpy as np
import polars as pl
import pytest

from sasrecllm import fit
from sasrecllm.checkpoint import read_json
from sasrecllm.reports.console import print_results
from sasrecllm.runs.folder import RunFolder

FAST = {
    "strategy": "encoder-only", "fusion.enabled": False, "encoder.width": 8, "encoder.blocks": 1,
    "encoder.length": 6, "encoder.loop.epochs": 1, "lists.next_item.loop.epochs": 1,
    "evaluation.ablations": False, "evaluation.resamples": 100,
}  # fmt: skip


def log(users=30, rows=8, items=25, likes=None, columns=("label", "timestamp")):
    rng = np.random.default_rng(2)
    made = []
    for user in range(users):
        for place, item in enumerate(rng.permutation(items)[:rows]):
            like = int(rng.random() < 0.6) if likes is None else likes(user, place)
            made.append(
                (f"u{user}", f"i{item}", like, float(rng.integers(1, 11)), 10 * place + user % 10)
            )
    names = ["user_id", "item_id", "label", "rating", "timestamp"]
    frame = pl.DataFrame(made, schema=names, orient="row")
    return frame.select("user_id", "item_id", *columns)


def in_turn(user, place):
    return (user + place) % 2


def never_last(user, place):
    return in_turn(user, place) if place < 7 else 0


ODD = {
    "ratings of 1 to 10": (log(columns=("rating", "timestamp")), {"data.threshold": 6}, "ratings of 6"),
    "implicit": (log(columns=("timestamp",)), {}, "every row (implicit feedback)"),
    "no times": (log(columns=("label",)), {}, "none in the log"),
    "one user": (log(users=1, rows=25, likes=in_turn), {}, "of 1 user, too few"),
    "no like in the test": (log(likes=never_last), {"data.split": "leave-one-out"}, "0% likes"),
    "ids for titles": (log(), {}, "the titles say nothing but the ids"),
    "no lists": (log(), {"evaluation.ranking.when": "never"}, "evaluation.ranking.when=never"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_run_on_an_odd_log_ends_with_a_report(name, tmp_path, capsys):
    frame, settings, said = ODD[name]
    ids = [f"i{n}" for n in range(25)]
    titles = ids if name.startswith("ids") else [f"{'abcde'[n % 5] * 4} story {n}" for n in range(25)]
    items = pl.DataFrame({"item_id": ids, "title": titles})
    fit(frame, items, out=tmp_path / "run", quiet=True, **(FAST | settings))
    folder = RunFolder(tmp_path / "run")
    html, text = folder.report.read_text("utf-8"), folder.results_table.read_text("utf-8")
    print_results(folder.path)
    shown = capsys.readouterr().out
    for verdict in ("Lists: ", "P(like): ", "Language model: the run has none"):
        assert verdict in html and verdict in text and verdict in shown
    assert said in html
    if name == "no like in the test":
        assert "Lists: not judged (no like of the test may be served)" in text
        assert "AUC is undefined here" in text
    if name == "one user":
        assert next(iter(read_json(folder.showcase))) == "typical user u0"
        assert "too few to tell two rows of a table apart" in html
        assert "P(like): deploy none. No row is surely above .5" in text  # one user has no interval
        assert "surely below .5" not in html
    assert "None" not in text and "nan" not in text
