"""The study of lists: rivals learn nothing of the test, all are judged alike, goals are counted."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import lists_rival
from benchmarks.lists.judge import METRICS, OURS, _valid_of_served, compare, judge
from benchmarks.lists.page import ABOVE, RIVALS, goals, page
from benchmarks.lists.questions import answers, asked_of, export, served_by
from benchmarks.lists.reranking import FUSION, judged_order, reranking, share_below
from sasrecllm import SASRecLLM
from sasrecllm.data.dataset import TEST, TRAIN, VALID
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.evaluation.served_lists import PLACES, serve
from sasrecllm.fusion.contests import Contests
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data
from sasrecllm.settings import Config
from sasrecllm.stages.list_parts import WITHOUT_OFFSET
from sasrecllm.studies.plan import cells_of, load_plan, settings_of
from sasrecllm.types import UNKNOWN

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "configs" / "studies" / "lists.yaml"
CHANGES = (
    "strategy=encoder-only", "encoder.folds=0", "data.split=leave-one-out",
    "data.split_args={likes: true, least: 4}", "evaluation.ranking.when=never",
    "evaluation.ablations=false", "lists.next_item.seconds=0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def left_out(once, cli):
    """A finished run that leaves out each user's last like."""
    tiny = str(ROOT / "tests" / "tiny.yaml")
    return once(
        "lists-left-out",
        lambda out: cli("run", "--config", tiny, "--quiet", "--out", out, *CHANGES, process=True),
    )


@pytest.fixture(scope="module")
def dataset(left_out):
    return stored_data(RunFolder(left_out))


@pytest.fixture(scope="module")
def rivals(left_out, dataset, tmp_path_factory):
    """Exported rows, and two answers: EASE's own lists under a rival's name, and empty lists."""
    folder = tmp_path_factory.mktemp("rivals")
    export(dataset, folder)
    run = RunFolder(left_out)
    lists, own = SASRecLLM.of_run(run).two_stage(), {}
    for split in ("valid", "test"):
        own[split] = serve(lists, asked_of(dataset, split), dataset.n_items).lists
    about = json.dumps({"version": "1.0", "setting": {"model": "x", "knob": 3}, "tried": [{}, {}]})
    np.savez(folder / "RecTools EASE.lists.npz", **own, about=about)
    empty = {split: np.full_like(lists, UNKNOWN) for split, lists in own.items()}
    np.savez(folder / "RecTools ALS.lists.npz", **empty, about=about)
    return folder


@pytest.fixture(scope="module")
def judged(left_out, rivals):
    return judge(left_out, rivals)


def test_the_plan_serves_lists_by_default_settings_and_leaves_out_a_like():
    plan = load_plan(PLAN)
    for cell in cells_of(plan):
        config = settings_of(plan, cell, PLAN.parent, Path("out"))
        assert config.lists == Config().lists and config.recommend == Config().recommend
        assert config.encoder == Config().encoder and config.fusion == Config().fusion
        assert config.data.split == "leave-one-out"
        assert config.data.split_args == {"likes": True, "least": 4}


def test_every_user_with_enough_likes_is_asked_about_his_last_one(dataset):
    asked = asked_of(dataset, "test")
    likes = np.bincount(dataset.users[dataset.labels == 1], minlength=dataset.n_users)
    for user, target in zip(asked.histories.users, asked.targets, strict=True):
        mine = (dataset.users == user) & (dataset.labels == 1)
        assert target == dataset.items[mine][-1]
    # A like that was met before may not be served where items are not served again.
    assert len(asked.targets) == np.sum(likes >= 4) or not dataset.allow_seen
    assert not asked.free(asked.histories)[asked.histories.owners, asked.histories.items].any()


def test_rivals_are_told_nothing_of_the_test(dataset, rivals):
    rows = lists_rival.read(rivals)
    kept = np.isin(dataset.splits, (TRAIN, VALID))
    np.testing.assert_array_equal(rows.items, dataset.items[kept])
    np.testing.assert_array_equal(rows.validation, dataset.splits[kept] == VALID)
    pairs = set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
    asked = asked_of(dataset, "test")
    assert not pairs & set(zip(asked.histories.users.tolist(), asked.targets.tolist(), strict=True))
    stored = np.load(rivals / "rows.npz")
    assert "targets_test" not in stored and (dataset.splits == TEST).any()


