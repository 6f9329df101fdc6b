"""Ranking of candidate lists: one liked item against fixed seeded others, and against all others.

Baselines and encoders rank the whole catalogue themselves.  A row that asks the language model
reranks the best ``rerank`` of its run's encoder there (the two stages in which it would be served);
everything behind those keeps the encoder's order, so its metrics stand beside the encoder's on the
same lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sasrecllm.data.candidates import Candidates, longest_lists, ranking_candidates
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.errors import DataError
from sasrecllm.evaluation.intervals import UserBootstrap, interval
from sasrecllm.evaluation.protocol import rank_positives
from sasrecllm.evaluation.ranking import gains, hits, metrics_of_ranks
from sasrecllm.runs.folder import Run
from sasrecllm.runs.stored import part_folders
from sasrecllm.runs.system import Assembly
from sasrecllm.stages.plan import last_prompt
from sasrecllm.types import UNKNOWN, FloatArray, Histories, IntArray, Scorer


class Reranked:
    """The first stage's best ``count`` candidates in the order of the second, before all others.

    Scores are ranks in disguise: they order the candidates of a row and mean nothing across rows.
    """

    def __init__(self, name: str, first: Scorer, second: Scorer, count: int) -> None:
        self.name, self.first, self.second, self.count = name, first, second, count

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; UNKNOWN stands behind every item."""
        first_BC = self.first.score(histories, candidates)
        first_BC = np.where(candidates == UNKNOWN, -np.inf, first_BC)
        best_BN = np.argsort(-first_BC, axis=1, kind="stable")[:, : self.count]
        items_BN = np.take_along_axis(candidates, best_BN, axis=1)
        empty_BN = items_BN == UNKNOWN
        second_BN = self.second.score(histories, np.where(empty_BN, candidates[:, :1], items_BN))
        second_BN = np.where(empty_BN, -np.inf, second_BN)
        order_BN = np.argsort(np.argsort(second_BN, axis=1, kind="stable"), axis=1)
        behind_BC = np.argsort(np.argsort(first_BC, axis=1, kind="stable"), axis=1)
        out_BC = behind_BC.astype(np.float64)
        np.put_along_axis(out_BC, best_BN, order_BN + float(candidates.shape[1]), axis=1)
        return out_BC


def wants_ranking(run: Run, dataset: Dataset) -> bool:
    """Whether the run's table has ranking lists."""
    when = run.config.evaluation.ranking.when
    return when == "always" or (when == "auto" and dataset.implicit)


def rank(run: Run, dataset: Dataset, parts: Assembly) -> dict[str, Any]:
    """List kind -> rows (row -> metric -> [value, low, high]) on every liked row of the test split.

    ``reranked`` beside them says of which rows only that many of the encoder's best were asked about.
    """
    c = run.config.evaluation.ranking
    out: dict[str, Any] = {}
    drawn = longest_lists(dataset, "test", c.negatives)
    liked = int((dataset.labels[dataset.rows("test")] == 1).sum())
    for negatives in dict.fromkeys((drawn or None, None)):
        kind = "whole catalogue" if negatives is None else f"1 + {negatives} items"
        try:
            lists = ranking_candidates(dataset, "test", negatives=negatives)
        except DataError as refusal:  # a metric that is undefined here is no reason to lose the others
            run.progress.warning(f"no ranking lists, {kind}: {refusal.what}")
            continue
        boot = UserBootstrap(lists.histories.users, run.config.evaluation.resamples, run.config.seed)
        rows, reranked = {}, {}
        for scorer in _scorers(run, parts, whole=negatives is None):
            run.progress.line(f"ranking, {kind}: {scorer.name}")
            rows[scorer.name] = _judged(scorer, lists, boot)
            if isinstance(scorer, Reranked):
                reranked[scorer.name] = scorer.count
        left_out = liked - len(lists.rows)
        out[kind] = {"lists": len(lists.rows), "rows": rows, "reranked": reranked, "left_out": left_out}
    return out


def _judged(scorer: Scorer, lists: Candidates, boot: UserBootstrap) -> dict[str, Any]:
    ranks = rank_positives(scorer, lists.histories, lists.items)
    values = metrics_of_ranks(ranks, lists.items.shape[1], (10,))
    draws = {"hr@10": hits(ranks, 10), "ndcg@10": gains(ranks, 10), "mrr": 1 / ranks}
    return {k: interval(values[k], boot.row_mean(v)).to_list() for k, v in draws.items()}


def _scorers(run: Run, parts: Assembly, *, whole: bool) -> Iterator[Scorer]:
    """Every row of the table, each with its parts as its own stage left them."""
    c = run.config.evaluation
    for name in dict.fromkeys(("popularity", *c.baselines)):
        yield parts.component(name, "text")
    for name, stage in run.stages.items():
        for part, folder in part_folders(run.stages, run.folder, until=name).items():
            parts.load(part, folder)
        scorer = parts.scorer(stage, last_prompt(run.stages.values()))
        if not whole or stage.task in ("encode", "prior"):
            yield scorer
        elif count := c.ranking.rerank:
            first = EncoderScorer("encoder", parts.encoder)
            yield Reranked(stage.row, first, scorer, count)
