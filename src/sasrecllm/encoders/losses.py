"""Losses of recommendation: plain functions of logits that know no model.

Each gives one loss per question, shape [Q]; the caller sums or averages.

Shape legend: Q questions, I items of the catalogue, N negatives of a question, C = 1 + N candidates
with the positive in column 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bce(logits_Q: Tensor, labels_Q: Tensor) -> Tensor:
    """Binary cross-entropy of labelled questions, [Q].

    >>> round(bce(torch.tensor([0.0]), torch.tensor([1])).item(), 4)
    0.6931
    """
    return F.binary_cross_entropy_with_logits(
        logits_Q, labels_Q.to(logits_Q.dtype), reduction="none"
    )


def full_softmax(logits_QI: Tensor, targets_Q: Tensor, among_I: Tensor | None = None) -> Tensor:
    """Cross-entropy of the next item against the whole catalogue, [Q].

    Args:
        among_I: bool, the items that compete (those seen in training); all unless told.  A target
            must be one of them, otherwise its loss is infinite.
    """
    if among_I is not None:
        logits_QI = logits_QI.masked_fill(~among_I, -math.inf)
    return F.cross_entropy(logits_QI, targets_Q, reduction="none")


def sampled_softmax(logits_QC: Tensor, items_QC: Tensor, log_q_QN: Tensor | None = None) -> Tensor:
    """Cross-entropy of the positive (column 0) against its sampled negatives, [Q].

    A negative that is the positive itself is left out.  With ``log_q_QN``, the log-probability with
    which each negative was drawn, negatives are reweighted by 1 / (N q): their sum then estimates
    the full softmax's without bias (Bengio & Senécal, 2008).  The positive, always there, is not.
    """
    positive, negatives = logits_QC[:, :1], logits_QC[:, 1:]
    if log_q_QN is not None:
        negatives = negatives - log_q_QN - math.log(negatives.shape[1])
    collides = items_QC[:, 1:] == items_QC[:, :1]
    negatives = negatives.masked_fill(collides, -math.inf)
    return torch.cat([positive, negatives], dim=1).logsumexp(dim=1) - positive[:, 0]


def gbce(logits_QC: Tensor, n_items: int, t: float = 0.75) -> Tensor:
    """Generalised binary cross-entropy, mean over the C candidates, [Q].

    The positive's probability is raised to the power beta, which undoes the overconfidence that
    sampling one negative in many brings: beta = a (t (1 - 1/a) + 1/a) with the sampling rate
    a = N / (n_items - 1).  t = 0 is plain BCE, t = 1 is fully calibrated (Petrov & Macdonald,
    RecSys 2023, equations 8 and 13).

    Args:
        n_items: items that negatives were drawn from, the positive included; at least 2.
        t: calibration, from 0 to 1.
    """
    positive, negatives = logits_QC[:, 0], logits_QC[:, 1:]
    rate = negatives.shape[1] / (n_items - 1)
    beta = rate * (t * (1 - 1 / rate) + 1 / rate)
    summed = beta * F.softplus(-positive) + F.softplus(negatives).sum(dim=1)
    return summed / logits_QC.shape[1]
