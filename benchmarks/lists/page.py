"""The page of the study of lists: goals first, then a table for each data set, from plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.lists.judge import METRICS, OURS, POPULARITY
from sasrecllm.reports.wording import cell, number, span

HR, NDCG = METRICS
RIVALS: Mapping[str, Sequence[str]] = {
    "RecTools": ("popular", "ItemKNN", "EASE", "ALS", "SASRec"),
    "RePlay": ("PopRec", "ItemKNN", "SLIM", "ALS"),
}
"""Whose models are asked, and which."""
HITS = {"ml-latest-small": 0.11, "ml-100k": 0.24}
"""Goals for HR@10 of the served lists."""
ABOVE = ("lastfm-llara", "goodreads-sprec", "amazon-industrial-minionerec", "amazon-office-minionerec")
"""Where the served lists should be above the best single row, on at least three of the four."""
DISTINCT, MOSTLY = 3.0, 5.0
"""Times popularity's distinct items: everywhere, and on most."""

PREFACE = (
    "what `recommend` serves with default settings and no language model, for every user with at"
    " least four likes; the last like is the test, the one before it validation"
    " (`configs/studies/lists.yaml`). A list is ten items of the whole catalogue, without what the"
    " user has met, or with it where a fifth of the rows are on such items. Channels alone and rivals"
    " are made of training and validation rows, as in the fusion; networks are trained on training"
    " rows and read the validation like. Value [95 % interval over resampled users], differences"
    " paired; distinct items are of 200 lists. RecTools and RePlay are asked about the same rows in"
    " environments of their own, their settings chosen on validation among a few"
    " (`benchmarks/lists_rectools.py`, `lists_replay.py`), and judged by the same code."
)
BEST_SINGLE = (
    "**Best single** is chosen on validation (NDCG@10), as one would have to; in brackets the best"
    " on the test, which nobody can know before."
)

Judged = Mapping[str, Any]


def page(found: Mapping[str, Judged], wanted: Iterable[str]) -> str:
    """Markdown.

    Args:
        found: data set -> what :func:`benchmarks.lists.judge.judge` says.
        wanted: the data sets of the study, in its order.
    """
    there = [name for name in wanted if name in found]
    absent = [name for name in wanted if name not in found]
    dates = sorted({found[n]["date"] for n in there})
    commits = sorted({_short(found[n]["commit"]) for n in there})
    seeds = sorted({found[n]["seed"] for n in there})
    lines = [
        "# Lists of the whole catalogue",
        "",
        f"`benchmarks/lists.sh` ({', '.join(dates)}, commit {', '.join(commits)}, seed"
        f" {', '.join(map(str, seeds))}): {PREFACE}",
        "",
        BEST_SINGLE,
        "",
        *_missing(found, there, absent),
        *_overview(found, there),
        "",
        "## Goals",
        "",
        *goals(found),
        "",
    ]
    for name in there:
        lines += _table(name, found[name])
    return "\n".join(lines).rstrip() + "\n"


def goals(found: Mapping[str, Judged]) -> list[str]:
    """A line for each goal: reached, missed, or not measured."""
    lines = []
    for name, least in HITS.items():
        if name not in found:
            lines.append(f"- {name}, HR@10 ≥ {number(least, 2)}: not measured.")
            continue
        got = _served(found[name])[HR]
        said = "reached" if got[0] >= least else "**missed**"
        lines.append(f"- {name}, HR@10 ≥ {number(least, 2)}: {said}, {span(got)}.")
    lines += [_above(found, of) for of in (OURS, "RecTools")]
    times = {name: t for name, got in found.items() if (t := _times(got)) is not None}
    low = [name for name, t in times.items() if t < DISTINCT]
    many = [name for name, t in times.items() if t >= MOSTLY]
    said = "reached" if times and not low and 2 * len(many) > len(times) else "**missed**"
    below = f", below three times: {', '.join(low)}" if low else ""
    lines.append(
        f"- distinct items at least {DISTINCT:g} × popularity's everywhere, {MOSTLY:g} × on most:"
        f" {said} ({MOSTLY:g} × on {len(many)} of {len(times)}{below})."
    )
    return lines


def _above(found: Mapping[str, Judged], of: str) -> str:
    """Whether lists are surely above the best single row of ``of``, chosen on validation.

    A data set on which a model of a rival did not answer is not counted.
    """
    whose = "ours" if of == OURS else of
    there = [n for n in ABOVE if n in found and not _absent(found[n], of)]
    lack = [n for n in ABOVE if n not in there]
    above, below, details = 0, 0, []
    for name in (n for n in ABOVE if "validation" in found.get(n, {"best": {}})["best"].get(of, {})):
        against = found[name]["best"][of]["validation"]
        better = found[name]["rows"][against]["fusion minus it"]
        ends = [better[metric] for metric in METRICS]
        above += name in there and all(e[1] > 0 for e in ends)
        below += any(e[2] < 0 for e in ends)
        short = f", without {' and '.join(_absent(found[name], of))}" if name in lack else ""
        details.append(
            f"{name} ({against}{short}): HR {span(better[HR], True)}, NDCG {span(better[NDCG], True)}"
        )
    can = not below and above + len(lack) >= 3
    said = ("reached" if above >= 3 else "**open**") if can else "**missed**"
    tail = f"; not wholly measured: {', '.join(lack)}" if lack else ""
    return (
        f"- above the best single row of {whose}, surely in HR and in NDCG on three of"
        f" {', '.join(ABOVE)}, nowhere surely below: {said}, {above} of {len(there)}"
        f" ({'; '.join(details) or 'none'}{tail})."
    )


