"""From a run folder to answers people can use: the public face of a trained system.

Raw ids come in and go out here, spelt as the user spells them; inside there are only indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.checkpoint import choose_run, read_json
from sasrecllm.config import Config, load_config
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.errors import DataError, did_you_mean
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.inference.assembly import Assembly, part_folders, run_stages
from sasrecllm.runtime import pick_device
from sasrecllm.training.strategies import Stage
from sasrecllm.types import UNKNOWN, FloatArray, Histories, IntArray, Scorer

Entry = str | tuple[str, bool]
"""An item id that was liked, or (item id, liked)."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One line of a recommendation list."""

    rank: int
    item_id: str
    title: str
    score: float
    probability: float
    flags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class SASRecLLM:
    """A trained run that scores and recommends; itself a :class:`~sasrecllm.types.Scorer`.

    Args:
        parts: the run's parts, loaded.
        scorer: the scorer of the run's last stage.
        calibration: score to probability, fitted on the validation split.
    """

    def __init__(self, parts: Assembly, scorer: Scorer, calibration: Calibration | None = None) -> None:
        self.parts, self.scorer = parts, scorer
        self.name = scorer.name
        self.dataset = parts.dataset
        self.catalog = parts.dataset.catalog
        self.calibration = calibration or Calibration()
        self.retriever = EncoderScorer("encoder", parts.encoder)

    @classmethod
    def from_pretrained(cls, run: str | Path, device: str = "auto") -> SASRecLLM:
        """Load a finished run folder.

        Raises:
            CheckpointError: not a finished run, or a part of it is damaged.
        """
        return cls.load(choose_run(Path(run)), device)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> SASRecLLM:
        """Load an evaluated run folder, finished or not."""
        config = load_config(folder / "config.yaml", environment=False)
        dataset = Dataset.load(folder / "data")
        parts = Assembly(config, dataset, backbone_of(folder, config), pick_device(device))
        stages = run_stages(config)
        for part, where in part_folders(stages, folder).items():
            parts.load(part, where)
        scorer = parts.scorer(list(stages.values())[-1], last_prompt(stages.values()))
        row = read_json(folder / "results.json")["rows"][scorer.name]
        return cls(parts, scorer, Calibration(**row["calibration"]))

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of candidate indices [B, C]: what ``evaluate`` and the server call."""
        return self.scorer.score(histories, candidates)

    def score_items(
        self, items: Sequence[str], history: Sequence[Entry] | None = None, user: str | None = None
    ) -> list[float]:
        """Calibrated P(like) of each item for a known user or for a history.

        Raises:
            DataError: an unknown item or user.
        """
        known = self.history_of(history, user)
        candidates = self._items(items, "items")[None, :]
        return [float(p) for p in self.calibration.probabilities(self.score(known, candidates))[0]]

    def recommend(
        self,
        history: Sequence[Entry] | None = None,
        user: str | None = None,
        k: int = 10,
        retrieve: int = 100,
    ) -> list[Recommendation]:
        """The ``k`` best items for a known user or for a history of item ids.

        The encoder retrieves ``retrieve`` items of the catalogue; items that training never showed
        have no vector of their own, so all of them join the candidates and their words speak for
        them.  Then the system's own ``score`` ranks.  Items of the history are left out.

        Raises:
            DataError: an unknown item or user, or neither is given.
        """
        known = self.history_of(history, user)
        candidates = self._candidates(known, max(k, retrieve))
        scores = self.score(known, candidates[None, :])[0]
        order = np.argsort(-scores, kind="stable")[:k]
        probabilities = self.calibration.probabilities(scores)
        seen = self.dataset.seen_items
        cold_user = ("new user",) if known.users[0] == UNKNOWN or not self._trained(known) else ()
        return [
            Recommendation(
                rank,
                self.catalog.item_id(int(candidates[at])),
                self.catalog.title(int(candidates[at])),
                float(scores[at]),
                float(probabilities[at]),
                cold_user + (() if seen[candidates[at]] else ("new item",)),
            )
            for rank, at in enumerate(order, 1)
        ]

    def audience(self, item: str, k: int = 10) -> list[dict[str, Any]]:
        """The ``k`` known users most likely to like an item they have not rated, with a liked title.

        Raises:
            DataError: an unknown item.
        """
        index = int(self._items([item], "item")[0])
        users = np.arange(self.dataset.n_users)
        had = np.unique(self.dataset.users[self.dataset.items == index])
        users = np.setdiff1d(users, had)
        known = self._now(users)
        scores = self.score(known, np.full((len(users), 1), index))[:, 0]
        best = np.argsort(-scores, kind="stable")[:k]
        probabilities = self.calibration.probabilities(scores)
        liked = known.liked().last(1)
        last = np.full(len(users), UNKNOWN)
        last[liked.owners] = liked.items
        return [
            {
                "rank": rank,
                "user_id": self.catalog.user_id(int(users[at])),
                "probability": float(probabilities[at]),
                "recently_liked": self.catalog.title(int(last[at])) if last[at] >= 0 else None,
            }
            for rank, at in enumerate(best, 1)
        ]

    def history_of(self, history: Sequence[Entry] | None, user: str | None) -> Histories:
        """One history: a known user's whole list, or the given ids, oldest first."""
        if user is not None:
            index = int(self.catalog.user_index([user])[0])
            if index == UNKNOWN:
                raise DataError(
                    f"user {user!r} is not in this run's data"
                    + did_you_mean(user, self.catalog.user_ids),
                    "give a known user, or history=[item ids] for a new one",
                )
            return self._now(np.array([index]))
        if history is None:
            raise DataError("neither user nor history was given", "give one of them")
        entries = [(e, True) if isinstance(e, str) else e for e in history]
        items = self._items([e[0] for e in entries], "history")
        n = len(items)
        return Histories(
            np.array([UNKNOWN]),
            items,
            np.array([int(e[1]) for e in entries], dtype=np.int8),
            np.arange(n, dtype=np.int64),
            np.array([0, n], dtype=np.int64),
            np.array([n], dtype=np.int64),
        )

    def _now(self, users: IntArray) -> Histories:
        """Everything that known users [B] have done, asked about after their last row."""
        data = self.dataset
        lengths = np.diff(data.starts)[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(data.starts[users] - offsets[:-1], lengths) + np.arange(offsets[-1])
        asked = np.where(lengths > 0, data.times[np.maximum(data.starts[users + 1] - 1, 0)] + 1, 0)
        return Histories(users, data.items[rows], data.labels[rows], data.times[rows], offsets, asked)

    def _trained(self, known: Histories) -> bool:
        return bool(self.dataset.seen_users[known.users[0]])

    def _candidates(self, known: Histories, count: int) -> IntArray:
        """The encoder's ``count`` best items and every item without a vector, none of the history."""
        everything = np.arange(self.catalog.n_items)
        free = np.setdiff1d(everything, known.items)
        cold = free[~self.dataset.seen_items[free]]
        warm = free[self.dataset.seen_items[free]]
        logits = self.retriever.score(known, warm[None, :])[0]
        return np.sort(np.concatenate([warm[np.argsort(-logits, kind="stable")[:count]], cold]))

    def _items(self, ids: Sequence[str], where: str) -> IntArray:
        index = self.catalog.item_index(list(ids))
        lost = np.flatnonzero(index == UNKNOWN)
        if len(lost):
            name = ids[int(lost[0])]
            raise DataError(
                f"{where}: item {name!r} is not in the catalogue of {self.catalog.n_items} items"
                + did_you_mean(str(name), self.catalog.item_ids),
                "use ids of the run's items table",
            )
        return index


def backbone_of(folder: Path, config: Config) -> str:
    """Where a run's language model lies: its own folder for ``offline``, else the given name."""
    return str(folder / "llm") if config.llm.backbone == "offline" else config.llm.backbone


def last_prompt(stages: Any) -> str:
    """Prompt of the last answer stage: what a fusion's language model is asked."""
    prompts: list[str] = [s.prompt for s in stages if isinstance(s, Stage) and s.task == "answer"]
    return prompts[-1] if prompts else "text"
