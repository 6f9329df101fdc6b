"""From a run folder to answers people can use: scores, lists and reasons.

Raw ids come in and go out here, spelt as the user spells them; inside there are only indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.inference.arguments import count_of, flag_of, folder_of, ids_of, text_of
from sasrecllm.inference.audience import audience_of
from sasrecllm.inference.explain import Explanation, explained
from sasrecllm.inference.forks import note_loaded, refuse_fork
from sasrecllm.inference.id_lookup import entries_of, history_of, items_of, user_of
from sasrecllm.inference.list_maker import ListMaker
from sasrecllm.inference.new_items import grown, grown_lists
from sasrecllm.inference.requests import (
    Entry,
    Found,
    Id,
    NewItem,
    Past,
    Recommendation,
    Scored,
    Seen,
    extended,
    flags_of,
    may_repeat,
    pairs_of,
    past_of,
)
from sasrecllm.inference.rerank import Lists, TwoStage, finite
from sasrecllm.inference.wishes import Boost, Wishes
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stored_calibration, stored_config
from sasrecllm.runs.system import System
from sasrecllm.settings import Config
from sasrecllm.stages.strategies import planned
from sasrecllm.types import FloatArray, Histories, IntArray, Scorer, asks_by_prompts


class Recommender:
    """A trained run that scores, recommends and explains; a :class:`~sasrecllm.types.Scorer`.  Threads
    may share one.

    Args:
        parts: the run's parts, loaded.
        scorer: the scorer of the run's last stage.
        calibration: score to probability, fitted on the validation split.
        catalog: the run's catalogue, or one with further items at its end.
        fusion: of lists, over ``catalog``; the run's own without.
    """

    def __init__(
        self,
        parts: System,
        scorer: Scorer,
        calibration: Calibration | None = None,
        catalog: Catalog | None = None,
        fusion: ListFusion | None = None,
    ) -> None:
        self.parts, self.scorer = parts, scorer
        self.name, self.dataset = scorer.name, parts.dataset
        self.asks_language_model = asks_by_prompts(scorer)
        self.calibration = calibration or Calibration()
        self.catalog, self.fusion = catalog or parts.dataset.catalog, fusion or parts.list_fusion
        self.maker = ListMaker(parts, self.calibration, self.catalog, self.fusion)
        note_loaded()

    @classmethod
    def from_pretrained(
        cls, run: str | Path, device: str = "auto", allow_plugins: Iterable[str] = ()
    ) -> Self:
        """Load a finished run folder; nothing that it names is run, and no hub is asked.

        Args:
            allow_plugins: modules that may be imported if the run names them (an encoder of its own).

        Raises:
            CheckpointError: not a finished run, or a part of it is damaged.
            ConfigError: it names a plug-in that is not allowed.
            ModelNotFoundError: its language model is not on this machine.
        """
        with as_refusals(Path(".")):
            folder = choose_run(folder_of(run))
        system = cls.of_run(folder, device, stored_config(folder, allow_plugins))
        nobody = system.dataset.latest(np.zeros(1, dtype=np.int64))
        system.score(nobody, np.zeros((1, 1), dtype=np.int64))  # refuses what is not finite
        return system

    @classmethod
    def of_run(cls, folder: RunFolder, device: str = "auto", config: Config | None = None) -> Self:
        """Load an evaluated run folder, finished or not.

        Args:
            config: its settings, where the caller has them; else those that lie in the folder.

        Raises:
            CheckpointError: a part of it is damaged.
        """
        refuse_fork()
        config = config or stored_config(folder)
        parts = System.load(folder, device, config)
        stages = planned(config)
        final = list(stages.values())[-1]
        scorer = final.kind.scorer(parts, final, stages)
        system = cls(parts, scorer, stored_calibration(folder, scorer.name))
        if config.recommend.index != "exact":
            _ = system.maker.encoder  # made now: the first list shall not wait for it
        return system

    @property
    def said_of_index(self) -> str:
        """The recall of ``recommend.index`` in words; empty where it is exact."""
        return self.maker.said_of_index()

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of candidate indices, [histories, candidates]: what ``evaluate`` and the server call.

        Raises:
            CheckpointError: a score is not finite.
        """
        refuse_fork()
        return finite(self.name, self.scorer.score(histories, candidates))

    def with_items(self, items: Sequence[NewItem]) -> Self:
        """The same system over a catalogue with ``items`` at its end; all weights are shared.

        A new item has no vector: its words, and what its year, attributes and title words are worth
        to all and to this user, speak for it, as for an item of the catalogue that nobody has rated.

        Raises:
            DataError: an id is known already, or an id or a title is empty.
        """
        refuse_fork()
        catalog = extended(self.catalog, items)
        scorer = grown(self.scorer, self.parts, catalog, self.catalog.n_items)
        fusion = None if self.fusion is None else grown_lists(self.fusion, self.parts, catalog)
        system = type(self)(self.parts, scorer, self.calibration, catalog, fusion)
        system.maker.share_encoders(self.maker)
        return system

    def score_items(
        self,
        items: Sequence[Id],
        history: Sequence[Entry] | None = None,
        user: Id | None = None,
        *,
        strict: bool = True,
    ) -> list[float]:
        """Calibrated P(like) of each item for a known user, for a history, or for both.

        Raises:
            DataError: an unknown item; an unknown user without a history.
        """
        return [line.probability for line in self.scored(items, history, user, strict=strict)]

    def scored(
        self,
        items: Sequence[Id],
        history: Sequence[Entry] | None = None,
        user: Id | None = None,
        *,
        strict: bool = True,
    ) -> list[Scored]:
        """What :meth:`score_items` says, each item with its flags.

        Raises:
            DataError: an unknown item; an unknown user without a history.
        """
        ids = ids_of(items, "items")
        system, histories = self._asked(history, user, strict)
        candidates = items_of(system.catalog, ids, "items")[None, :]
        probabilities = self.calibration.probabilities(system.score(histories, candidates))[0]
        (flags,) = flags_of(histories, candidates, self.dataset)
        return [Scored(*of_item) for of_item in zip(ids, probabilities.tolist(), flags, strict=True)]

    def recommend(
        self,
        history: Sequence[Entry] | None = None,
        user: Id | None = None,
        k: int = 10,
        retrieve: int = 100,
        only: Iterable[Id] | None = None,
        where: Mapping[str, str] | None = None,
        *,
        exclude: Iterable[Id] | None = None,
        boost: Boost | None = None,
        diversity: float = 0.0,
        seen: Seen | None = None,
        rerank: bool = True,
        strict: bool = True,
    ) -> list[Recommendation]:
        """The ``k`` best items for a known user, for a history, or for a user and what came after.

        The order is the list fusion's: what people will take next.  The probability of a line is
        whether they would like it, by the system's own ``score``.  In a run without a list fusion the
        encoder retrieves ``retrieve`` items, as many without a vector enter through their words, and
        ``score`` orders them.

        Args:
            history: liked items, oldest first: ids, :class:`Title` or (item, liked).
            retrieve: places of the encoder's order that are looked at, and candidates of a list that
                ``diversity`` mixes.
            only, where, exclude, boost, diversity, seen: see :class:`Wishes`.
            rerank: False leaves the encoder's own order, of the items that it has vectors for.
            strict: refuse an unknown user without history; else the items' quality answers, and the
                lines carry the flag ``fallback``.

        Raises:
            DataError: an unknown item, attribute or value, a value that is no id, a number that cannot
                be, or neither user nor history is given.
            ConfigError: ``seen`` is something else, or a boost or a diversity without ``rerank``.
        """
        length, count = count_of(k, "k"), count_of(retrieve, "retrieve")
        again = flag_of(rerank, "rerank")
        wishes = Wishes(only, where, exclude, boost, diversity, seen)
        system, histories = self._asked(history, user, strict)
        best = system.recommend_many(histories, length, count, wishes, rerank=again)
        return system.maker.written(histories, best)[0]

    def recommend_many(
        self,
        histories: Histories,
        k: int = 10,
        count: int = 100,
        wishes: Wishes | None = None,
        *,
        rerank: bool = True,
    ) -> Lists:
        """The ``k`` best items of each of B histories, at once; no row depends on another.

        Args:
            count: items that the first stage retrieves.
            rerank: order as the system does; else by the encoder alone.
        """
        return self.maker.lists(self, histories, k, count, wishes or Wishes(), rerank=rerank)

    def two_stage(self, count: int = 100) -> TwoStage:
        """What every list comes from (:meth:`ListMaker.two_stage`)."""
        return self.maker.two_stage(self, count)

    def search(self, words: str, limit: int = 20) -> list[Found]:
        """Items whose titles hold all ``words``, best first, and behind them those that are near in
        meaning, where items have vectors (:attr:`Found.near`); ``limit`` at most."""
        return self.maker.search(text_of(words, "words"), count_of(limit, "limit"))

    def history(self, history: Sequence[Entry] | None = None, user: Id | None = None) -> list[Past]:
        """What is known of somebody, oldest first: what a list goes by; refuses as it does."""
        system, histories = self._asked(history, user, strict=True)
        return past_of(system.catalog, histories)

    def explain(
        self,
        item: Id,
        history: Sequence[Entry] | None = None,
        user: Id | None = None,
        *,
        strict: bool = True,
    ) -> Explanation:
        """Why ``item`` has the probability it has: what it leans on, and by how much.

        Raises:
            DataError: an unknown item; an unknown user without a history.
        """
        system, histories = self._asked(history, user, strict)
        return explained(system, histories, int(items_of(system.catalog, [item], "item")[0]))

    def audience(self, item: Id, k: int = 10, *, seen: Seen | None = None) -> list[dict[str, Any]]:
        """The ``k`` known users most likely to like an item, with the title they liked last.

        A language model is asked about the 100 users who would take it next, or ``k``, and orders them.

        Args:
            seen: ``exclude`` leaves out users who have met the item, ``allow`` does not; None does as
                the run was prepared (``recommend.seen``).

        Raises:
            DataError: an unknown item.
        """
        index = int(items_of(self.catalog, [item], "item")[0])
        k, allowed = count_of(k, "k"), may_repeat(seen, self.dataset.allow_seen)
        first = self.maker.taking if self.asks_language_model else None
        return audience_of(self, self.calibration, self.dataset, index, k, allowed=allowed, first=first)

    def _asked(
        self, history: Sequence[Entry] | None, user: Id | None, strict: bool
    ) -> tuple[Self, Histories]:
        """The system with the request's titles as items, and one history."""
        refuse_fork()
        needed = flag_of(strict, "strict") and history is None
        index = user_of(self.catalog, user, needed=needed)
        pairs = [] if history is None else pairs_of(history)
        items, new = entries_of(self.maker.titles, [item for item, _ in pairs])
        system = self.with_items(new) if new else self
        return system, history_of(self.dataset, index, items, [liked for _, liked in pairs])
