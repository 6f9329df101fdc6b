"""The report: one file, nothing from outside, text stays text, and sentences true to the intervals."""

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from sasrecllm.evaluation.protocol import compare
from sasrecllm.evaluation.slices import slices_by_cause
from sasrecllm.reports import plots, run_report
from sasrecllm.types import Histories, Questions

EVIL = "<img src=x onerror=alert(1)></script> [bold]$\\frac$ | &"


def world(labels=None, n=300):
    rng = np.random.default_rng(0)
    none = np.array([], dtype=np.int64)
    histories = Histories(
        rng.integers(0, 25, n), none, none.astype(np.int8), none,
        np.zeros(n + 1, dtype=np.int64), np.arange(n),
    )  # fmt: skip
    drawn = rng.integers(0, 2, n).astype(np.int8)
    return Questions(
        histories, rng.integers(0, 9, n), drawn if labels is None else labels, np.arange(n)
    )


def inputs(asked, scores, **more):
    rows = compare(
        scores,
        asked,
        validation_scores=scores,
        validation_labels=asked.labels,
        slices=slices_by_cause(
            asked,
            seen_users=np.arange(25) < 20,
            seen_items=np.arange(9) < 7,
            train_counts=np.arange(9),
        ),
        resamples=100,
    )
    names = list(scores)
    given = {
        "title": EVIL, "command": EVIL, "seed": 0, "final": names[-1], "trivial": names[:1],
        "rows": {k: v.to_dict() for k, v in rows.items()},
    }  # fmt: skip
    return run_report.ReportInputs(**(given | more))


def noisy(asked, share, seed=1):
    return share * asked.labels + np.random.default_rng(seed).normal(size=len(asked))


ASKED = world()
GOOD = inputs(
    ASKED,
    {"trivial": noisy(ASKED, 0.0), EVIL: noisy(ASKED, 3.0, 2)},
    plots={"Metrics": plots.metric_bars({EVIL: {"auc": [0.6, 0.5, 0.7], "uauc": [None] * 3}}, [EVIL])},
    ablations={"history shuffled": {"auc": [-0.1, -0.2, -0.01], "uauc": [0.0, -0.1, 0.1]}},
    facts={EVIL: {"nested": {"a": EVIL}, "many": [1, 2]}},
    truth={"parameters": {"users": 25}, "ceiling": {"auc": 0.9, "uauc": 0.9, "auc_new_items": None}},
    recommendations={
        EVIL: [{"rank": 1, "item_id": EVIL, "title": EVIL, "probability": 0.5, "flags": [EVIL]}]
    },
    notes=[EVIL],
    config_yaml=EVIL,
)


