"""Ranking lists of a run: two stages in one, and lists whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sasrecllm.checkpoint import read_json
from sasrecllm.config import parse_config
from sasrecllm.evaluation.protocol import rank_positives
from sasrecllm.pipeline.rank_lists import Reranked
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.folder import open_run
from sasrecllm.types import UNKNOWN, Histories


class Table:
    """Scores an item by a fixed table; never asked about UNKNOWN."""

    def __init__(self, scores: list[float], *, refuses_unknown: bool = False) -> None:
        self.name, self.scores, self.refuses = "table", np.array(scores), refuses_unknown
        self.asked = 0

    def score(self, histories, candidates):
        assert not self.refuses or (candidates != UNKNOWN).all()
        self.asked += candidates.size
        return self.scores[candidates]


def nobody(count: int) -> Histories:
    nothing = np.empty(0, dtype=np.int64)
    zeros = np.zeros(count, dtype=np.int64)
    return Histories(
        zeros - 1, nothing, nothing.astype(np.int8), nothing, np.zeros(count + 1, np.int64), zeros
    )


LISTS = np.array([[0, 1, 2, 3, 4], [4, 0, 1, UNKNOWN, UNKNOWN]])


def test_only_the_first_stages_best_are_asked_again_and_stay_before_the_others():
    first, second = Table([1, 5, 4, 3, 2, 0]), Table([9, 1, 2, 8, 7, 0], refuses_unknown=True)
    both = Reranked("both", first, second, 3)
    order = np.argsort(-both.score(nobody(2), LISTS), axis=1)
    # First stage: 1, 2, 3 | 4, 0.  Second among the three: 3, 2, 1.
    assert LISTS[0][order[0]].tolist() == [3, 2, 1, 4, 0]
    # The list with two empty places: the three items in the second stage's order, then nothing.
    assert LISTS[1][order[1]].tolist() == [0, 4, 1, UNKNOWN, UNKNOWN]
    assert second.asked == 6


def test_an_empty_place_never_stands_before_an_item():
    table = Table([5.0, 1.0, 2.0, 3.0, 0.0, 99.0])  # index -1 would be the highest
    assert rank_positives(table, nobody(2), LISTS).tolist() == [1.0, 3.0]


def test_reranking_everything_is_the_second_stage_alone():
    rng = np.random.default_rng(0)
    first, second = Table(list(rng.normal(size=30))), Table(list(rng.normal(size=30)))
    lists = np.stack([rng.permutation(30)[:20] for _ in range(7)])
    both = Reranked("both", first, second, 20)
    np.testing.assert_array_equal(
        rank_positives(both, nobody(7), lists), rank_positives(second, nobody(7), lists)
    )


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


@pytest.mark.parametrize("when", ["never", "always"])
def test_ranking_is_asked_for_or_not(tmp_path, when):
    values = {
        "data": {"source": "known-world", "world": {"users": 60, "items": 60, "rows": 12}},
        "encoder": {"width": 8, "length": 5, "loop": {"epochs": 1}}, "strategy": "encoder-only",
        "fusion": {"enabled": False}, "evaluation": {"resamples": 100, "ranking": {"when": when}},
    }  # fmt: skip
    run = open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True)
    run_all(run)

    assert bool(read_json(run.folder / "results.json")["ranking"]) == (when == "always")
