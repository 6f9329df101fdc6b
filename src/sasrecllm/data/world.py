"""The embedded default: a small world whose truth is known.

Every item has words, a *theme* that its words betray, an *appeal* that is the sum of what its words
are worth to everybody, a crowd *cluster*, which only the behaviour of users betrays, and a *quality*
that nothing betrays but its own ratings.  Every user has tastes over themes and over clusters and a
*level* (mild or strict) that drifts.  A user likes an item with probability

    P(like) = sigmoid(level_u(t) + a * appeal + b * taste_u[theme] + c * crowd_u[cluster]
                      + d * quality)

so a reader of words sees one part of the preference, a reader of ids another, and on an item that is
new only the words are left.  Whose taste a theme meets takes both: the words of the item and the
behaviour of the user.  New users and new items arrive in the validation period and in the
test period.  The probabilities are kept: their AUC is the Bayes ceiling.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from sasrecllm.data.world_words import PATTERNS, QUALIFIERS, THEMES
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.types import FloatArray, IntArray

START = 1_577_836_800  # 2020-01-01 UTC
DAY = 86_400


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Parameters of the world; all stand in the report.

    Args:
        rows: mean number of rows of a user.
        themes, nouns: themes, and words that betray each of them.
        appeal, theme, cluster, quality, level, drift: sizes of the effects on the logit.
        new_users, new_items: share of users and items that arrive after training.
        days: length of the world's time; validation and test begin at ``cuts`` of it.
    """

    users: int = 800
    items: int = 400
    rows: int = 40
    themes: int = 4
    nouns: int = 8
    clusters: int = 2
    appeal: float = 1.3
    theme: float = 1.6
    cluster: float = 1.6
    quality: float = 0.3
    level: float = 0.7
    drift: float = 0.3
    new_users: float = 0.2
    new_items: float = 0.2
    days: int = 360
    cuts: tuple[float, float] = (0.72, 0.84)
    seed: int = 0