def test_rivals_know_as_much_as_the_channels_and_no_more(dataset, rivals):
    rows = lists_rival.read(rivals)
    train = (dataset.splits == TRAIN) & (dataset.labels == 1)
    assert len(rows.likes("valid")) == train.sum()
    both = np.isin(dataset.splits, (TRAIN, VALID)) & (dataset.labels == 1)
    assert len(rows.likes("test")) == both.sum()
    for split in ("valid", "test"):
        asked = asked_of(dataset, split)
        free = asked.free(asked.histories)
        for row, met in enumerate(rows.met(split)):
            assert set(met) == set(np.flatnonzero(~free[row]))
        longest = max(len(set(met)) for met in rows.met(split))
        assert rows.depth(split) >= min(dataset.n_items, PLACES + longest)


def test_answers_to_other_rows_are_removed(dataset, rivals, tmp_path):
    export(dataset, tmp_path)
    (tmp_path / "RecTools EASE.lists.npz").write_bytes(
        (rivals / "RecTools EASE.lists.npz").read_bytes()
    )
    export(dataset, tmp_path)
    assert len(answers(tmp_path)) == 1, "the same rows again"
    export(dataset.without_users(np.array([0])), tmp_path)
    assert answers(tmp_path) == []


def test_a_split_that_asks_twice_is_refused(run):
    with pytest.raises(ConfigError, match="twice, or after rows") as refusal:
        asked_of(stored_data(RunFolder(run)), "test")
    assert "leave-one-out" in refusal.value.remedy


def test_a_rival_with_our_lists_has_our_numbers(judged):
    ours, theirs = judged["rows"][judged["served"]], judged["rows"]["RecTools EASE"]
    for metric in (*METRICS, "distinct items", "most frequent list"):
        assert theirs[metric] == ours[metric]
    for metric in METRICS:
        assert theirs["fusion minus it"][metric] == [0.0, 0.0, 0.0]
    empty = judged["rows"]["RecTools ALS"]
    assert empty["hr@10"] == [0.0, 0.0, 0.0] and empty["valid"] == 0.0
    assert judged["best"]["RecTools"] == {"test": "RecTools EASE", "validation": "RecTools EASE"}


def test_a_run_compared_with_itself_differs_in_nothing(judged, left_out):
    found = compare(left_out, left_out)
    assert found["difference"] == {metric: [0.0, 0.0, 0.0] for metric in METRICS}
    served = judged["rows"][judged["served"]]
    assert found["lists"][str(left_out)]["hr@10"] == served["hr@10"]
    assert all(
        row["all"][0] == row["all"][1] and row["all"][2:] == [0, 0] for row in found["P(like)"].values()
    )


def test_the_best_of_ours_is_chosen_among_channels_alone(judged):
    ours = {name: row for name, row in judged["rows"].items() if row["of"] == OURS}
    assert {"popularity", "ItemKNN", "EASE", "ALS", "next-item encoder", "list fusion"} <= ours.keys()
    del ours[judged["served"]]
    best = judged["best"][OURS]
    assert best["validation"] == max(ours, key=lambda name: ours[name]["valid"])
    assert best["test"] == max(ours, key=lambda name: ours[name]["ndcg@10"][0])
    against = judged["rows"][best["test"]]
    value = judged["rows"][judged["served"]]["ndcg@10"][0] - against["ndcg@10"][0]
    assert against["fusion minus it"]["ndcg@10"][0] == pytest.approx(value)


def test_the_row_that_is_judged_is_what_recommend_lists(left_out, dataset, judged):
    asked = asked_of(dataset, "test")
    answered = SASRecLLM.of_run(RunFolder(left_out)).two_stage().lists(asked.histories, PLACES)
    hits = (answered.items == asked.targets[:, None]).any(1)
    assert judged["rows"][judged["served"]]["hr@10"][0] == pytest.approx(hits.mean(), abs=1e-12)


