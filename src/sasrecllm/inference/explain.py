"""Why this item: what each liked item, the encoder, the words and the rest contribute to a score."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from sasrecllm.data.catalog import Catalog
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.evaluation.slices import is_member
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.score_fusion import Fusion
from sasrecllm.inference.list_maker import ListMaker
from sasrecllm.runs.system import System
from sasrecllm.types import FloatArray, Histories, IntArray, Scorer

MOST = 10
"""Newest liked items that are left out one by one."""


class Explains(Protocol):
    """What is explained: a :class:`~sasrecllm.inference.recommender.Recommender`."""

    parts: System
    scorer: Scorer
    calibration: Calibration
    catalog: Catalog
    maker: ListMaker

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        ...


@dataclass(frozen=True, slots=True)
class Reason:
    """A liked item and how far the answer leans on it.

    Args:
        drop: fall of the calibrated logit of P(like) when this entry is left out of the history.
        probability_without: P(like) then.
    """

    item_id: str
    title: str
    drop: float
    probability_without: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A liked item that resembles the target, by cosine of the encoder's vectors or of the titles."""

    item_id: str
    title: str
    cosine: float
    by: str  # "encoder" or "title"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The account of one score.

    Args:
        shares: component of the score -> what it adds to the calibrated logit, against an average
            question of the validation split; ``encoder`` is the crowd's share, ``llm`` the words'.
        listed: channel of the list fusion -> what it adds to the log-odds of being taken next, against
            the mean item of the catalogue (:func:`listed_by`); nothing in a run without a fusion.
        reasons: newest liked items by falling ``drop``.
        nearest: liked items by falling likeness.
    """

    item_id: str
    title: str
    probability: float
    shares: dict[str, float]
    listed: dict[str, float]
    reasons: tuple[Reason, ...]
    nearest: tuple[Neighbour, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {
            "reasons": [asdict(r) for r in self.reasons],
            "nearest": [asdict(n) for n in self.nearest],
        }


def explained(system: Explains, histories: Histories, target: int) -> Explanation:
    """Why ``target`` has the probability it has for the one history in ``histories``."""
    rows, places = left_out(histories)
    scores = system.score(rows, np.full((len(rows), 1), target))[:, 0]
    p = system.calibration.probabilities(scores)
    slope, catalog = system.calibration.slope, system.catalog
    reasons = [
        Reason(
            catalog.item_id(int(histories.items[place])),
            catalog.title(int(histories.items[place])),
            slope * float(scores[0] - scores[number]),
            float(p[number]),
        )
        for number, place in enumerate(places, 1)
    ]
    return Explanation(
        catalog.item_id(target),
        catalog.title(target),
        float(p[0]),
        shares_of(system.scorer, histories, target, slope),
        listed_by(system.maker.fusion, histories, target),
        tuple(sorted(reasons, key=lambda r: -r.drop)),
        nearest(system, histories, target),
    )


def left_out(histories: Histories, most: int = MOST) -> tuple[Histories, list[int]]:
    """The one history in ``histories`` whole and then without each of its newest liked entries.

    Returns:
        n + 1 histories, and the places [n] in the history of the entries left out, newest first.
    """
    places = [int(p) for p in np.flatnonzero(histories.labels == 1)[::-1][:most]]
    rows = histories.take(np.zeros(1 + len(places), dtype=np.int64))
    gone = np.zeros(len(rows.items), dtype=bool)
    for row, place in enumerate(places, 1):
        gone[rows.offsets[row] + place] = True
    return rows.keep(~gone), places


def shares_of(scorer: Scorer, histories: Histories, item: int, slope: float) -> dict[str, float]:
    """What each component of a fused score adds, in calibrated logits; a lone scorer has one share."""
    candidates = np.array([[item]])
    if not isinstance(scorer, Fusion):
        return {scorer.name: slope * float(scorer.score(histories, candidates)[0, 0])}
    parts = scorer.contributions(histories, candidates)[0]
    return {
        name: slope * float(value) for name, value in zip(scorer.weights.components, parts, strict=True)
    }


def listed_by(fusion: ListFusion | None, histories: Histories, item: int) -> dict[str, float]:
    """What each channel of a fusion adds to an item's log-odds, against the mean item.

    What the channels do not say one by one is the offset that items without a like have.
    """
    if fusion is None:
        return {}

    def above(some: ListFusion) -> float:
        (scores,) = some.scores(histories)
        return float(scores[item] - scores.mean())

    without = fusion.new.with_offset(0.0) if fusion.new is not None else None
    out = {}
    for place in np.flatnonzero(fusion.weights > 0):
        alone = np.where(np.arange(len(fusion.weights)) == place, fusion.weights, 0.0)
        out[fusion.channels[place].name] = above(replace(fusion, weights=alone, new=without))
    rest = above(fusion) - sum(out.values())
    return out | {"offset of new items": rest} if abs(rest) > 1e-9 else out


def nearest(
    system: Explains, histories: Histories, target: int, most: int = 3
) -> tuple[Neighbour, ...]:
    """Liked items that resemble ``target`` most: by the encoder's vectors where it has one, else by
    the titles; none where neither can say."""
    liked = np.unique(histories.items[histories.labels == 1])
    inside = is_member(np.append(liked, target), system.maker.has_vector)
    encoder, catalog = system.parts.retrieving_encoder, system.catalog
    if inside[-1]:
        by, liked = "encoder", liked[inside[:-1]]
        with torch.no_grad():
            rows = torch.from_numpy(np.append(liked, target)).to(encoder.device)
            vectors = encoder.item_vectors(rows).double().cpu().numpy()
    elif (titles := system.maker.title_vectors) is not None and titles.vectors[target].any():
        by, vectors = "title", titles.vectors[np.append(liked, target)]
    else:
        return ()
    found = cosines(vectors[:-1], vectors[-1])
    return tuple(
        Neighbour(catalog.item_id(int(liked[at])), catalog.title(int(liked[at])), float(found[at]), by)
        for at in np.argsort(-found, kind="stable")[:most]
    )


def cosines(vectors: FloatArray, target: FloatArray) -> FloatArray:
    """Cosine of each row of ``vectors`` [N, D] with ``target`` [D]; 0 for a zero vector."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(target)
    return np.asarray(vectors @ target / np.where(lengths > 0, lengths, 1.0))
