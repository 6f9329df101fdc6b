"""What a run measured of itself, for Python: a mapping that prints as its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Results(Mapping[str, Any]):
    """The values of ``results.json``: ``rows``, ``ranking``, ``ablations``, ``final`` and others.

    ``results["rows"]["SASRec"]["metrics"]["auc"]`` is a number; ``print(results)`` is the table, each
    value with its interval over users.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        rows = self["rows"]
        tested = next(iter(rows.values()))["rows"]
        lines = [f"test split, {tested:,} rows, seed {self['seed']}, 95 % intervals over users"]
        lines += _table(
            ("row", "AUC", "UAUC", "log loss"),
            [
                (
                    name,
                    _span(row["intervals"].get("auc")),
                    _span(row["intervals"].get("uauc")),
                    _number(row["metrics"]["log_loss"]),
                )
                for name, row in rows.items()
            ],
        )
        for kind, lists in self["ranking"].items():
            lines += ["", f"ranking, {kind}, {lists['lists']:,} lists"]
            lines += _table(
                ("row", "HR@10", "NDCG@10", "MRR"),
                [
                    (name, *(_span(got.get(m)) for m in ("hr@10", "ndcg@10", "mrr")))
                    for name, got in lists["rows"].items()
                ],
            )
        return "\n".join(lines)

    __repr__ = __str__


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(f"{c:{w}}" for c, w in zip(r, widths, strict=True)) for r in (head, *rows))
    return [line.rstrip() for line in lines]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.4f}"
    return text.removeprefix("0") if 0 <= value < 1 else text


def _span(triple: Sequence[float | None] | None) -> str:
    if not triple or triple[0] is None:
        return "–"
    value, low, high = triple
    return f"{_number(value)} [{_number(low)}, {_number(high)}]"
