"""What to do with a run, in words: which row to deploy, what the language model added and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sasrecllm.reports.list_tables import WHOLE
from sasrecllm.reports.wording import number, span, surely

Triple = list[float | None]


def verdict(results: Mapping[str, Any], costs: Mapping[str, Any] | None = None) -> list[str]:
    """A paragraph each for lists, for P(like), and for the language model where the run has one.

    Args:
        results: what ``results.json`` holds.
        costs: row -> training seconds, rows scored in a second.
    """
    alarms = results.get("alarms", [])
    found = [_lists(results.get("ranking", {}).get(WHOLE))]
    if alarms:
        found.append("P(like): no headline, for the table need not show taste. " + _sentences(alarms))
    else:
        found.append(_likes(results))
    return [text for text in (*found, _language(results, costs or {})) if text]


def _sentences(texts: list[str]) -> str:
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in texts)


def _lists(lists: Mapping[str, Any] | None) -> str:
    if not lists or not lists["rows"]:
        return "Lists were not judged (evaluation.ranking.when)."
    rows, served, reference = lists["rows"], lists.get("served"), lists["reference"]
    best = max(rows, key=lambda name: rows[name]["ndcg@10"][0] or 0.0)
    value, gain = rows[best]["ndcg@10"], rows[best]["minus popularity"].get("ndcg@10")
    if best == reference or not _above(gain):
        said = (
            f"Lists: deploy {reference}; no other row is surely better"
            f" (NDCG@10 {span(rows[reference]['ndcg@10'])})."
        )
    else:
        said = (
            f"Lists: deploy {best}, whose NDCG@10 of {span(value)} is the best, {span(gain, True)}"
            f" against {reference}."
        )
    if served and served != best:
        behind = rows[best].get("served minus it", {}).get("ndcg@10")
        worse = surely(behind) and behind and behind[0] < 0
        said += (
            f" recommend serves {served}: NDCG@10 {number(rows[served]['ndcg@10'][0])} on"
            f" {rows[served]['lists']:,} lists,"
            f" {'surely worse than' if worse else 'not surely different from'} {best}"
            f" ({span(behind, True)})."
        )
    elif served:
        said += " That is what recommend serves."
    if lists.get("fusion"):
        said += f" Its order is made of {lists['fusion']}."
    shown = rows[served or best]
    own, popular = shown["distinct items"], rows[reference]["distinct items"]
    alike = shown["lists"] == rows[reference]["lists"]
    if own is not None and popular is not None and alike:
        said += (
            f" In {min(200, shown['lists'])} of its lists are {own:,.0f} different items, in those of"
            f" {reference} {popular:,.0f}."
        )
    return said


def _likes(results: Mapping[str, Any]) -> str:
    rows, final = results["rows"], results["final"]
    values = {n: r["metrics"]["auc"] for n, r in rows.items() if r["metrics"]["auc"] is not None}
    if not values:
        return "P(like): AUC is undefined here."
    best = max(values, key=lambda name: values[name])
    rivals = {n: values[n] for n in results.get("baselines", []) if n in values}
    said = f"P(like): deploy {best}, AUC {number(values[best])}"
    if rivals and best not in rivals:
        rival = max(rivals, key=lambda name: rivals[name])
        gain = rows[best]["differences"].get(rival, {}).get("auc")
        if not _above(gain):
            said = (
                f"P(like): deploy {rival}, AUC {number(rivals[rival])}, which needs no network;"
                f" {best} is not surely better"
            )
            return f"{said} ({span(gain, True)})."
        said += f", surely better than the best row without a network, {rival} ({span(gain, True)})"
    if best != final and final in values:
        said += f"; the run's last row, {final}, has {number(values[final])}"
    return said + "."


def _language(results: Mapping[str, Any], costs: Mapping[str, Any]) -> str:
    rows = results["rows"]
    asking = [n for n in results.get("language_model_rows", []) if n in rows]
    values = {n: r["metrics"]["auc"] for n, r in rows.items() if r["metrics"]["auc"] is not None}
    ours = {n: values[n] for n in asking if n in values}
    theirs = {n: v for n, v in values.items() if n not in asking}
    if not ours or not theirs:
        return ""
    best, other = max(ours, key=lambda n: ours[n]), max(theirs, key=lambda n: theirs[n])
    gained = rows[best]["differences"].get(other, {})
    word = "added" if _above(gained.get("auc")) else "added nothing that is sure:"
    said = (
        f"The language model {word} {span(gained.get('auc'), True)} AUC and"
        f" {span(gained.get('uauc'), True)} UAUC ({best} against {other}, the best row without it)."
    )
    mine, its = costs.get(best), costs.get(other)
    if mine and its:
        said += (
            f" It costs {mine['train_seconds']:,.0f} s of training against"
            f" {its['train_seconds']:,.0f} s, and scores {mine['rows_per_second']:,.0f} rows a second"
            f" against {its['rows_per_second']:,.0f}."
        )
    return said


def _above(triple: Triple | None) -> bool:
    return bool(triple) and surely(triple) and (triple[0] or 0.0) > 0 if triple else False