@pytest.mark.parametrize("wrong", ["met", "twice", "outside", "fewer"])
def test_lists_that_were_not_asked_for_are_refused(dataset, judged, wrong):
    asked = asked_of(dataset, "test")
    lists = np.full((len(asked.targets), PLACES), UNKNOWN)
    free = np.flatnonzero(asked.free(asked.histories)[0])
    if wrong == "met":
        lists[0, 0] = asked.histories.items[0]
    elif wrong == "twice":
        lists[0, :2] = free[0]
    elif wrong == "outside":
        lists[0, 0] = dataset.n_items
    else:
        lists = lists[1:]
    with pytest.raises(DataError, match="RecTools ALS does not have"):
        served_by("RecTools ALS", lists, asked, dataset.n_items)


def test_the_page_has_every_row_and_names_what_is_missing(judged):
    text = page({"known-world": judged}, ["known-world", "ml-100k"])
    for row in judged["rows"]:
        assert f"| {row} |" in text or f"| **{row}** |" in text
    missing = next(line for line in text.splitlines() if line.startswith("**Not measured:**"))
    assert "all rows of ml-100k" in missing and "RePlay SLIM" in missing
    assert "RecTools EASE" not in missing
    assert "RecTools EASE: knob 3" in text and "RecTools 1.0" in text
    assert judged["date"] in text and "seed 0" in text
    assert f"{judged['lists']:,} lists" in text


def served(hr, minus, distinct=50.0):
    """A judged data set of three rows."""
    other = {m: minus for m in METRICS}
    row = {"hr@10": hr, "ndcg@10": hr, "distinct items": distinct, "valid": 0.1}
    rows = {
        "popularity": row | {"distinct items": 10.0, "fusion minus it": other, "of": OURS},
        "RecTools EASE": row | {"fusion minus it": other, "of": "RecTools"},
        "list fusion": row | {"of": OURS},
    }
    rows |= {f"RecTools {m}": rows["RecTools EASE"] for m in RIVALS["RecTools"]}
    best = {OURS: {"validation": "popularity", "test": "popularity"},
            "RecTools": {"validation": "RecTools EASE", "test": "RecTools EASE"}}  # fmt: skip
    return {"rows": rows, "served": "list fusion", "best": best}


def test_goals_are_reached_missed_or_open():
    up, level, down = [0.02, 0.01, 0.03], [0.0, -0.01, 0.01], [-0.02, -0.03, -0.01]
    found = {name: served([0.3, 0.2, 0.4], up) for name in ABOVE}
    found |= {"ml-100k": served([0.2, 0.1, 0.3], up)}
    lines = goals(found)
    assert lines[0].endswith("not measured.") and "**missed**, .2000" in lines[1]
    assert "reached, 4 of 4" in lines[2] and "reached, 4 of 4" in lines[3]
    assert "reached (5 × on 5 of 5)" in lines[4]
    found[ABOVE[0]] = served([0.3, 0.2, 0.4], level)
    assert "reached, 3 of 4" in goals(found)[2]
    found[ABOVE[0]] = served([0.3, 0.2, 0.4], down)
    assert "**missed**, 3 of 4" in goals(found)[2], "nowhere surely below"
    found[ABOVE[0]] = served([0.3, 0.2, 0.4], up, distinct=29.0)
    assert f"**missed** (5 × on 4 of 5, below three times: {ABOVE[0]})" in goals(found)[4]
    del found[ABOVE[0]]["rows"]["RecTools SASRec"]
    assert "reached, 3 of 3" in goals(found)[3], "what did not answer is no victory"
    del found[ABOVE[0]], found[ABOVE[1]]
    assert f"**open**, 2 of 2 ({ABOVE[2]}" in goals(found)[2]
    assert f"not wholly measured: {ABOVE[0]}, {ABOVE[1]}" in goals(found)[2]


# The rivals' own half ------------------------------------------------------------------------------


def log(**changes):
    """Users 0 and 2: a dislike, likes, and the validation like."""
    given = {
        "users": np.array([0, 0, 0, 2, 2, 2]), "items": np.array([5, 1, 2, 1, 3, 4]),
        "liked": np.array([False, True, True, True, True, True]),
        "validation": np.array([False, False, True, False, False, True]),
        "asked": {"valid": np.array([0, 2]), "test": np.array([2])},
        "targets_valid": np.array([2, 4]), "n_items": 20, "allow_seen": False,
    }  # fmt: skip
    return lists_rival.Rows(**given | changes)


