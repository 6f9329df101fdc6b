"""Lists follow taste where there is taste, and are popularity where there is none."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM, fit
from sasrecllm.checkpoint import read_json
from sasrecllm.config import parse_config
from sasrecllm.data.candidates import servable_likes
from sasrecllm.errors import ConfigError
from sasrecllm.inference.requests import NewItem
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import open_run
from sasrecllm.runs.stored import stored_config
from sasrecllm.stages.strategies import all_stages, planned

THEMES, OF_THEME, USERS, ROWS = 8, 40, 200, 16
QUICK = {
    "strategy": "encoder-only",
    "encoder.width": 16,
    "encoder.length": 10,
    "encoder.loop.epochs": 1,
    "lists.next_item.loop": {
        "epochs": 8,
        "batch_size": 16,
        "lr": 1e-3,
        "min_lr": 8e-5,
        "warmup_steps": 200,
    },
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
        weight = popularity * np.where(own, 40.0, 1.0) if taste else popularity
        met = rng.choice(n, ROWS, replace=False, p=weight / weight.sum())
        liked = own[met] if taste else rng.random(ROWS) < 0.7
        rows += [
            (f"u{user}", f"i{i}", int(like), t)
            for t, (i, like) in enumerate(zip(met, liked, strict=True))
        ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")


def items(*, words: bool = False) -> pl.DataFrame:
    """Titles that say nothing of the theme, or that name it."""
    n = THEMES * OF_THEME
    names = [f"Theme{i // OF_THEME} N{i}x" if words else f"N{i}x" for i in range(n)]
    return pl.DataFrame({"item_id": [f"i{i}" for i in range(n)], "title": names})


def trained(folder, taste: bool, words: bool = False, **settings) -> SASRecLLM:
    options = QUICK | settings
    return fit(log(taste=taste), items(words=words), out=folder, quiet=True, **options)


@pytest.fixture(scope="module")
def of_taste(tmp_path_factory) -> SASRecLLM:
    return trained(tmp_path_factory.mktemp("taste") / "run", True)


@pytest.fixture(scope="module")
def of_words(tmp_path_factory) -> SASRecLLM:
    """Themes stand in the titles."""
    return trained(tmp_path_factory.mktemp("words") / "run", True, words=True)


@pytest.fixture(scope="module")
def of_none(tmp_path_factory) -> SASRecLLM:
    return trained(tmp_path_factory.mktemp("none") / "run", False)


def served_items(system: SASRecLLM, k: int = 10) -> np.ndarray:
    everybody = np.arange(USERS)
    return system.recommend_many(system.dataset.latest(everybody), k).items


def fans_of(system: SASRecLLM) -> np.ndarray:
    """The theme of every user."""
    return np.array([int(user[1:]) % THEMES for user in system.dataset.catalog.user_ids])


def results_of(system: SASRecLLM) -> dict:
    return read_json(RunFolder(system.place.folder).results)


def test_lists_follow_taste_and_popularity_does_not_swallow_them(of_taste):
    themes = np.array([int(item[1:]) // OF_THEME for item in of_taste.dataset.catalog.item_ids])
    own = (themes[served_items(of_taste)] == fans_of(of_taste)[:, None]).sum(1)
    assert own.mean() >= 8
    rows = results_of(of_taste)["ranking"]["whole catalogue"]["rows"]
    assert rows["popularity"]["lists"] == rows["list fusion"]["lists"] >= 200
    assert rows["list fusion"]["distinct items"] >= 3 * rows["popularity"]["distinct items"]
    worse = rows["popularity"]["served minus it"]["ndcg@10"]
    assert worse[1] > 0, "surely better than popularity"


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


def test_where_nobody_has_taste_lists_are_popularity_and_the_report_says_so(of_none):
    assert of_none.fusion.is_plain
    assert {c.name for c in of_none.fusion.channels} <= {"popularity", "recent popularity"}
    lists = served_items(replaced_fusion(of_none, explore=0))
    likes = of_none.parts.interactions(("train", "valid")).means.likes
    assert likes[lists].mean() > 3 * likes.mean()
    (said,) = {text for text in texts_of(of_none) if "no mixture of channels is better by more" in text}
    assert said.startswith("popularity 100%") or said.startswith("recent popularity 100%")
    report = (of_none.place.folder / "report.html").read_text("utf-8")
    assert "no mixture of channels is better by more" in report
    rows = results_of(of_none)["ranking"]["whole catalogue"]["rows"]
    low, high = rows["popularity"]["served minus it"]["ndcg@10"][1:]
    assert low <= 0 <= high, "not surely worse, nor better"


def test_where_people_have_taste_the_report_names_the_channels(of_taste):
    assert not of_taste.fusion.is_plain
    (said,) = texts_of(of_taste)
    strongest = of_taste.fusion.channels[int(np.argmax(of_taste.fusion.weights))].name
    assert said.startswith(strongest) and "validation likes out of fold" in said
    assert strongest in (of_taste.place.folder / "report.html").read_text("utf-8")


def texts_of(system: SASRecLLM) -> set[str]:
    """What the run says that its lists are made of: in its results, and in its stage."""
    stage = RunFolder(system.place.folder).stage(4, "lists").about
    texts = {read_json(stage, result=dict)["result"]["said"]}
    return texts | {results_of(system)["ranking"]["whole catalogue"]["fusion"]}


def replaced_fusion(system: SASRecLLM, **changes) -> SASRecLLM:
    fusion = replace(system.fusion, **changes)
    return SASRecLLM(system.parts, system.scorer, system.calibration, system.catalog, fusion)


def share_of_lists(system: SASRecLLM, index: int, theme: int) -> tuple[float, float]:
    """In how many lists of its fans an item stands, and in how many of the others'."""
    shown = (served_items(system) == index).any(1)
    fans = fans_of(system) == theme
    return float(shown[fans].mean()), float(shown[~fans].mean())


