"""A table says what tells its questions apart beside taste."""

import numpy as np
import polars as pl

from sasrecllm import fit
from sasrecllm.checkpoint import read_json


def test_likes_of_what_the_history_holds_beside_others_that_it_never_holds(tmp_path):
    """A basket may hold a thing twice; where the day is all that is known, that is no return to it."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        items = rng.permutation(30)[:9]
        bought = [*items[:8], items[7] if user % 2 else items[8]]  # on the last day twice, or another
        rows += [(f"u{user}", f"i{item}", min(day, 7)) for day, item in enumerate(bought)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(30)], "title": [f"T{n}x" for n in range(30)]}
    )
    options = {"data.split": "leave-one-out", "strategy": "no-network", "evaluation.resamples": 100,
               "lists.channels": ["popularity"]}  # fmt: skip
    for seen, alarmed in (("exclude", True), ("allow", False)):
        out = tmp_path / seen
        fit(log, items, out=out, quiet=True, **options, **{"recommend.seen": seen})
        said = [text for text in read_json(out / "results.json")["alarms"] if "history" in text]
        assert bool(said) == alarmed
    fit(log, items, out=tmp_path / "auto", quiet=True, **options)
    (said,) = [t for t in read_json(tmp_path / "auto/results.json")["alarms"] if "history" in t]
    assert said.startswith(
        "50% of the liked test items stand in their user's history, but 0% of the others"
    )
