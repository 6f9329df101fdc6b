"""The known world: what it promises is checked by means that know nothing of how it is made."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.baselines.trivial import TrainMeans
from sasrecllm.data.synthetic.words import PATTERNS, PLACES, QUALIFIERS, THEMES
from sasrecllm.data.synthetic.world import World, WorldSettings, known_world
from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.metrics import auc, uauc

SMALL: dict[str, Any] = {"users": 60, "items": 90, "rows": 20.0}


@pytest.fixture(scope="module")
def world() -> World:
    return known_world()


def codes(frame: pl.DataFrame, column: str) -> np.ndarray:
    return frame[column].str.slice(1).cast(pl.Int64).to_numpy()


def frames_equal(a: World, b: World) -> bool:
    return (
        a.interactions.equals(b.interactions)
        and a.items.equals(b.items)
        and bool((a.probability == b.probability).all())
    )


# ---- form -------------------------------------------------------------------------------------


def test_canonical_form(world: World) -> None:
    rows, items = world.interactions, world.items
    assert rows.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "label": pl.Int8,
        "timestamp": pl.Int64,
        "split": pl.String,
    }
    assert rows.null_count().sum_horizontal().item() == 0
    assert items.columns[:2] == ["item_id", "title"]
    assert items["item_id"].is_unique().all()
    assert set(rows["item_id"]) <= set(items["item_id"])
    assert set(rows["label"]) == {0, 1}
    assert world.probability.shape == (rows.height,)
    assert world.probability.dtype == np.float64


def test_same_seed_same_world_other_seed_other_world() -> None:
    first = known_world(seed=3, **SMALL)
    assert frames_equal(first, known_world(seed=3, **SMALL))
    assert not frames_equal(first, known_world(seed=4, **SMALL))


def test_generation_leaves_the_global_generator_alone() -> None:
    np.random.seed(0)
    expected = np.random.RandomState(0).rand()
    known_world(**SMALL)
    assert np.random.rand() == expected


@pytest.mark.soak
def test_default_is_made_in_three_seconds() -> None:
    start = time.process_time()
    known_world()
    assert time.process_time() - start < 3


def test_size_fits_the_demo(world: World) -> None:
    rows = {s: world.truth[f"rows_{s}"] for s in ("train", "valid", "test")}
    assert sum(rows.values()) == world.interactions.height
    assert 18_000 <= rows["train"] <= 30_000
    assert 3_500 <= rows["valid"] <= 6_000
    assert 5_000 <= rows["test"] <= 8_000


# ---- time, arrivals ---------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(10, 80),
    rows=st.integers(10, 30),
    themes=st.integers(2, len(THEMES)),
    new=st.floats(0.0, 0.3),
)
def test_every_world_keeps_its_promises(
    seed: int, users: int, rows: int, themes: int, new: float
) -> None:
    world = known_world(
        seed=seed, users=users, items=100, rows=rows, themes=themes, liked_themes=1,
        new_users=new, new_items=new,
    )  # fmt: skip
    frame = world.interactions
    assert not frame.select("user_id", "item_id").is_duplicated().any()
    assert world.items["title"].is_unique().all()
    assert ((world.probability > 0) & (world.probability < 1)).all()
    times = {s: frame.filter(pl.col("split") == s)["timestamp"] for s in frame["split"].unique()}
    for earlier, later in (("train", "valid"), ("valid", "test"), ("train", "test")):
        if earlier in times and later in times:
            assert times[earlier].max() < times[later].min()  # type: ignore[operator]
    check_arrivals(world)


def check_arrivals(world: World) -> None:
    frame = world.interactions
    train = frame.filter(pl.col("split") == "train")
    for split, new in world.arrivals.items():
        rows = frame.filter(pl.col("split") == split)
        for name, column in (("users", "user_id"), ("items", "item_id")):
            assert set(new[name]) == set(rows[column]) - set(train[column])
            assert world.truth[f"{name}_new_in_{split}"] == len(new[name])


def test_new_users_and_items_come_in_both_periods(world: World) -> None:
    for split, lowest in (("valid", 0.05), ("test", 0.2)):
        rows = world.interactions.filter(pl.col("split") == split)
        for name, column in (("users", "user_id"), ("items", "item_id")):
            share = rows[column].is_in(world.arrivals[split][name]).mean()
            assert share == pytest.approx(world.truth[f"share_of_{split}_rows_on_new_{name}"], abs=1e-3)
            assert lowest <= share <= 0.36  # type: ignore[operator]


def test_rows_stand_by_user_in_order_of_time(world: World) -> None:
    assert world.interactions.equals(
        world.interactions.sort("user_id", "timestamp", maintain_order=True)
    )


# ---- words ------------------------------------------------------------------------------------


def title_regex() -> re.Pattern[str]:
    theme = "|".join(w for words in THEMES.values() for w in words)
    slots = {"a": theme, "b": theme, "q": "|".join(QUALIFIERS), "p": "|".join(PLACES)}
    forms = []
    for pattern in PATTERNS:
        form = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")
        forms.append(form.format(**{k: f"(?:{v})" for k, v in slots.items()}))
    return re.compile("|".join(forms))


def test_titles_read_like_titles(world: World) -> None:
    form = title_regex()
    assert all(form.fullmatch(title) for title in world.items["title"])
    assert world.items["title"].str.split(" ").list.len().is_between(2, 6).all()


def test_no_word_stands_in_two_lists() -> None:
    lists = [*THEMES.values(), QUALIFIERS, PLACES]
    counts = Counter(word for words in lists for word in words)
    assert [word for word, n in counts.items() if n > 1] == []
    assert all(len(words) >= 12 for words in lists)
    assert len(THEMES) >= 8


def naive_bayes_accuracy(titles: list[str], kinds: np.ndarray) -> float:
    """Ten-fold accuracy of guessing the kind of an item from the words of its title."""
    bags = [set(re.findall(r"\w+", t.lower())) for t in titles]
    vocabulary = {w: i for i, w in enumerate(sorted(set().union(*bags)))}
    seen = np.zeros((len(bags), len(vocabulary)))
    for row, bag in enumerate(bags):
        seen[row, [vocabulary[w] for w in bag]] = 1
    onehot = np.eye(kinds.max() + 1)[kinds]
    fold = np.arange(len(bags)) % 10
    right = 0
    for k in range(10):
        held = fold == k
        count = onehot[~held].T @ seen[~held]
        log_rate = np.log((count + 0.1) / (onehot[~held].sum(0)[:, None] + 0.2))
        right += int(((seen[held] @ log_rate.T).argmax(1) == kinds[held]).sum())
    return right / len(bags)


def test_words_betray_the_theme_and_not_the_cluster(world: World) -> None:
    titles = world.items["title"].to_list()
    theme = np.unique(world.items["theme"].to_numpy(), return_inverse=True)[1]
    cluster = codes(world.items, "cluster")
    n, chance = len(titles), 1 / (cluster.max() + 1)
    assert naive_bayes_accuracy(titles, theme) > 0.97
    noise = (chance * (1 - chance) / n) ** 0.5
    assert abs(naive_bayes_accuracy(titles, cluster) - chance) < 4 * noise


def test_theme_and_cluster_are_independent() -> None:
    chi, cells = 0.0, 0
    for seed in range(5):  # the sum over five worlds; one world alone may lie in the tail
        items = known_world(seed=seed, users=20).items
        theme = np.unique(items["theme"].to_numpy(), return_inverse=True)[1]
        table = np.zeros((theme.max() + 1, codes(items, "cluster").max() + 1))
        np.add.at(table, (theme, codes(items, "cluster")), 1)
        expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
        chi += float(((table - expected) ** 2 / expected).sum())
        cells += (table.shape[0] - 1) * (table.shape[1] - 1)
    assert abs(chi - cells) < 4 * (2 * cells) ** 0.5


def test_new_items_use_words_that_training_showed(world: World) -> None:
    titles = dict(zip(world.items["item_id"], world.items["title"], strict=True))

    def words(ids: Iterable[str]) -> set[str]:
        return {w for i in ids for w in re.findall(r"\w+", titles[i].lower())}

    train = world.interactions.filter(pl.col("split") == "train")
    assert words(world.arrivals["test"]["items"]) <= words(set(train["item_id"]))


# ---- preference -------------------------------------------------------------------------------


def test_probability_is_calibrated(world: World) -> None:
    order = np.argsort(world.probability)
    label = world.interactions["label"].to_numpy()
    for block in np.array_split(order, 10):
        p = world.probability[block]
        assert abs(label[block].mean() - p.mean()) < 4 * (p * (1 - p)).mean() ** 0.5 / len(p) ** 0.5


def affinity(world: World, kind: np.ndarray) -> np.ndarray:
    """Share of the user's earlier likes that went to items of the same kind, shape [N]."""
    frame = world.interactions.select(
        "user_id", "label", kind=pl.Series(kind[codes(world.interactions, "item_id")])
    )
    earlier = pl.col("label").cast(pl.Int64).cum_sum() - pl.col("label")
    same = frame.select(same=earlier.over("user_id", "kind"), all=earlier.over("user_id"))
    return (same["same"] / (same["all"] + 1)).to_numpy()