def test_text_from_data_stays_text_and_nothing_is_fetched():
    html = run_report.html_report(GOOD)
    assert "<img" not in html and "<script" not in html and "&lt;img" in html
    links = re.findall(
        r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)""", html.replace("&lt;img src", "")
    )
    assert all((a or b).startswith("#") for a, b in links), links
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html


def test_the_reader_finds_what_the_run_was():
    html = run_report.html_report(GOOD)
    for text in ("surely better than", "Bayes ceiling", "history shuffled", "any new item", ".900"):
        assert text in html


def test_an_update_shows_both_runs_and_which_way_each_metric_is_better():
    def metric(difference):
        apart = {"after minus before": [difference, difference - 0.01, difference + 0.01]}
        return {"before": [0.5, 0.4, 0.6], "after": [0.5 + difference, 0.4, 0.6], "differences": apart}

    found = {"auc": metric(0.05), "log_loss": metric(-0.05), "hr@10": metric(-0.05), "uauc": metric(0)}
    update = {"of": EVIL, "rows": 1200, "lists": 7, "metrics": found, "worse": []}
    html = run_report.html_report(replace(GOOD, update=update))
    section = html[html.index("Before and after") : html.index("Results on the whole")]
    assert "1,200 rows and 7 lists" in section and "<img" not in section
    signs = re.findall(
        r'<td>([\w@ ]+)</td>.*<td class="num( up| down|)"><b>[^<]*</b>.*</td></tr>', section
    )
    assert signs == [("AUC", " up"), ("log loss", " up"), ("HR@10", " down"), ("UAUC", "")]
    assert "Before and after" not in run_report.html_report(GOOD)


def test_what_an_alarm_doubts_is_neither_shown_large_nor_said_twice():
    card = "AUC: a liked row above another"
    assert card in run_report.html_report(GOOD)
    verdict = ["Lists: deploy none yet.", "P(like): no headline. Popularity is below .5."]
    doubted = replace(GOOD, alarms=["popularity is below .5"], verdict=verdict)
    html = run_report.html_report(doubted)
    assert card not in html and html.lower().count("popularity is below .5") == 1
    assert "test rows, all of them" in html
    assert "No headline" in run_report.html_report(replace(doubted, verdict=[]))


def test_what_the_order_of_lists_was_judged_by_stands_beside_their_table():
    said = "EASE 60%; NDCG@10 on 80 validation likes out of fold 0.05"
    metrics = {m: [0.1, 0.0, 0.2] for m in ("hr@10", "ndcg@10", "mrr")}
    rows = {"list fusion": {"lists": 9, "popularity bias": []} | metrics}
    lists = {"lists": 9, "served": "list fusion", "fusion": said, "rows": rows, "reranked": {}}
    html = run_report.html_report(replace(GOOD, ranking={"whole catalogue": lists}))
    assert f"list fusion is {said}." in html


def test_headline_is_true_to_the_intervals_of_both_metrics():
    better = run_report.headline(GOOD)
    assert better.count("surely better than the best baseline, trivial") == 2
    same = noisy(ASKED, 1.0)
    assert run_report.headline(inputs(ASKED, {"a": same, "b": same})).count("not surely different") == 2
    worse = inputs(ASKED, {"a": noisy(ASKED, 3.0), "b": noisy(ASKED, 0.0, 2)})
    assert run_report.headline(worse).count("surely worse than") == 2


def test_rival_is_the_best_trivial_row_of_each_metric():
    # "offset" separates users and nothing within them: AUC without UAUC.
    liking = np.bincount(ASKED.histories.users, ASKED.labels) / np.bincount(ASKED.histories.users)
    offset = liking[ASKED.histories.users]
    rows = {"offset": 5 * offset, "taste": noisy(ASKED, 0.5), "model": noisy(ASKED, 0.5, 9)}
    both = inputs(ASKED, rows, trivial=["offset", "taste"])
    auc, uauc = run_report.headline(both).split("On UAUC")
    assert "best baseline, offset" in auc and "best baseline, taste" in uauc


def test_a_baseline_that_is_not_trivial_is_a_rival_too():
    rows = {"mean": noisy(ASKED, 0.0), "regression": noisy(ASKED, 3.0), "model": noisy(ASKED, 1.0, 2)}
    asked = replace(inputs(ASKED, rows, trivial=["mean"]), rivals=["mean", "regression"])
    assert run_report.headline(asked).count("surely worse than the best baseline, regression") == 2


def test_a_split_of_likes_only_still_has_a_report():
    liked = world(labels=np.ones(300, dtype=np.int8))
    made = inputs(liked, {"trivial": noisy(liked, 0.0), "model": noisy(liked, 1.0)})
    html = run_report.html_report(made)
    assert "AUC is undefined here: all rows have the same label" in html
    assert "nan" not in run_report.markdown_table(made.rows, "model").lower()


def test_tables_for_people_keep_their_columns():
    lines = run_report.markdown_table(GOOD.rows, EVIL).splitlines()
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(run_report.console_table(GOOD.rows, EVIL, EVIL))
    text = console.export_text()
    assert "onerror" in text and "[bold]" in text and max(map(len, text.splitlines())) <= 80


def test_numbers_are_printed_as_people_write_them():
    assert run_report.span([0.5, 0.4, 0.61234]) == ".5000 [.4000, .6123]"
    assert run_report.span([-0.01, -0.02, 0.0], True) == "−.0100 [−.0200, +.0000]"
    assert run_report.span([1.0, 1.0, 1.0]).startswith("1.0000") and run_report.span(None) == "–"
    assert not run_report.surely([0.1, None, None]) and run_report.surely([-0.2, -0.3, -0.1])


@pytest.mark.parametrize("count", [0, 1, 5])
def test_pictures_are_well_formed_and_the_same_every_time(count):
    records = [{"step": s, "loss": 1 / (s + 1), "valid": {"auc": 0.5 + s / 99}} for s in range(9)]
    scores = {f"{EVIL} {i}": noisy(ASKED, i, i) for i in range(count)}
    liked = np.arange(300) % 70
    drawn = [
        lambda: plots.training_curves({name: records for name in scores}),
        lambda: plots.metric_bars(
            {n: {"auc": [0.5, 0.4, 0.6], "uauc": [None] * 3} for n in scores}, []
        ),
        lambda: plots.calibration_plot(
            {n: 1 / (1 + np.exp(-s)) for n, s in scores.items()}, ASKED.labels
        ),
        lambda: plots.auc_by_history(scores, ASKED.labels, liked, []),
    ]
    for draw in drawn:
        svg = draw()
        assert ElementTree.fromstring(svg).tag.endswith("svg") and svg == draw()
        assert "onerror=alert(1)>" not in svg
        assert "currentColor" in svg or not count
