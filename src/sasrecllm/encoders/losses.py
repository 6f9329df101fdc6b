"""Losses of recommendation: plain functions of logits that know no model.

Each gives one loss per question, shape [Q]; the caller sums or averages.

Shape legend: Q questions, I items of the catalogue, N negatives of a question, C = 1 + N.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sasrecllm.errors import ConfigError
from sasrecllm.plugins import resolve


def bce(logits_Q: Tensor, labels_Q: Tensor) -> Tensor:
    """Binary cross-entropy of labelled questions, [Q].

    >>> round(bce(torch.tensor([0.0]), torch.tensor([1])).item(), 4)
    0.6931
    """
    return F.binary_cross_entropy_with_logits(logits_Q, labels_Q.to(logits_Q.dtype), reduction="none")


def full_softmax(logits_QI: Tensor, targets_Q: Tensor, among_I: Tensor | None = None) -> Tensor:
    """Cross-entropy of the next item against the whole catalogue, [Q].

    Args:
        among_I: bool, the items that compete (those seen in training); all unless given.  A target
            must be one of them, otherwise its loss is infinite.
    """
    if among_I is not None:
        logits_QI = logits_QI.masked_fill(~among_I, -math.inf)
    return F.cross_entropy(logits_QI, targets_Q, reduction="none")


def sampled_softmax(
    positive_Q: Tensor,
    negatives_QN: Tensor,
    *,
    log_q_QN: Tensor | None = None,
    collides_QN: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the positive's logit against those of its sampled negatives, [Q].

    Args:
        log_q_QN: log-probability with which each negative was drawn.  Negatives are then weighted
            by 1 / (N q), so that their sum estimates the full softmax's without bias (Bengio &
            Senécal, 2008); the positive is always there and keeps its weight.
        collides_QN: bool, negatives that are the positive itself and so are left out (needed for
            samplers that may draw it; those of this room never do).
    """
    if log_q_QN is not None:
        negatives_QN = negatives_QN - log_q_QN - math.log(negatives_QN.shape[1])
    if collides_QN is not None:
        negatives_QN = negatives_QN.masked_fill(collides_QN, -math.inf)
    both_QC = torch.cat([positive_Q[:, None], negatives_QN], dim=1)
    return both_QC.logsumexp(dim=1) - positive_Q


def gbce(positive_Q: Tensor, negatives_QN: Tensor, *, n_items: int, t: float = 0.75) -> Tensor:
    """Generalised binary cross-entropy, mean over the positive and its N negatives, [Q].

    The positive's probability is raised to the power beta, which undoes the overconfidence that
    sampling few negatives of many brings: beta = a (t (1 - 1/a) + 1/a) with the sampling rate
    a = N / (n_items - 1).  t = 0 is plain BCE, t = 1 is fully calibrated (Petrov & Macdonald,
    "gSASRec", RecSys 2023).

    Args:
        n_items: items that negatives were drawn from, the positive included; at least 2.
        t: calibration, from 0 to 1.
    """
    n_negatives = negatives_QN.shape[1]
    beta = _beta(n_negatives, n_items, t)
    summed = beta * F.softplus(-positive_Q) + F.softplus(negatives_QN).sum(dim=1)
    return summed / (1 + n_negatives)


def gbce_rest(n_negatives: int, n_items: int, t: float = 0.75) -> float:
    """The one logit of all items that :func:`gbce` is least with: log(beta / N).

    An encoder whose logits count from here starts by telling items apart.  From zero it starts by
    pushing all of them down alike, and may stay at popularity (the remedy of Lin et al., "Focal
    loss", ICCV 2017, section 3.3, for rare positives).

    >>> round(gbce_rest(128, 1601), 2)
    -6.02
    """
    return math.log(_beta(n_negatives, n_items, t) / n_negatives)


def _beta(n_negatives: int, n_items: int, t: float) -> float:
    rate = n_negatives / (n_items - 1)
    return rate * (t * (1 - 1 / rate) + 1 / rate)


@dataclass(frozen=True)
class Answered:
    """An encoder's answers to a batch of questions.

    Args:
        logits_QC: of the target, then of the drawn items, if any.
        labels_Q: 1 liked, 0 not.
        log_q_QN: log-probability of each draw; None where nothing was drawn.
        pool: items that are drawn from.
    """

    logits_QC: Tensor
    labels_Q: Tensor
    log_q_QN: Tensor | None
    pool: int


@dataclass(frozen=True)
class Loss:
    """A loss of the encoder's own task: a row of ``LOSSES``, or ``package.module:NAME``.

    Args:
        summed: loss of a batch, summed over its questions; None where ``catalogue``.
        likes_only: whether liked rows alone are asked about; else every row, with its label.
        drawn: items drawn beside each target, of ``encoder.negatives`` and of whether all feedback is
            likes.
        catalogue: cross-entropy against the whole catalogue at once, which moves every item.
    """

    summed: Callable[[Answered], Tensor] | None
    likes_only: bool = True
    drawn: Callable[[int, bool], int] = lambda asked, implicit: asked
    catalogue: bool = False


def _labelled(answered: Answered) -> Tensor:
    logits_QC = answered.logits_QC
    value = bce(logits_QC[:, 0], answered.labels_Q).sum()
    if logits_QC.shape[1] > 1:
        value = value + bce(logits_QC[:, 1], torch.zeros_like(answered.labels_Q)).sum()
    return value


def _sampled(answered: Answered) -> Tensor:
    logits_QC = answered.logits_QC
    return sampled_softmax(logits_QC[:, 0], logits_QC[:, 1:], log_q_QN=answered.log_q_QN).sum()


def _gbce(answered: Answered) -> Tensor:
    logits_QC, pool = answered.logits_QC, answered.pool
    logits_QC = logits_QC + gbce_rest(logits_QC.shape[1] - 1, pool)
    return gbce(logits_QC[:, 0], logits_QC[:, 1:], n_items=pool).sum()


LOSSES: Mapping[str, Loss] = {
    "bce": Loss(_labelled, likes_only=False, drawn=lambda asked, implicit: int(implicit)),
    "softmax": Loss(None, drawn=lambda asked, implicit: 0, catalogue=True),
    "sampled-softmax": Loss(_sampled),
    "gbce": Loss(_gbce),
}


def loss_of(name: str) -> Loss:
    """The row ``name``, or a :class:`Loss` named ``package.module:NAME``.

    Raises:
        ConfigError: there is none, or the object is none.
    """
    found = resolve(name, LOSSES, "encoder.loss")
    if not isinstance(found, Loss):
        raise ConfigError(
            f"encoder.loss is {name!r}, which is no Loss", "name a sasrecllm.encoders.losses.Loss"
        )
    return found