@pytest.mark.parametrize("seed", [0, 1])
def test_halves_add_up_and_trivial_rows_stay_behind(seed: int) -> None:
    world = known_world(seed=seed)
    frame = world.interactions
    user, item = codes(frame, "user_id"), codes(frame, "item_id")
    label = frame["label"].to_numpy()
    train, test = ((frame["split"] == s).to_numpy() for s in ("train", "test"))
    means = TrainMeans.fit(
        user[train], item[train], label[train],
        n_users=user.max() + 1, n_items=world.items.height,
    )  # fmt: skip
    theme = np.unique(world.items["theme"].to_numpy(), return_inverse=True)[1]
    by_theme, by_cluster = (affinity(world, k) for k in (theme, codes(world.items, "cluster")))
    scores = {
        "item mean": means.item(item),
        "two means": means.item(item) + means.user(user),
        "theme": by_theme,
        "cluster": by_cluster,
        "both": by_theme + by_cluster,
        "ceiling": world.probability,
    }
    areas = {k: auc(v[test], label[test]) or 0.0 for k, v in scores.items()}
    per_user = {k: uauc(v[test], label[test], user[test]).value or 0 for k, v in scores.items()}
    for metric in (areas, per_user):
        trivial = max(metric["item mean"], metric["two means"])
        assert min(metric["theme"], metric["cluster"]) > 0.6
        assert metric["both"] > max(metric["theme"], metric["cluster"]) + 0.015
        assert metric["both"] > trivial + 0.15
        assert 0.88 < metric["ceiling"] < 0.96
        assert metric["ceiling"] > metric["both"] + 0.04


