"""What to do with a run, in words: which row to deploy and why, what the language model added and cost.

Every sentence follows from the intervals: what is not sure is called so, and what an alarm doubts is
not praised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sasrecllm.evaluation.served_lists import above_chance
from sasrecllm.reports.list_tables import WHOLE
from sasrecllm.reports.wording import duration, number, span, surely
from sasrecllm.settings import CHANNELS

QUICK = (
    "A quick run: no language model, and of encoders the next-item encoder alone; the same command"
    " without --quick goes on from here."
)

TERMS = (
    "AUC is how often a liked row is scored above one that was not liked; surely means that a 95 %"
    " interval excludes the contrary."
)

Triple = list[float | None]


def verdict(results: Mapping[str, Any], costs: Mapping[str, Any] | None = None) -> list[str]:
    """A paragraph each for lists, for P(like), and for the language model.

    Args:
        results: what ``results.json`` holds.
        costs: row -> training seconds, rows scored in a second.
    """
    alarms = results.get("alarms", [])
    found = [QUICK if results.get("quick") else "", _lists(results.get("ranking", {}).get(WHOLE))]
    if alarms:
        found.append(
            "P(like): no headline, for the table may not show what users like. " + _sentences(alarms)
        )
    else:
        found.append(_likes(results))
    found[1] = found[1] or _not_judged(results)
    return [text for text in (*found, _language(results, costs or {}, bool(alarms))) if text]


def _sentences(texts: list[str]) -> str:
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in texts)


# ------------------------------------------------------------------------------------------- lists


def _not_judged(results: Mapping[str, Any]) -> str:
    when = results.get("evaluation", {}).get("ranking", {}).get("when")
    why = "evaluation.ranking.when=never" if when == "never" else "no like of the test may be served"
    return f"Lists: not judged ({why}), so nothing can be said of what recommend serves."


def _lists(lists: Mapping[str, Any] | None) -> str:
    """Whether to deploy the lists that ``recommend`` serves, and why; empty where none were judged."""
    if not lists or not lists["rows"]:
        return ""
    rows, reference = lists["rows"], lists["reference"]
    served = lists.get("served")
    whole = [n for n, row in rows.items() if row["lists"] == rows[reference]["lists"]]
    best = max(whole, key=lambda name: (rows[name]["ndcg@10"][0] or 0.0, name == served))
    if not any(map(_beats_chance, rows.values())):
        return _at_chance(rows[served or best], served or best)
    said = _advised(lists, best) + _hits(lists, served or best)
    if lists.get("fusion"):
        # What it was judged by stands beside the table.
        said += f" The order that recommend serves is {lists['fusion'].partition('; ')[0]}."
    return said + _variety(lists, served or best)


def _at_chance(row: Mapping[str, Any], name: str) -> str:
    return (
        "Lists: deploy none yet. No row's lists hit surely more likes than random ones would"
        f" ({name}: {_percent(row['hr@10'][0])} of them, random {_percent(row['chance'])}): there are"
        " too few likes to learn from, or they are on items that training does not show."
    )


def _advised(lists: Mapping[str, Any], best: str) -> str:
    """Which row to deploy: what is served, unless another one is surely better."""
    rows, served, reference = lists["rows"], lists.get("served"), lists["reference"]
    gain = rows[best]["minus popularity"].get("ndcg@10")
    taste = best != reference and _above(gain)
    if not served:
        if not taste:
            return f"Lists: deploy {reference}; no other row that was judged is surely better."
        return (
            f"Lists: deploy {best}, the best row that was judged, {span(gain, True)} NDCG@10 against"
            + (f" {reference}. What recommend serves was not judged.")
        )
    behind = rows[best].get("served minus it", {}).get("ndcg@10") if best != served else None
    if behind and surely(behind) and (behind[0] or 0.0) < 0:
        return (
            f"Lists: deploy {best} and not what recommend serves, {served}, whose NDCG@10 is surely"
            f" worse ({span(behind, True)}){_setting(best)}."
        )
    said = f"Lists: deploy the run as it is; recommend serves {served}"
    own = rows[served]["minus popularity"].get("ndcg@10") if served != reference else None
    if served == reference or not taste:
        said += f". No row is surely better than {reference}"
        return said + (f" ({served} {span(own, True)} NDCG@10)." if own else ".")
    if best == served:
        return f"{said}, the best row, {span(own, True)} NDCG@10 against {reference}."
    word = "surely better than" if _above(own) else "not surely different from"
    return (
        f"{said}, {word} {reference} ({span(own, True)} NDCG@10), and not surely different from the"
        f" best row, {best} ({span(behind, True)})."
    )


def _setting(best: str) -> str:
    """How to get another row's lists, where a setting gives them; it makes another run."""
    said = f": the same command with 'lists.channels=[{best}]' and another --out serves its lists"
    return said if best in CHANNELS else ""


def _hits(lists: Mapping[str, Any], name: str) -> str:
    """How often its lists hit, beside the simplest lists and beside random ones."""
    row, other = lists["rows"][name], lists["reference"]
    said = f" Of the likes held back, {_percent(row['hr@10'][0])} are among the ten items shown"
    beside = []
    if name != other and row["lists"] == lists["rows"][other]["lists"]:
        beside.append(f"{other} {_percent(lists['rows'][other]['hr@10'][0])}")
    if row.get("chance") is not None:
        beside.append(f"at random {_percent(row['chance'])}")
    said += f" ({', '.join(beside)})" if beside else ""
    return said + ("." if _beats_chance(row) else ", which is not surely more than chance.")