@dataclass(frozen=True)
class World:
    """The two tables, and what nobody knows of a real data set."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    probability: FloatArray  # [rows of interactions] true P(like)
    truth: dict[str, Any]


def known_world(**settings: Any) -> World:
    """Generate the world; the same settings give the same world.

    Raises:
        ConfigError: an unknown parameter or an impossible value.
    """
    known = WorldSettings.__dataclass_fields__
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"data.world has the parameter {key!r}; allowed: {', '.join(known)}"
                + did_you_mean(key, known),
                "rename or remove it",
            )
    chosen = WorldSettings(**settings)
    if min(chosen.users, chosen.items, chosen.rows) < 10 or chosen.rows * 3 > chosen.items:
        raise ConfigError(
            f"data.world: users {chosen.users}, items {chosen.items}, rows {chosen.rows}; allowed:"
            " 10 or more each, and at least 3 items per row",
            "make the world larger",
        )
    return _Generator(chosen).world()


class _Generator:
    """One world in the making; every draw comes from one seeded generator, in a fixed order."""

    def __init__(self, s: WorldSettings) -> None:
        self.s = s
        self.rng = np.random.default_rng(s.seed)
        self.themes = list(THEMES)[: s.themes]
        rng = self.rng
        self.item_theme = rng.permutation(np.arange(s.items) % len(self.themes))
        self.item_cluster = rng.permutation(np.arange(s.items) % s.clusters)
        self.item_quality = rng.normal(size=s.items)
        self.item_fame = rng.lognormal(0.0, 0.5, s.items)
        self.user_theme = _tastes(rng, s.users, len(self.themes))
        self.user_cluster = _tastes(rng, s.users, s.clusters)
        self.user_level = rng.normal(size=s.users) * s.level
        self.user_drift = rng.normal(size=s.users) * s.drift
        self.titles = self._titles()
        self.item_appeal = self._appeals()
        self.item_birth = self._births(s.items, s.new_items, 0.0)
        self.user_birth = self._births(s.users, s.new_users, 0.30)

    def world(self) -> World:
        user, item, time = self._exposures()
        age = (time - self.user_birth[user]) - 0.1
        logit = (
            self.user_level[user]
            + self.user_drift[user] * age * 2
            + self.s.appeal * self.item_appeal[item]
            + self.s.theme * self.user_theme[user, self.item_theme[item]]
            + self.s.cluster * self.user_cluster[user, self.item_cluster[item]]
            + self.s.quality * self.item_quality[item]
        )
        probability = 1 / (1 + np.exp(-logit))
        label = (self.rng.random(len(user)) < probability).astype(np.int8)
        split = np.array(["train", "valid", "test"])[np.searchsorted(self.s.cuts, time, "right")]
        interactions = pl.DataFrame(
            {
                "user_id": [f"u{i:04d}" for i in user],
                "item_id": [f"m{i:04d}" for i in item],
                "label": label,
                "timestamp": START + (time * self.s.days * DAY).astype(np.int64),
                "split": split,
            }
        )
        items = pl.DataFrame(
            {
                "item_id": [f"m{i:04d}" for i in range(self.s.items)],
                "title": self.titles,
                "theme": [self.themes[t] for t in self.item_theme],
                "cluster": self.item_cluster,
            }
        )
        truth = {**asdict(self.s), "theme_names": self.themes} | self._counts(user, item, split)
        return World(interactions, items, probability, truth)

    def _births(self, n: int, share: float, spread: float) -> FloatArray:
        """When each arrives: most at the beginning, ``share`` of them evenly after training ends."""
        early = self.rng.random(n) * spread
        late = self.s.cuts[0] + self.rng.random(n) * (0.97 - self.s.cuts[0])
        return np.where(self.rng.random(n) < share, late, early)

    def _exposures(self) -> tuple[IntArray, IntArray, FloatArray]:
        """User, item and time (0 to 1) of every row: users by time, items by fame, none twice."""
        users, items, times = [], [], []
        for user in range(self.s.users):
            # A late user has less time; half the pace of rows keeps him from flooding the test.
            span = 0.5 + 0.5 * (1.0 - self.user_birth[user])
            count = int(np.clip(self.rng.poisson(self.s.rows * span), 5, self.s.items // 3))
            moments = np.sort(self.rng.uniform(self.user_birth[user], 1.0, count))
            # The n-th row takes the n-th item of a draw without replacement (Gumbel keys) among
            # the items that exist by then; one pass keeps the world quick to make.
            keys = np.log(self.item_fame) + self.rng.gumbel(size=self.s.items)
            order = np.argsort(-keys)
            taken = np.zeros(self.s.items, dtype=bool)
            for moment in moments:
                free = order[~taken[order] & (self.item_birth[order] <= moment)]
                # Not always the most famous first: one of the next twelve.
                item = free[self.rng.integers(min(12, len(free)))]
                taken[item] = True
                users.append(user)
                items.append(item)
                times.append(moment)
        return np.array(users), np.array(items), np.array(times)

    def _titles(self) -> list[str]:
        """A unique title for every item, out of its theme's words."""
        titles: dict[str, None] = {}
        for theme in self.item_theme:
            words = THEMES[self.themes[theme]][: self.s.nouns]
            while True:
                a, b = self.rng.choice(len(words), 2, replace=False)
                pattern = PATTERNS[self.rng.integers(len(PATTERNS))]
                q = QUALIFIERS[self.rng.integers(len(QUALIFIERS))]
                title = pattern.format(q=q, a=words[a], b=words[b])
                if title not in titles:
                    titles[title] = None
                    break
        return list(titles)

    def _appeals(self) -> FloatArray:
        """What the words of each title are worth to everybody, standardised."""
        worth: dict[str, float] = {}
        sums = np.zeros(len(self.titles))
        for index, title in enumerate(self.titles):
            for word in title.split():
                if word in {"The", "the", "of", "and"}:
                    continue
                sums[index] += worth.setdefault(word, float(self.rng.normal()))
        return np.asarray((sums - sums.mean()) / sums.std(), dtype=np.float64)

    def _counts(self, user: IntArray, item: IntArray, split: Any) -> dict[str, int]:
        train = split == "train"
        return {
            "users_new_after_training": len(set(user) - set(user[train])),
            "items_new_after_training": len(set(item) - set(item[train])),
            **{f"rows_{name}": int((split == name).sum()) for name in ("train", "valid", "test")},
        }


def _tastes(rng: np.random.Generator, n: int, kinds: int) -> FloatArray:
    """Tastes of ``n`` users over ``kinds``: half liked (+1), half disliked (−1), at random."""
    ranks = rng.random((n, kinds)).argsort(axis=1).argsort(axis=1)
    return np.where(ranks < kinds / 2, 1.0, -1.0)
