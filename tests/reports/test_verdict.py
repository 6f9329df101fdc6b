"""The verdict: true to the intervals, in words."""

from sasrecllm.reports.verdict import verdict


def listed(value, gain=None, behind=None, distinct=40.0):
    return {
        "ndcg@10": [value, value - 0.01, value + 0.01], "lists": 90, "distinct items": distinct,
        "minus popularity": {"ndcg@10": gain} if gain else {},
        "served minus it": {"ndcg@10": behind} if behind else {},
    }  # fmt: skip


def scored(auc, **gains):
    better = {k.replace("_", " "): {"auc": v, "uauc": v} for k, v in gains.items()}
    return {"metrics": {"auc": auc}, "differences": better}


SURE, UNSURE = [0.1, 0.05, 0.2], [0.01, -0.05, 0.1]
RESULTS = {
    "final": "LLM", "baselines": ["item mean"], "language_model_rows": ["LLM"],
    "rows": {
        "item mean": scored(0.6),
        "SASRec": scored(0.65),
        "LLM": scored(0.7, item_mean=SURE, SASRec=UNSURE),
    },
    "ranking": {"whole catalogue": {"reference": "popularity", "served": "LLM", "rows": {
        "popularity": listed(0.03, distinct=10.0),
        "ItemKNN": listed(0.09, SURE, [-0.05, -0.07, -0.02]),
        "LLM": listed(0.04, UNSURE),
    }}},
}  # fmt: skip
COSTS = {
    "LLM": {"train_seconds": 200.0, "rows_per_second": 1800.0},
    "SASRec": {"train_seconds": 30.0, "rows_per_second": 9000.0},
}


def test_it_says_what_to_deploy_and_what_the_language_model_added_and_costs():
    lists, likes, language = verdict(RESULTS, COSTS)
    assert lists.startswith("Lists: deploy ItemKNN, whose NDCG@10 of .0900 [.0800, .1000] is the best")
    assert "recommend serves LLM: NDCG@10 .0400 on 90 lists, surely worse than ItemKNN (−.0500" in lists
    assert "40 different items, in those of popularity 10" in lists
    assert likes.startswith("P(like): deploy LLM, AUC .7000, surely better than the best row without a")
    assert "added nothing that is sure: +.0100 [−.0500, +.1000] AUC" in language
    assert "costs 200 s of training against 30 s" in language and "1,800 rows a second" in language


def test_a_row_without_a_network_is_deployed_unless_another_is_surely_better():
    rows = RESULTS["rows"] | {"LLM": scored(0.7, item_mean=UNSURE, SASRec=UNSURE)}
    shown = {"popularity": listed(0.03), "LLM": listed(0.04, UNSURE)}
    lists = {"reference": "popularity", "served": "LLM", "rows": shown}
    said = verdict(RESULTS | {"rows": rows, "ranking": {"whole catalogue": lists}})
    assert said[0].startswith("Lists: deploy popularity; no other row is surely better")
    assert said[1].startswith(
        "P(like): deploy item mean, AUC .6000, which needs no network; LLM is not"
    )


def test_an_alarm_withholds_the_headline():
    said = verdict(RESULTS | {"alarms": ["popularity is below .5"]})[1]
    assert said == "P(like): no headline, for the table need not show taste. Popularity is below .5."