def _variety(lists: Mapping[str, Any], name: str) -> str:
    row, other = lists["rows"][name], lists["reference"]
    own, popular = row["distinct items"], lists["rows"][other]["distinct items"]
    if own is None:
        return ""
    said = f" In {min(200, row['lists']):,} of its lists are {own:,.0f} different items"
    if name != other and popular is not None and row["lists"] == lists["rows"][other]["lists"]:
        said += f", in those of {other} {popular:,.0f}"
    return said + "."


def _beats_chance(row: Mapping[str, Any]) -> bool:
    """Whether a row's lists hit more than random ones; of results without their chance, yes."""
    return row.get("chance") is None or above_chance(dict(row))


# ------------------------------------------------------------------------------------------ P(like)


def _likes(results: Mapping[str, Any]) -> str:
    rows, final = results["rows"], results["final"]
    values = _aucs(rows)
    if not values:
        return "P(like): nothing can be said, for AUC is undefined here."
    best = max(values, key=lambda name: values[name])
    range_ = rows[best].get("intervals", {}).get("auc")
    if range_ is not None and (range_[1] is None or range_[1] <= 0.5):  # None: of a single user
        return (
            f"P(like): deploy none. No row is surely above .5, which is chance (the best, {best}:"
            f" {span(range_)} AUC)."
        )
    rivals = {n: values[n] for n in results.get("baselines", []) if n in values}
    said, deployed = f"P(like): deploy {best}, AUC {number(values[best])}", best
    if best in rivals:
        said += ", which needs no network"
    elif rivals:
        rival = max(rivals, key=lambda name: rivals[name])
        gain = rows[best]["differences"].get(rival, {}).get("auc")
        if not _above(gain):
            deployed = rival
            said = (
                f"P(like): deploy {rival}, AUC {number(rivals[rival])}, which needs no network; {best}"
                f" is not surely better ({span(gain, True)})"
            )
        else:
            said += f", surely better than the best baseline, {rival} ({span(gain, True)})"
    if best != final and final in values:
        said += f"; the run's last row, {final}, has {number(values[final])}"
    within = rows[final]["differences"].get(deployed, {}).get("uauc")
    if surely(within):
        word = "surely better" if _above(within) else "surely worse"
        said += f"; within a user's rows {final} is {word} ({span(within, True)} UAUC)"
    return f"{said}. {TERMS}"


def _aucs(rows: Mapping[str, Any]) -> dict[str, float]:
    return {n: r["metrics"]["auc"] for n, r in rows.items() if r["metrics"]["auc"] is not None}


# ----------------------------------------------------------------------------------- language model


def _language(results: Mapping[str, Any], costs: Mapping[str, Any], alarmed: bool) -> str:
    """What the language model added, and what it costs.

    To a sum that holds it, against the same sum without it; else to the best row that does not ask it.
    """
    rows = results["rows"]
    asking = [n for n in results.get("language_model_rows", []) if n in rows]
    if not asking:
        return "Language model: the run has none, so it added nothing and cost nothing."
    values = _aucs(rows)
    ours = [n for n in asking if n in values]
    theirs = {n: v for n, v in values.items() if n not in asking}
    if not ours or not theirs:
        return "Language model: what it added cannot be told, for there is no AUC to compare."
    best, other = ours[-1], max(theirs, key=lambda n: theirs[n])
    gain = results.get("language_model_gain")
    if alarmed:
        said = (
            "Language model: what it added cannot be told, for the table may not show what users like."
        )
    elif gain:
        said = _added(
            gain, f"{results['final']} against the same sum without it, its weights fitted anew"
        )
    else:
        gained = rows[best]["differences"].get(other, {})
        said = _added(gained, f"{best} against {other}, the best row without it")
    mine, its = costs.get(best), costs.get(other)
    if mine and its:
        said += (
            f" It costs {duration(mine['train_seconds'])} of training instead of"
            f" {duration(its['train_seconds'])}, and scores {mine['rows_per_second']:,.0f} rows a"
            f" second instead of {its['rows_per_second']:,.0f} ({other})."
        )
    return said


def _added(gained: Mapping[str, Triple], compared: str) -> str:
    sure = {name: gained.get(name.lower()) for name in ("AUC", "UAUC")}
    up = [name for name, triple in sure.items() if _above(triple)]
    down = [name for name, triple in sure.items() if surely(triple) and name not in up]
    if up and down:
        word = f"added to {up[0]} and took from {down[0]}:"
    elif up or down:
        word = f"{'added to' if up else 'took from'} {' and '.join(up or down)}"
        word += ":" if len(up or down) == 2 else ", and did nothing that is sure to the other:"
    elif sure["AUC"] and all(end == 0 for end in sure["AUC"]):
        word = "changed nothing:"
    else:
        word = "added nothing that is sure:"
    return (
        f"The language model {word} {span(sure['AUC'], True)} AUC and {span(sure['UAUC'], True)} UAUC"
        f" ({compared})."
    )


def _above(triple: Triple | None) -> bool:
    return bool(triple) and surely(triple) and (triple[0] or 0.0) > 0 if triple else False


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