def _absent(got: Judged, of: str) -> list[str]:
    """Models of a rival that did not answer."""
    return [f"{of} {m}" for m in RIVALS.get(of, ()) if f"{of} {m}" not in got["rows"]]


def _missing(found: Mapping[str, Judged], there: Sequence[str], absent: Sequence[str]) -> list[str]:
    said = [f"all rows of {name}" for name in absent]
    for name in there:
        lack = [row for rival in RIVALS for row in _absent(found[name], rival)]
        said += [f"{', '.join(lack)} on {name}"] if lack else []
    return [f"**Not measured:** {'; '.join(said)}.", ""] if said else []


def _overview(found: Mapping[str, Judged], there: Sequence[str]) -> list[str]:
    lines = [
        "HR@10 / NDCG@10:",
        "",
        "| data set (lists) | popularity | best single of ours | best of RecTools | best of RePlay |"
        " **served** | distinct items, × popularity's |",
        "|---" * 7 + "|",
    ]
    for name in there:
        got = found[name]
        cells = [f"{name} ({got['lists']:,})", _pair(got["rows"][POPULARITY])]
        cells += [_best(got, of) for of in (OURS, *RIVALS)]
        served = _served(got)
        times, distinct = _times(got), served["distinct items"]
        cells += [f"**{_pair(served)}**", f"{distinct:,.0f}, {number(times, 1)} ×"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Served minus the best single, paired:",
        "",
        "| data set | minus best of ours, validation's choice: HR@10 | NDCG@10 | minus the test's best:"
        " NDCG@10 | minus best of RecTools, validation's choice: HR@10 | NDCG@10 |",
        "|---" * 6 + "|",
    ]
    for name in there:
        got = found[name]
        ours, theirs = got["best"][OURS], got["best"].get("RecTools", {})
        cells = [name, *_minus(got, ours.get("validation")), _minus(got, ours["test"])[1]]
        lines.append("| " + " | ".join([*cells, *_minus(got, theirs.get("validation"))]) + " |")
    return lines


def _minus(got: Judged, other: str | None) -> list[str]:
    better = got["rows"][other]["fusion minus it"] if other else {}
    return [span(better.get(metric), True) for metric in METRICS]


def _best(got: Judged, of: str) -> str:
    best = got["best"].get(of)
    if best is None:
        return "–"

    def said(name: str) -> str:
        return f"{cell(name)} {_pair(got['rows'][name])}"

    chosen = best.get("validation", best["test"])
    hindsight = f" ({said(best['test'])})" if best["test"] != chosen else ""
    return said(chosen) + hindsight


def _table(name: str, got: Judged) -> list[str]:
    data = got["data"]
    rows = ", ".join(f"{count:,} {split}" for split, count in data["rows"].items())
    seen = "may be served again" if data["seen may be served"] else "are not served again"
    lines = [
        f"## {name}",
        "",
        f"{data['users']:,} users, {data['items']:,} items, rows: {rows}; {got['lists']:,} lists; items"
        f" met before {seen}. Served: {cell(got['said'])}. {got['date']}, commit"
        f" {_short(got['commit'])}, seed {got['seed']}.",
        "",
        "| row | NDCG@10, validation | HR@10 | NDCG@10 | distinct items | minus popularity: NDCG@10 |"
        " served minus it: HR@10 | NDCG@10 |",
        "|---" * 8 + "|",
    ]
    for row, values in got["rows"].items():
        own = row == got["served"]
        cells = [f"**{cell(row)}**" if own else cell(row), number(values["valid"])]
        cells += [span(values[metric]) for metric in METRICS]
        cells.append(number(values["distinct items"], 0) if values["distinct items"] else "–")
        cells.append("–" if row == POPULARITY else span(values["minus popularity"][NDCG], True))
        cells += ["–", "–"] if own else _minus(got, row)
        lines.append("| " + " | ".join(cells) + " |")
    chosen = [
        f"{row}: {', '.join(f'{k} {v}' for k, v in setting.items() if k != 'model')}"
        for row, values in got["rows"].items()
        if len(values.get("about", {}).get("tried", [])) > 1
        for setting in [values["about"]["setting"]]
    ]
    versions = {
        values["of"]: values["about"]["version"] for values in got["rows"].values() if "about" in values
    }
    if chosen:
        said = ", ".join(f"{rival} {version}" for rival, version in versions.items())
        lines += ["", f"{said}; chosen on validation: {'; '.join(chosen)}."]
    return [*lines, ""]


def _pair(row: Judged) -> str:
    return f"{number(row[HR][0], 3)} / {number(row[NDCG][0], 3)}"


def _served(got: Judged) -> Judged:
    row: Judged = got["rows"][got["served"]]
    return row


def _times(got: Judged) -> float | None:
    own, other = (r["distinct items"] for r in (_served(got), got["rows"][POPULARITY]))
    return own / other if own and other else None


def _short(commit: Any) -> str:
    return str(commit or "unknown")[:7]
