"""Signs that a table shows how its questions were made rather than taste: then it has no headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sasrecllm.evaluation.served_lists import above_chance

APART = 0.05
"""Difference of two shares of items from which on what is true of them tells likes apart."""
TWICE = 2.0
"""Times the hits of random lists that lists with any taste may be expected to have."""


def alarms(
    rows: Mapping[str, Mapping[str, Any]],
    *,
    final: str,
    trivial: Sequence[str],
    rivals: Sequence[str],
    lists: Mapping[str, Any] | None = None,
    shares: Mapping[str, tuple[float, float]] | None = None,
) -> list[str]:
    """A sentence for each reason not to believe the table; none where there is none.

    Args:
        rows: name -> ``Evaluation.to_dict()``.
        final: the row that a headline would be about.
        trivial, rivals: rows that know no taste, and all that a headline holds the final row against.
        lists: what was found for lists of the whole catalogue, where they were judged.
        shares: what is true of some test items -> of which share of the liked ones, and of the others
            that were drawn beside them.
    """
    found = []
    for name in trivial:
        value, _, high = rows[name]["intervals"]["auc"]
        if high is not None and high < 0.5:
            found.append(
                f"{name} has an AUC of {value:.3f}, surely below .5: likes can be told by what it holds"
                " against an item, so a high AUC of another row need not mean that it knows"
                " what users like"
            )
    for what, (liked, drawn) in (shares or {}).items():
        if abs(liked - drawn) > APART:
            found.append(
                f"{liked:.0%} of the liked test items {what}, but {drawn:.0%} of the others that were"
                " drawn beside them: that alone tells likes apart"
            )
    served = (lists or {}).get("rows", {})
    judged = served.get(final) or served.get((lists or {}).get("served"))
    if judged and judged["lists"] and _miss(judged) and _surely_best(rows, final, rivals):
        found.append(
            f"{final} has surely the best AUC, but its lists do not surely hit more likes than random"
            f" ones (HR@10 {judged['hr@10'][0]:.3f}, random {judged['chance']:.3f})"
        )
    return found


def _miss(row: Mapping[str, Any]) -> bool:
    """Whether lists are at chance, and there are enough of them to tell.

    Few lists are above chance by luck or not at all: where twice as many hits as random ones have are
    possible, and no fewer than those of popularity, nothing is told.
    """
    if above_chance(dict(row)):
        return False
    apart = row.get("minus popularity", {}).get("ndcg@10") or [None] * 3
    behind = apart[2] is not None and apart[2] < 0
    return behind or row["hr@10"][2] is None or row["hr@10"][2] < TWICE * row["chance"]


def _surely_best(rows: Mapping[str, Mapping[str, Any]], final: str, rivals: Sequence[str]) -> bool:
    """Whether the final row's AUC is surely above the best rival's."""
    values = {r: rows[r]["metrics"]["auc"] for r in rivals if rows[r]["metrics"]["auc"] is not None}
    if not values or final in values:
        return False
    best = max(values, key=lambda r: values[r])
    low = rows[final]["differences"].get(best, {}).get("auc", [None] * 3)[1]
    return low is not None and low > 0
