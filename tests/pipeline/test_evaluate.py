"""A table says what tells its questions apart beside taste."""

import numpy as np
import polars as pl
import pytest

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


def test_what_a_sum_gains_by_the_language_model_is_measured_against_the_sum_without_it(run):
    """Made again from the kept scores, with the weights that the run would have had without."""
    from sasrecllm.evaluation.metrics import auc
    from sasrecllm.evaluation.protocol import score_questions
    from sasrecllm.fusion.score_fusion import fit_fusion
    from sasrecllm.runs.folder import RunFolder
    from sasrecllm.runs.scorers import component
    from sasrecllm.runs.system import System

    results, system = read_json(run / "results.json"), System.load(RunFolder(run))
    config, data = system.config, system.dataset
    valid, test = data.questions("valid"), data.questions("test")
    names = [n for n in config.fusion.components if n != "llm"]
    scorers = [component(system, name, "text") for name in names]
    columns = {
        split: np.stack([score_questions(s, asked) for s in scorers], axis=1)
        for split, asked in (("valid", valid), ("test", test))
    }
    unseen = {"valid": ~data.seen_items[valid.targets], "test": ~data.seen_items[test.targets]}
    weights = fit_fusion(
        columns["valid"], valid.labels, valid.histories.users, unseen["valid"],
        components=names, pairwise=config.fusion.pairwise,
        worded=["item quality", "user preference"],
    )  # fmt: skip
    without = auc(weights.combine(columns["test"], unseen["test"]), test.labels)
    whole = results["rows"][results["final"]]["metrics"]["auc"]
    asking = results["language_model_rows"]
    assert asking[0] == "text-only LLM" and asking[-1] == results["final"] and "SASRec" not in asking
    assert results["language_model_gain"]["auc"][0] == pytest.approx(whole - without, abs=1e-4)
