"""The Bayes ceiling: how well the true probabilities score the rows that every model is judged on."""

from __future__ import annotations

from sasrecllm.evaluation.metrics import auc, uauc
from sasrecllm.types import BoolArray, FloatArray, IntArray, LabelArray


def bayes_ceiling(
    probability: FloatArray, labels: LabelArray, users: IntArray, new_items: BoolArray
) -> dict[str, float | None]:
    """AUC, UAUC and the AUC on new items of the truth; no model is better but by luck.

    Args:
        probability: true P(like) of each row, [N].
        new_items: whether training never showed the row's item, [N].
    """
    return {
        "auc": auc(probability, labels),
        "uauc": uauc(probability, labels, users).value,
        "auc_new_items": auc(probability[new_items], labels[new_items]),
    }
