"""What an update changed, as a table: before, after, and the paired difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sasrecllm.reports.wording import span

NAMES = {"auc": "AUC", "uauc": "UAUC", "log_loss": "log loss", "hr@10": "HR@10", "ndcg@10": "NDCG@10"}


def changes_table(found: Mapping[str, Any]) -> str:
    """The table for the terminal.

    Args:
        found: what :func:`sasrecllm.updates.judge.before_after` keeps.
    """
    head = ("", "before", "after", "after minus before")
    rows = [
        (
            NAMES.get(name, name),
            span(metric["before"]),
            span(metric["after"]),
            span(metric["differences"]["after minus before"], True),
        )
        for name, metric in found["metrics"].items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    said = f"{found['rows']:,} rows and {found['lists']:,} lists that neither run has seen,"
    lines = [f"{said} 95 % user-bootstrap intervals"]
    lines += [
        "  ".join(f"{cell:{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)