def test_a_film_added_after_training_is_listed_to_those_whom_it_fits(of_words):
    grown = of_words.with_items([NewItem("new", "Theme3 Newcomer"), NewItem("odd", "Without likeness")])
    n = of_words.catalog.n_items
    fans, others = share_of_lists(grown, n, 3)
    assert fans >= 0.5 and others <= 0.02
    assert share_of_lists(grown, n + 1, 3) == (0, 0), "nothing speaks for it"
    # And without the places for what is new it must win its own.
    assert share_of_lists(replaced_fusion(grown, explore=0), n, 3)[1] == 0
    line = grown.recommend(
        user=of_words.catalog.user_id(int(np.flatnonzero(fans_of(grown) == 3)[0])), k=50
    )
    assert "new" in [r.item_id for r in line]


def test_a_film_that_fits_nobody_s_words_moves_no_list(of_words):
    grown = of_words.with_items([NewItem("odd", "Without likeness")])
    np.testing.assert_array_equal(served_items(grown), served_items(of_words))


def test_an_item_of_the_catalogue_without_a_like_is_listed_by_the_same_rule(tmp_path):
    more = pl.concat(
        [items(words=True), pl.DataFrame({"item_id": ["i9999"], "title": ["Theme3 Newcomer"]})]
    )
    system = fit(log(taste=True), more, out=tmp_path / "run", quiet=True, **QUICK)
    index = system.catalog.item_ids.index("i9999")
    fans, others = share_of_lists(system, index, 3)
    assert fans >= 0.5 and others <= 0.02
    # The same item added later has the same score, to what one more title changes in the words.
    grown = system.with_items([NewItem("twin", "Theme3 Newcomer")])
    scores = grown.fusion.scores(grown.dataset.latest(np.arange(USERS)))
    np.testing.assert_allclose(scores[:, index], scores[:, -1], rtol=1e-6)  # float32 logits


