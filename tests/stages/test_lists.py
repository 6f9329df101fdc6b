"""Lists follow taste where there is taste, and are popularity where there is none."""

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM, fit
from sasrecllm.checkpoint import read_json
from sasrecllm.config import parse_config
from sasrecllm.errors import ConfigError
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config
from sasrecllm.stages.plan import all_stages, planned

THEMES, OF_THEME, USERS, ROWS = 5, 24, 150, 16
QUICK = {
    "strategy": "encoder-only",
    "encoder.width": 16,
    "encoder.length": 10,
    "encoder.loop.epochs": 1,
    "lists.next_item.loop.epochs": 8,
    "evaluation.ablations": False,
    "evaluation.resamples": 100,
}


def log(*, taste: bool) -> pl.DataFrame:
    """Every user meets items, popular ones more often; he likes what is of his theme, or by chance."""
    rng = np.random.default_rng(1)
    n = THEMES * OF_THEME
    popularity = 1.0 / (1.0 + rng.permutation(n))
    rows = []
    for user in range(USERS):
        theme = user % THEMES
        own = np.arange(n) // OF_THEME == theme
        weight = popularity * np.where(own, 20.0, 1.0) if taste else popularity
        met = rng.choice(n, ROWS, replace=False, p=weight / weight.sum())
        liked = own[met] if taste else rng.random(ROWS) < 0.7
        rows += [
            (f"u{user}", f"i{i}", int(like), t)
            for t, (i, like) in enumerate(zip(met, liked, strict=True))
        ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")


def items() -> pl.DataFrame:
    """Titles that say nothing of the theme."""
    n = THEMES * OF_THEME
    return pl.DataFrame({"item_id": [f"i{i}" for i in range(n)], "title": [f"N{i}x" for i in range(n)]})


def trained(folder, taste: bool, **settings) -> SASRecLLM:
    return fit(log(taste=taste), items(), out=folder, quiet=True, **QUICK, **settings)


@pytest.fixture(scope="module")
def of_taste(tmp_path_factory) -> SASRecLLM:
    return trained(tmp_path_factory.mktemp("taste") / "run", True)


def served_items(system: SASRecLLM, k: int = 10) -> np.ndarray:
    everybody = np.arange(USERS)
    return system.recommend_many(system.dataset.latest(everybody), k).items


def theme_of(system: SASRecLLM, index: int) -> int:
    return int(system.dataset.catalog.item_id(index)[1:]) // OF_THEME


def popular(system: SASRecLLM) -> np.ndarray:
    likes = system.parts.interactions(("train", "valid")).means.likes
    return np.argsort(-likes, kind="stable")


def test_lists_follow_taste_and_popularity_does_not_swallow_them(of_taste):
    lists = served_items(of_taste)
    own = [
        sum(
            theme_of(of_taste, int(i)) == int(of_taste.dataset.catalog.user_id(u)[1:]) % THEMES
            for i in row
        )
        for u, row in enumerate(lists)
    ]
    assert np.mean(own) >= 8
    seen = {
        (int(u), int(i)) for u, i in zip(of_taste.dataset.users, of_taste.dataset.items, strict=True)
    }
    best = popular(of_taste)
    by_popularity = {
        int(i) for u in range(USERS) for i in [j for j in best if (u, int(j)) not in seen][:10]
    }
    assert len(set(lists.ravel().tolist())) >= 3 * min(len(by_popularity), 10)


def test_what_was_met_is_not_recommended_and_filters_hold(of_taste):
    user = of_taste.dataset.catalog.user_id(0)
    met = {
        of_taste.dataset.catalog.item_id(int(i)) for i in of_taste.dataset.latest(np.array([0])).items
    }
    assert not met & {r.item_id for r in of_taste.recommend(user=user, k=100)}
    assert met <= {r.item_id for r in of_taste.recommend(user=user, k=200, seen="allow")}
    only = [f"i{n}" for n in range(0, 30, 3)]
    assert {r.item_id for r in of_taste.recommend(user=user, only=only, seen="allow")} == set(only)


def test_the_probability_is_that_of_the_last_row_whatever_the_order(of_taste):
    user = of_taste.dataset.catalog.user_id(3)
    lines = of_taste.recommend(user=user, k=6)
    expected = of_taste.score_items([r.item_id for r in lines], user=user)
    assert [r.probability for r in lines] == pytest.approx(expected, abs=1e-6)  # another batch


def test_a_loaded_run_gives_the_same_lists(of_taste):
    again = SASRecLLM.from_pretrained(of_taste.place.folder)
    assert again.fusion is not None
    np.testing.assert_array_equal(served_items(again), served_items(of_taste))
    np.testing.assert_array_equal(again.fusion.weights, of_taste.fusion.weights)
    assert [c.name for c in again.fusion.channels] == [c.name for c in of_taste.fusion.channels]


def test_where_nobody_has_taste_lists_are_no_worse_than_popularity(tmp_path):
    system = trained(tmp_path / "run", False)
    about = read_json(RunFolder(tmp_path / "run").stage(4, "lists").about, result=dict)["result"]
    judged = about["judged"]
    assert judged["served"] >= judged["popularity"]
    rows = system.dataset.rows("test")
    rows = rows[system.dataset.labels[rows] == 1]
    histories, targets = system.dataset.histories(rows), system.dataset.items[rows]
    order = system.maker.two_stage(system).lists(histories, 10).items
    found = np.mean((order == targets[:, None]).any(1))
    best = popular(system)[:20]
    chance = np.mean(np.isin(targets, best))
    assert found >= 0.5 * chance  # lists of ten against the twenty most liked


def test_too_few_validation_likes_leave_popularity(tmp_path):
    few = log(taste=True).filter(pl.col("user_id").is_in([f"u{n}" for n in range(12)]))
    system = fit(few, items(), out=tmp_path / "run", quiet=True, **QUICK)
    assert [c.name for c in system.fusion.channels] == ["popularity"]
    assert "too few" in (tmp_path / "run" / "log.txt").read_text("utf-8")


def test_lists_come_last_and_have_no_row():
    for strategy in ("encoder-only", "text-only", "hierarchical-freezing"):
        config = parse_config({"strategy": strategy}, "test")
        assert list(all_stages(config))[-2:] == ["next_item", "lists"]
        assert list(planned(config)) == list(all_stages(config))[:-2]
    off = parse_config({"lists": {"enabled": False}}, "test")
    assert all_stages(off) == planned(off)
    no_network = parse_config({"lists": {"channels": ["popularity", "EASE"]}}, "test")
    assert list(all_stages(no_network))[-1] == "lists"
    assert "next_item" not in all_stages(no_network)


def test_an_unknown_channel_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"no channel 'popularty'.*popularity"):
        parse_config({"lists": {"channels": ["popularty"]}}, "test")


def test_stages_of_lists_can_be_spelt_out(tmp_path):
    stages = [
        {"name": "lists of mine", "task": "fuse_lists", "train": ["list_fusion"]},
        {"name": "encoder", "task": "encode", "train": ["encoder"]},
    ]
    config = parse_config({"strategy": stages, "lists": {"channels": ["popularity"]}}, "test")
    assert list(all_stages(config)) == ["encoder", "fusion", "lists of mine"]


def test_a_run_without_lists_serves_by_its_score(tmp_path):
    system = trained(tmp_path / "run", True, **{"lists.enabled": False})
    assert system.fusion is None
    assert not stored_config(RunFolder(tmp_path / "run")).lists.enabled
    scores = [r.score for r in system.recommend(user="u1", k=8)]
    assert scores == sorted(scores, reverse=True)
