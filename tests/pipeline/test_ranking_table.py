"""Ranking lists of a run: lists whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sasrecllm.checkpoint import read_json
from sasrecllm.config import parse_config
from sasrecllm.fusion.list_rerank import Rerank
from sasrecllm.pipeline.ranking_table import rank, row_scorers
from sasrecllm.pipeline.run import run_all
from sasrecllm.reports.list_tables import ranking_tables
from sasrecllm.runs.opening import open_run, reopen_run
from sasrecllm.runs.system import System
from sasrecllm.stages.list_budget import FEWEST_LISTS, prompt_budget
from sasrecllm.stages.strategies import planned


def test_a_run_on_implicit_feedback_ranks_the_whole_catalogue_and_fixed_lists(tmp_path):
    """A world in which the next item is the one before plus one: SASRec finds it, popularity cannot."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(150):
        start = rng.integers(0, 40)
        lines += [f"u{user},i{(start + k) % 40},{user * 100 + k}" for k in range(8)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    titles = ["item_id,title"] + [f"i{i},Title {i}" for i in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(titles))
    values = {
        "data": {
            "source": "files", "path": str(tmp_path / "log.csv"), "feedback": "implicit",
            "items_path": str(tmp_path / "items.csv"), "split": "leave-one-out",
        },
        "encoder": {"width": 32, "blocks": 1, "length": 10, "loss": "softmax", "dropout": 0.0,
                    "loop": {"epochs": 25, "lr": 0.005, "batch_size": 16, "patience": 25}},
        "strategy": "encoder-only", "fusion": {"enabled": False},
        "evaluation": {"resamples": 100, "ranking": {"negatives": 20}, "baselines": ["Markov chain"]},
    }  # fmt: skip
    run_all(open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True))

    results = read_json(tmp_path / "run/results.json")
    assert results["trivial"][-1] == "popularity"
    for kind in ("1 + 20 items", "whole catalogue"):
        lists = results["ranking"][kind]
        assert lists["lists"] == 150
        hr = {name: got["hr@10"] for name, got in lists["rows"].items()}
        assert hr["SASRec"][0] > 0.95 and hr["Markov chain"][0] > 0.95
        assert hr["popularity"][0] < 0.8
        assert hr["SASRec"][1] <= hr["SASRec"][0] <= hr["SASRec"][2]
    assert "Ranking, whole catalogue, 150 lists" in (tmp_path / "run/results.md").read_text()
    assert "whole catalogue, 150 lists" in (tmp_path / "run/report.html").read_text()


KINDS = {"never": [], "auto": ["whole catalogue"], "always": ["1 + 47 items", "whole catalogue"]}


@pytest.mark.parametrize("when", KINDS)
def test_labels_have_lists_of_the_whole_catalogue_unless_none_are_wanted(tmp_path, when):
    values = {
        "data": {"source": "known-world", "world": {"users": 60, "items": 60, "rows": 12}},
        "encoder": {"prior": "none", "width": 8, "length": 5, "loop": {"epochs": 1}},
        "strategy": "encoder-only",
        "fusion": {"enabled": False}, "evaluation": {"resamples": 100, "ranking": {"when": when}},
    }  # fmt: skip
    run = open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True)
    run_all(run)

    ranking = read_json(run.folder.results)["ranking"]
    assert [k if k[0] == "w" else "1 + 47 items" for k in ranking] == KINDS[when]
    if when == "never":
        return
    lists = ranking["whole catalogue"]
    rows = ["popularity", "ItemKNN", "sequence rules", "SASRec"]
    best = System.load(run.folder).list_fusion.best_channel
    assert best, "what is served stands beside its best channel alone"
    assert list(lists["rows"]) == [*rows, *([best] if best not in rows else []), "list fusion"]
    assert lists["served"] == "list fusion" and lists["users"] <= lists["lists"] == lists["of_lists"]
    for name, got in lists["rows"].items():
        assert 0 < got["chance"] < 0.5 and got["lists"] == lists["lists"]
        assert len(got["hr@10"]) == len(got["novelty"]) == len(got["diversity"]) == 3
        assert got["distinct items"] >= 10 and 0 < got["most frequent list"] <= 1
        assert bool(got["minus popularity"]) == (name != "popularity")
        assert bool(got["served minus it"]) == (name != "list fusion")
    one = lists["rows"]["list fusion"]["minus popularity"]["hr@10"]
    other = lists["rows"]["popularity"]["served minus it"]["hr@10"]
    assert one == other and one[1] <= one[0] <= one[2]