def test_lists_hold_the_best_that_was_not_met():
    rows = log()
    users = np.array([2, 2, 2, 2, 0, 0, 0])
    items = np.array([1, 9, 4, 8, 5, 2, 7])
    found = lists_rival.lists_of(rows, "valid", users, items)
    assert found[0, :3].tolist() == [2, 7, UNKNOWN]
    assert found[1, :4].tolist() == [9, 4, 8, UNKNOWN]
    assert lists_rival.lists_of(rows, "test", users, items)[0, :3].tolist() == [9, 8, UNKNOWN]
    assert lists_rival.ndcg(rows, found) == pytest.approx((1 + 1 / np.log2(3)) / 2)
    again = lists_rival.lists_of(log(allow_seen=True), "test", users, items)
    assert again[0, :5].tolist() == [1, 9, 4, 8, UNKNOWN]


def test_settings_are_chosen_on_validation_alone():
    asked = []

    def fill(rows, split, setting):
        asked.append((split, setting["n"]))
        best = {1: [7, 8], 2: [2, 4], 3: [7, 4]}[setting["n"]]
        lists = np.full((len(rows.asked[split]), PLACES), UNKNOWN)
        lists[:, 0] = best[: len(lists)]
        return lists

    model = lists_rival.searched([{"n": 1}, {"n": 2}, {"n": 3}], fill)
    valid, _, about = model(log())
    assert asked == [("valid", 1), ("valid", 2), ("valid", 3), ("test", 2)]
    assert about["setting"] == {"n": 2} and valid[:, 0].tolist() == [2, 4]
    assert [t["ndcg@10"] for t in about["tried"]] == [0.0, 1.0, 0.5]


