"""The embedded default: a small world whose truth is known.

Every item has a *theme*, which the words of its title betray, a crowd *cluster*, which only the
behaviour of users betrays, and a *quality*.  Every user likes some themes and dislikes the others,
is at home in some clusters and a stranger in the others, and has a *level* (mild or strict) that
drifts.  With tastes of +1 and −1, a user likes an item with probability

    P(like) = sigmoid(base + level_u(t) + a * taste_u[theme] + b * home_u[cluster] + c * quality
                      + d * appeal)

So a reader of words sees one half of the preference and a reader of ids the other, and on an item
that is new only the words are left.  (The *appeal* of a title's words to everybody is an extra
that has no weight unless it is given one.)  Users choose what they rate a little by theme and more
by cluster, so that who consumed what betrays the clusters too.  New users and new items arrive in
the validation period and in the test period, so validation can teach how far to trust each half.
The probabilities are kept: their AUC is the Bayes ceiling.

Legend: U users, I items, K kinds of a taste, N rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from sasrecllm.data.synthetic.words import THEMES, make_titles, titles_of_a_theme
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.seeds import WORLD_TITLES
from sasrecllm.types import FloatArray, IntArray

START = 1_577_836_800  # 2020-01-01 UTC
DAY = 86_400
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Parameters of the world; all stand in the report.

    Args:
        rows: mean number of rows of a user.
        themes, nouns: how many themes, and how many words betray each.
        liked_themes, home_clusters: how many of them a user likes; the rest he dislikes.
        base: what is added to every logit.
        appeal, theme, cluster, quality, level, drift: sizes of the effects on the logit.
        lean_theme, lean_cluster, fame: what decides the choice of items to rate, as Gumbel utility.
        new_users, new_items: share of users and items that arrive after training.  What is new is
            busy, so their share of the later rows is about three times as large.
        days: length of the world's time; validation and test begin at ``cuts`` of it.
    """

    users: int = 900
    items: int = 500
    rows: float = 36.0
    themes: int = 6
    nouns: int = 8
    clusters: int = 4
    liked_themes: int = 2
    home_clusters: int = 1
    base: float = 0.3
    appeal: float = 0.0
    theme: float = 3.0
    cluster: float = 2.5
    quality: float = 0.6
    level: float = 0.7
    drift: float = 0.3
    lean_theme: float = 0.5
    lean_cluster: float = 0.9
    fame: float = 0.5
    new_users: float = 0.08
    new_items: float = 0.07
    days: int = 360
    cuts: tuple[float, float] = (0.81, 0.90)
    seed: int = 0