def test_in_the_known_world_new_items_are_found_half_as_often_as_others(tmp_path):
    values = {
        "data": {"source": "known-world"}, "strategy": "encoder-only",
        "encoder": {"width": 8, "length": 5, "loop": {"epochs": 1}},
        "lists": {"channels": ["popularity", "EASE", "ItemKNN", "sequence rules", "title words"]},
        "evaluation": {"resamples": 100, "ablations": False, "ranking": {"when": "never"}},
    }  # fmt: skip
    run_all(open_run(tmp_path / "run", parse_config(values, "test"), "test", quiet=True))
    system = SASRecLLM.from_pretrained(tmp_path / "run")
    data = system.dataset
    rows = servable_likes(data, "test")
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:1500])
    lists = system.two_stage().lists(data.histories(rows), 10).items
    found = (lists == data.items[rows][:, None]).any(1)
    is_new = ~data.seen_items[data.items[rows]]
    assert is_new.sum() > 200
    assert found[is_new].mean() >= 0.5 * found[~is_new].mean()
    never = replaced_fusion(system, explore=0, new=system.fusion.new.with_offset(-1e6))
    without = never.two_stage().lists(data.histories(rows), 10).items
    assert found.mean() >= (without == data.items[rows][:, None]).any(1).mean(), (
        "and nobody pays for it"
    )


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


def singletons() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Everybody likes eight of twelve items; then four with his own words, two of them his alone."""
    users, popular, themes = 60, 12, 20
    titles = {f"p{n}": f"Common P{n}x" for n in range(popular)}
    rows, rng = [], np.random.default_rng(5)
    for user in range(users):
        theme = user % themes
        own = [f"old{theme}", f"older{theme}", f"new{user}", f"newer{user}"]
        titles |= {item: f"Theme{theme} {item}" for item in own}
        met = [*(f"p{n}" for n in rng.permutation(popular)[:8]), *own]
        rows += [(f"u{user}", item, t) for t, item in enumerate(met)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return log, pl.DataFrame({"item_id": list(titles), "title": list(titles.values())})


@pytest.fixture(scope="module")
def of_singletons(tmp_path_factory) -> SASRecLLM:
    options = {
        "strategy": "no-network", "data.split": "leave-one-out", "evaluation.resamples": 100,
        "evaluation.ablations": False, "lists.channels": ["popularity", "ItemKNN", "title words"],
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("singletons") / "run"
    return fit(*singletons(), out=folder, quiet=True, **options)


def test_where_what_is_liked_next_is_new_lists_are_as_good_as_the_words_that_know_it(of_singletons):
    rows = results_of(of_singletons)["ranking"]["whole catalogue"]["rows"]
    assert rows["popularity"]["hr@10"][0] == 0
    assert rows["list fusion"]["hr@10"][0] >= 0.9  # eight items have a user's words
    assert rows["list fusion"]["distinct items"] >= 3 * rows["popularity"]["distinct items"]
    whole = of_singletons.fusion.whole
    assert set(whole) == {"list fusion", "without an offset", "title words"}
    said = results_of(of_singletons)["ranking"]["whole catalogue"]["fusion"]
    assert f"title words {whole['title words']:.4f}" in said


def test_a_channel_that_lists_alone_is_kept_with_the_run_and_lists_items_added_later(of_singletons):
    system = of_singletons
    again = SASRecLLM.from_pretrained(system.place.folder)
    assert again.fusion.whole == system.fusion.whole
    everybody = system.dataset.latest(np.arange(len(system.catalog.user_ids)))
    np.testing.assert_array_equal(
        again.recommend_many(everybody, 10).items, system.recommend_many(everybody, 10).items
    )
    grown = system.with_items([NewItem("late", "Theme3 old3 older3")])
    fan, other = (
        next(u for u in system.catalog.user_ids if int(u[1:]) % 20 == theme) for theme in (3, 4)
    )
    assert "late" in [r.item_id for r in grown.recommend(user=fan, k=10)]
    assert "late" not in [r.item_id for r in grown.recommend(user=other, k=10)]