def test_a_model_that_fails_is_named_and_the_others_go_on(rivals, monkeypatch, capsys, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.npz").write_bytes((rivals / "rows.npz").read_bytes())
    monkeypatch.setattr(sys, "argv", ["script", str(folder)])

    def broken(rows):
        raise RuntimeError("no Java")

    def fine(rows):
        lists = {s: np.full((len(rows.asked[s]), PLACES), UNKNOWN) for s in ("valid", "test")}
        return lists["valid"], lists["test"], {"setting": {}}

    models = {"ALS": broken, "SLIM": fine}
    assert lists_rival.answer("RePlay", "9.9", models) == 1
    assert "RePlay ALS: FAILED" in capsys.readouterr().out
    (got,) = answers(folder)
    assert got.name == "RePlay SLIM" and got.about["version"] == "9.9"
    assert lists_rival.answer("RePlay", "9.9", {"SLIM": broken}) == 0, "it has answered already"
    monkeypatch.setattr(sys, "argv", ["script", str(folder), "PopRec"])
    assert lists_rival.answer("RePlay", "9.9", {"ALS": broken, "PopRec": fine}) == 0
    assert [got.name for got in answers(folder)] == ["RePlay PopRec", "RePlay SLIM"]


@pytest.mark.parametrize("rival", RIVALS)
def test_the_page_waits_for_the_models_that_the_scripts_ask(rival):
    text = (ROOT / "benchmarks" / f"lists_{rival.lower()}.py").read_text("utf-8")
    for model in RIVALS[rival]:
        assert f'"{model}": ' in text.split("MODELS = {")[1]


# The command ----------------------------------------------------------------------------------------


def test_one_command_names_the_data_that_is_there_and_judges_what_is_finished(tmp_path):
    """With programs that only say what they were asked."""
    data, out, peers = tmp_path / "data", tmp_path / "out", tmp_path / "peers"
    for name in ("ml-100k", "something-else"):
        (data / name).mkdir(parents=True)
    run = out / "ml-100k" / "the-list-fusion" / "seed-0"
    run.mkdir(parents=True)
    (run / "run.json").touch()
    (out / "lastfm-llara" / "the-list-fusion" / "seed-0").mkdir(parents=True)
    said = tmp_path / "said"
    program = peers / "rectools" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" >> {said}\n', "utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {
        "SASRECLLM_DATA": str(data), "SASRECLLM": str(program), "PYTHON": str(program),
    }  # fmt: skip
    command = ["bash", str(ROOT / "benchmarks" / "lists.sh"), str(out), str(peers), "resamples=100"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    folder = out / "ml-100k"
    assert said.read_text("utf-8").splitlines() == [
        f"study configs/studies/lists.yaml --out {out}"
        f" datasets.ml-100k.set.data.path={data}/ml-100k resamples=100",
        f"-m benchmarks.lists export {run} {folder}/rivals",
        f"benchmarks/lists_rectools.py {folder}/rivals",
        f"-m benchmarks.lists judge {run} {folder}",
        f"-m benchmarks.lists page {out}",
    ]
    del environment["SASRECLLM_DATA"]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert refused.returncode and "name the folder with the data sets" in refused.stderr


def contests(own: list[list[float]], liked: list[int]) -> Contests:
    """Lists whose fused score is the same everywhere, with a row's scores ``own``; -1: not there."""
    offsets = np.cumsum([0, *map(len, own)])
    features = np.stack([np.zeros(offsets[-1]), np.concatenate(own)], axis=1)
    places = [-1 if place < 0 else start + place for start, place in zip(offsets, liked, strict=False)]
    return Contests(features, offsets, np.array(places))


def test_a_score_that_knows_the_like_brings_every_like_that_is_there_to_the_front():
    knows = [[float(place == 7) for place in range(50)] for _ in range(40)]
    judged = judged_order(contests(knows, [7] * 30 + [-1] * 10), np.arange(40), seed=0)
    assert judged[FUSION]["found"][0] == 0.75 and judged[FUSION]["above"][0] == 0.5
    assert judged["above"][0] == 1.0
    assert judged["in hindsight"]["ndcg@10"][0] == judged["in hindsight"]["gain"][0] == 0.75
    assert judged["in hindsight"]["weight"] > 0


def test_a_score_that_is_wrong_about_every_like_gets_no_weight_in_hindsight():
    wrong = [[-float(place == 2) for place in range(5)] for _ in range(40)]
    judged = judged_order(contests(wrong, [2] * 40), np.arange(40), seed=0)
    assert judged["above"][0] == 0.0
    assert judged["in hindsight"]["weight"] == 0.0 and judged["in hindsight"]["gain"] == [0.0, 0.0, 0.0]


def test_a_like_is_above_half_of_what_it_is_level_with_and_nothing_is_said_where_it_is_alone():
    shares = share_below(contests([[1.0, 1.0, 0.0, 2.0, 1.0], [3.0], [1.0, 2.0]], [0, 0, -1]), 1)
    assert shares[0] == (1 + 2 * 0.5) / 4 and np.isnan(shares[1:]).all()


def test_every_row_of_a_run_is_tried_on_the_same_likes_and_another_is_refused(left_out):
    found = reranking(left_out, [], 25)
    assert found["likes"] == 25 and {"SASRec", FUSION} <= set(found["rows"])
    for name, row in found["rows"].items():
        assert 0 <= row["above"][0] <= 1
        if name != FUSION:
            gain = row["in hindsight"]["gain"][0]
            assert gain >= 0 and np.isclose(
                row["in hindsight"]["ndcg@10"][0], found["rows"][FUSION]["ndcg@10"][0] + gain
            )
    assert reranking(left_out, ["SASRec"], 25)["rows"]["SASRec"] == found["rows"]["SASRec"]
    with pytest.raises(ConfigError, match="no row 'SASRek'"):
        reranking(left_out, ["SASRek"], 25)


@pytest.mark.parametrize(
    ("channels", "whole", "valid"),
    [
        (["ItemKNN", "EASE"], {"list fusion": 0.2, WITHOUT_OFFSET: 0.1, "title words": 0.21}, 0.2),
        (["ItemKNN", "EASE"], {"list fusion": 0.2, WITHOUT_OFFSET: 0.3}, 0.3),
        (["title words"], {"list fusion": 0.2, WITHOUT_OFFSET: 0.1, "title words": 0.4}, 0.4),
        (["ItemKNN"], {"list fusion": 0.2, WITHOUT_OFFSET: 0.1, "title words": 0.4}, 0.2),
        (["ItemKNN", "EASE"], {}, 0.15),
    ],
)
def test_the_validation_value_of_what_is_served_is_its_own(channels, whole, valid):
    """A channel that was better, and not surely, is not served."""
    named = [SimpleNamespace(name=name) for name in channels]
    fusion = SimpleNamespace(channels=named, whole=whole, judged={"served": 0.15}, name="list fusion")
    assert _valid_of_served(fusion) == valid