@pytest.mark.parametrize("best", ["popularity", "title words", "next-item encoder"])
def test_what_is_served_stands_beside_its_best_channel_whatever_that_weighs(run, best):
    """One that is a row already stands there once; one of weight 0 is made for the table."""
    opened = reopen_run(run, quiet=True)
    parts = System.load(opened.folder)
    fusion = parts.list_fusion
    kept = [place for place, channel in enumerate(fusion.channels) if channel.name != best]
    parts.list_fusion = replace(
        fusion,
        channels=tuple(fusion.channels[place] for place in kept),
        scales=fusion.scales[kept],
        weights=fusion.weights[kept],
        judged={"EASE": 0.1, best: 0.2, "fusion": 0.4, "served": 0.4},
    )
    *others, served = (scorer.name for scorer in row_scorers(opened, parts, whole=True))
    assert served == "list fusion" and others.count(best) == 1
    assert (others[-1] == best) == (best != "popularity")
    assert best == "popularity" or best not in [
        scorer.name for scorer in row_scorers(opened, parts, whole=False)
    ]


def test_the_served_row_has_what_recommend_gives_and_the_cap_is_said(run, tmp_path):
    """Lists of a sample are the first of those of all; the text of the tables says so."""
    opened = reopen_run(run, quiet=True)
    c = opened.config.evaluation
    few = c.model_copy(update={"ranking": c.ranking.model_copy(update={"users": 12})})
    config = opened.config.model_copy(update={"evaluation": few})
    parts = System.load(opened.folder, config=config)
    lists = rank(replace(opened, config=config), parts.dataset, parts)["whole catalogue"]
    assert lists["lists"] == lists["users"] == 12 < lists["of_users"] <= lists["of_lists"]
    assert lists["rows"]["popularity"]["lists"] == 12
    assert lists["served"] == "list fusion" and lists["served"] in lists["rows"]
    (reranked,) = lists["reranked"]  # the last row of the table, which asks the language model
    text = ranking_tables({"whole catalogue": lists})
    assert f"12 lists of 12 users, a seeded sample of the {lists['of_lists']:,} liked" in text
    assert f"| {reranked}, best 100 reranked |" in text and "| list fusion (served) |" in text


def test_p_like_that_earned_a_weight_is_asked_for_as_many_lists_as_the_budget_has(run):
    """The served row comes first; what it leaves out of a tenth of the prompts, the others get."""
    opened = reopen_run(run, quiet=True)
    parts = System.load(opened.folder)
    fusion = parts.list_fusion
    assert fusion.rerank is None or fusion.rerank.row == "SASRecLLM + fusion"
    lists = {}
    for weight in (0.0, 1.0):
        rerank = Rerank("SASRecLLM + fusion", weight, 1.0, 50, 100, 0.1, 0.2, asks_language_model=True)
        parts.list_fusion = replace(fusion, rerank=rerank)
        lists[weight] = rank(opened, parts.dataset, parts)["whole catalogue"]
    free, asking = (found["rows"]["list fusion"] for found in lists.values())
    assert free["lists"] == lists[0.0]["lists"] > asking["lists"] >= FEWEST_LISTS
    assert "list fusion" not in lists[0.0]["reranked"] and lists[1.0]["reranked"]["list fusion"] == 50
    assert asking["lists"] * 50 <= prompt_budget(opened.config, parts.dataset, planned(opened.config))
    assert asking["hr@10"] != free["hr@10"]
    assert "P(like) of SASRecLLM + fusion adds nothing" in lists[0.0]["fusion"]
    assert "orders the best 50 too" in lists[1.0]["fusion"]