def test_ids_alone_say_nothing_of_new_items(world: World) -> None:
    # A new item has no train row, so its item mean is the global mean for every one of them.
    train = world.interactions.filter(pl.col("split") == "train")
    assert not set(world.arrivals["test"]["items"]) & set(train["item_id"])


def test_choice_of_items_betrays_clusters() -> None:
    """Users rate home clusters oftener than others: co-occurrence alone is a signal."""

    def spread(**kw: Any) -> float:
        world = known_world(seed=0, **kw)
        frame = world.interactions
        cluster = codes(world.items, "cluster")[codes(frame, "item_id")]
        counts = np.zeros((codes(frame, "user_id").max() + 1, cluster.max() + 1))
        np.add.at(counts, (codes(frame, "user_id"), cluster), 1)
        return float((counts / np.maximum(counts.sum(1, keepdims=True), 1)).std())

    assert spread() > 1.3 * spread(lean_cluster=0.0)


def test_appeal_lies_in_the_words() -> None:
    """With a weight, the words of a title move everybody; without, they do not."""

    def fit(appeal: float) -> float:
        """How well the best weighting of nouns and qualifiers explains the items' mean logits."""
        world = known_world(appeal=appeal, theme=0.0, cluster=0.0, quality=0.0, seed=2)
        logit = np.log(world.probability / (1 - world.probability))
        item = codes(world.interactions, "item_id")
        mean = np.bincount(item, logit) / np.maximum(np.bincount(item), 1)
        titles = world.items["title"].to_list()[: len(mean)]
        words = sorted({w for t in titles for w in re.findall(r"\w+", t.lower())})
        seen = np.array([[w in re.findall(r"\w+", t.lower()) for w in words] for t in titles])
        design = np.c_[seen, np.ones(len(mean))].astype(float)
        rest = mean - design @ np.linalg.lstsq(design, mean)[0]
        return float(1 - rest.var() / mean.var())

    assert fit(1.5) > 0.9
    assert fit(0.0) < 0.4


def test_effects_of_size_zero_leave_a_fair_coin() -> None:
    flat = dict.fromkeys(("theme", "cluster", "quality", "level", "drift", "base"), 0.0)
    assert (known_world(**SMALL, **flat).probability == 0.5).all()


# ---- the report's truth, refusals -------------------------------------------------------------


def test_truth_is_json_and_holds_every_parameter(world: World) -> None:
    truth = json.loads(json.dumps(world.truth))
    assert truth == world.truth
    assert set(WorldSettings.__dataclass_fields__) <= set(truth)
    again = known_world(**{k: truth[k] for k in WorldSettings.__dataclass_fields__})
    assert frames_equal(again, world)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"user": 9}, "users"),
        ({"users": 3}, "10 to 9999"),
        ({"users": "many"}, "data.world.users is 'many'"),
        ({"users": True}, "data.world.users is True"),
        ({"items": 12}, "30 to 9999"),
        ({"rows": 300}, "data.world.rows is 300"),
        ({"themes": 99}, f"2 to {len(THEMES)}"),
        ({"liked_themes": 99}, "liked_themes is 99"),
        ({"theme": float("nan")}, "data.world.theme is nan"),
        ({"cuts": [0.9, 0.2]}, "rising"),
        ({"cuts": 0.5}, "two numbers"),
        ({"seed": -1}, "data.world.seed"),
        ({"nouns": 2, "items": 600}, "titles"),
    ],
)
def test_refusals_name_culprit_and_remedy(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        known_world(**wrong)
    assert said in caught.value.what
    assert "data.world" in caught.value.what
    assert caught.value.remedy