@dataclass(frozen=True)
class World:
    """The two tables, and what nobody knows of a real data set.

    Args:
        interactions: user_id, item_id, label, timestamp, split; by user, oldest first.
        items: item_id, title; theme and cluster, which no model may read.
        probability: true P(like) of every row of ``interactions``, shape [N].
        truth: all parameters, names of the themes and counts, as plain values.
        arrivals: for ``valid`` and ``test``, the ``users`` and ``items`` with rows there and no
            train row, ascending.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    probability: FloatArray
    truth: dict[str, Any]
    arrivals: dict[str, dict[str, list[str]]]


def known_world(**settings: Any) -> World:
    """Generate the world; the same settings (see :class:`WorldSettings`) give the same world.

    Raises:
        ConfigError: an unknown parameter or an impossible value.
    """
    return _Generator(_checked(settings)).world()


def _checked(settings: dict[str, Any]) -> WorldSettings:
    defaults = asdict(WorldSettings())
    for key, value in settings.items():
        if key not in defaults:
            raise ConfigError(
                f"data.world has the parameter {key!r}; allowed: {', '.join(defaults)}"
                + did_you_mean(key, defaults),
                "rename or remove it",
            )
        if not _fits(value, defaults[key]):
            kind = "two numbers" if key == "cuts" else f"a {type(defaults[key]).__name__}"
            raise ConfigError(
                f"data.world.{key} is {value!r}; allowed: {kind}",
                f"leave it out, or set it to something like {defaults[key]}",
            )
    chosen = WorldSettings(**settings)
    for key, low, high in _ranges(chosen):
        if not low <= getattr(chosen, key) <= high:
            raise ConfigError(
                f"data.world.{key} is {getattr(chosen, key)}; allowed: {low} to {high}",
                "choose a value in that range (the bounds depend on the other parameters)",
            )
    if not 0 < chosen.cuts[0] < chosen.cuts[1] < 0.95:
        raise ConfigError(
            f"data.world.cuts is {chosen.cuts}; allowed: two rising shares between 0 and 0.95",
            "set data.world.cuts: [0.81, 0.90]",
        )
    per_theme, room = -(-chosen.items // chosen.themes), titles_of_a_theme(chosen.nouns) // 2
    if per_theme > room:
        raise ConfigError(
            f"data.world: {per_theme} items of a theme need as many titles, but {chosen.nouns}"
            f" nouns allow {room}",
            "raise data.world.nouns or data.world.themes, or lower data.world.items",
        )
    return chosen


def _fits(value: Any, default: Any) -> bool:
    """Whether ``value`` is of the kind of ``default``; an int may stand for a float."""
    if isinstance(default, tuple):
        listed = isinstance(value, list | tuple) and len(value) == len(default)
        return listed and all(_fits(v, d) for v, d in zip(value, default, strict=True))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(np.isfinite(value)) and (isinstance(default, float) or isinstance(value, int))


def _ranges(s: WorldSettings) -> list[tuple[str, float, float]]:
    return [
        ("users", 10, 9_999),
        ("items", 30, 9_999),
        ("rows", 10, s.items / 3),
        ("themes", 2, len(THEMES)),
        ("nouns", 2, 16),
        ("clusters", 2, s.items),
        ("liked_themes", 0, s.themes),
        ("home_clusters", 0, s.clusters),
        ("new_users", 0, 0.5),
        ("new_items", 0, 0.5),
        ("days", 1, 36_500),
        ("seed", 0, 2**63 - 1),
    ]


class _Generator:
    """One world in the making; every draw comes from one seeded generator, in a fixed order."""

    def __init__(self, s: WorldSettings) -> None:
        self.s = s
        self.rng = rng = np.random.default_rng(s.seed)
        self.themes = list(THEMES)[: s.themes]
        # Themes and clusters are equally frequent and independent of each other.
        self.item_theme = rng.permutation(np.arange(s.items) % s.themes)
        self.item_cluster = rng.permutation(np.arange(s.items) % s.clusters)
        # Titles have a generator of their own: other words leave the rest of the world as it is.
        own = np.random.default_rng([s.seed, WORLD_TITLES])
        names = [self.themes[t] for t in self.item_theme]
        self.titles, self.item_appeal = make_titles(own, names, s.nouns)
        self.item_quality = rng.normal(size=s.items)
        self.item_fame = rng.normal(size=s.items)
        self.item_birth = self._births(s.items, s.new_items, spread=0.0)
        self.user_birth = self._births(s.users, s.new_users, spread=0.3)
        self.user_level = rng.normal(size=s.users) * s.level
        self.user_drift = rng.normal(size=s.users) * s.drift
        # Shape [U, I]: +1 where the user likes the item's theme or is at home in its cluster.
        self.taste = _tastes(rng, s.users, s.themes, s.liked_themes)[:, self.item_theme]
        self.home = _tastes(rng, s.users, s.clusters, s.home_clusters)[:, self.item_cluster]

    def world(self) -> World:
        """What happened: exposures in the order of time, with their likes and the truth."""
        user, item, time = self._exposures()
        probability = self._probability(user, item, time)
        label = (self.rng.random(len(user)) < probability).astype(np.int8)
        moment = (time * self.s.days * DAY).astype(np.int64)
        cuts = (np.asarray(self.s.cuts) * self.s.days * DAY).astype(np.int64)
        split = np.asarray(SPLITS)[np.searchsorted(cuts, moment, "right")]
        interactions = pl.DataFrame(
            {
                "user_id": _ids("u", user),
                "item_id": _ids("m", item),
                "label": label,
                "timestamp": START + moment,
                "split": split,
            }
        )
        items = pl.DataFrame(
            {
                "item_id": _ids("m", np.arange(self.s.items)),
                "title": self.titles,
                "theme": [self.themes[t] for t in self.item_theme],
                "cluster": _ids("c", self.item_cluster),
            }
        )
        arrivals = _arrivals(interactions)
        truth = {**asdict(self.s), "cuts": list(self.s.cuts), "theme_names": self.themes}
        truth |= _counts(interactions, arrivals)
        return World(interactions, items, probability, truth, arrivals)

    def _births(self, n: int, share: float, spread: float) -> FloatArray:
        """When each arrives: most at the beginning, ``share`` of them after training ends.

        The square lets more of the late ones come soon, so that validation sees enough of them.
        """
        first = self.s.cuts[0]
        late = first + self.rng.random(n) ** 2 * (0.95 - first)
        return np.where(self.rng.random(n) < share, late, self.rng.random(n) * spread)

    def _exposures(self) -> tuple[IntArray, IntArray, FloatArray]:
        """User, item and time (0 to 1) of every row [N], by user and time; no pair twice.

        A user rates the items with his highest utilities; Gumbel noise makes that a draw without
        replacement.  He meets each of them at some moment when both exist.
        """
        s, rng = self.s, self.rng
        utility = s.fame * self.item_fame + rng.gumbel(size=(s.users, s.items))
        utility += s.lean_theme * self.taste + s.lean_cluster * self.home
        rank = (-utility).argsort(axis=1).argsort(axis=1)
        # Some users are busier than others: a gamma of mean 1, standard deviation .4.
        count = rng.poisson(s.rows * rng.gamma(6.0, 1 / 6.0, s.users)).clip(5, s.items // 2)
        user, item = np.nonzero(rank < count[:, None])
        start = np.maximum(self.user_birth[user], self.item_birth[item])
        time = start + rng.random(len(user)) * (1.0 - start)
        order = np.lexsort((time, user))
        return user[order], item[order], time[order]

    def _probability(self, user: IntArray, item: IntArray, time: FloatArray) -> FloatArray:
        """True P(like) of every row, shape [N]."""
        s = self.s
        logit = s.base + self.user_level[user] + self.user_drift[user] * (2 * time - 1)
        logit += s.theme * self.taste[user, item] + s.cluster * self.home[user, item]
        logit += s.appeal * self.item_appeal[item] + s.quality * self.item_quality[item]
        return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float64)


def _tastes(rng: np.random.Generator, n: int, kinds: int, liked: int) -> FloatArray:
    """Tastes of ``n`` users, shape [n, K]: ``liked`` kinds at random +1, the others −1."""
    ranks = rng.random((n, kinds)).argsort(axis=1).argsort(axis=1)
    return np.where(ranks < liked, 1.0, -1.0)


def _ids(letter: str, numbers: IntArray) -> list[str]:
    return [f"{letter}{number:04d}" for number in numbers]


def _arrivals(interactions: pl.DataFrame) -> dict[str, dict[str, list[str]]]:
    train = interactions.filter(pl.col("split") == "train")
    found: dict[str, dict[str, list[str]]] = {}
    for split in SPLITS[1:]:
        rows = interactions.filter(pl.col("split") == split)
        found[split] = {
            name: sorted(set(rows[column]) - set(train[column]))
            for name, column in (("users", "user_id"), ("items", "item_id"))
        }
    return found


def _counts(interactions: pl.DataFrame, arrivals: dict[str, dict[str, list[str]]]) -> dict[str, float]:
    """Rows of each split, and how much of the later ones is new."""
    counts: dict[str, float] = {}
    for split in SPLITS:
        counts[f"rows_{split}"] = interactions.filter(pl.col("split") == split).height
    for split, new in arrivals.items():
        for name, column in (("users", "user_id"), ("items", "item_id")):
            counts[f"{name}_new_in_{split}"] = len(new[name])
            on_new = interactions.filter(
                pl.col("split") == split, pl.col(column).is_in(new[name])
            ).height
            share = on_new / max(1, counts[f"rows_{split}"])
            counts[f"share_of_{split}_rows_on_new_{name}"] = round(share, 3)
    return counts
