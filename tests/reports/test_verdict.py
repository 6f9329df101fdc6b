"""The verdict: true to the intervals and to odd outcomes, in words."""

from __future__ import annotations

import pytest

from sasrecllm.reports.verdict import verdict

SURE, UNSURE, SURELY_WORSE, SAME = (
    [0.1, 0.05, 0.2],
    [0.01, -0.05, 0.1],
    [-0.05, -0.07, -0.02],
    [0.0] * 3,
)


def listed(value, gain=None, behind=None, distinct=40.0, lists=90, hit=0.2, chance=0.01):
    return {
        "ndcg@10": [value, value - 0.01, value + 0.01], "hr@10": [hit, hit, hit], "chance": chance,
        "lists": lists, "distinct items": distinct,
        "minus popularity": {"ndcg@10": gain} if gain else {},
        "served minus it": {"ndcg@10": behind} if behind else {},
    }  # fmt: skip


def scored(auc, low=0.55, **gains):
    better = {k.replace("_", " "): {"auc": v, "uauc": v} for k, v in gains.items()}
    interval = [auc, low, None if auc is None else auc + 0.1]
    return {"metrics": {"auc": auc}, "differences": better, "intervals": {"auc": interval}}


def whole(served="list fusion", **rows):
    shown = {k.replace("_", " "): v for k, v in rows.items()}
    fusion = "EASE 60%, popularity 40%; NDCG@10 on 80 validation likes out of fold 0.0500"
    return {"reference": "popularity", "served": served, "rows": shown, "fusion": fusion}


def results(lists=None, **changes):
    ranking = {} if lists is None else {"whole catalogue": lists}
    return {
        "final": "LLM", "baselines": ["item mean"], "language_model_rows": ["LLM"], "ranking": ranking,
        "evaluation": {"ranking": {"when": "auto"}},
        "rows": {
            "item mean": scored(0.6),
            "SASRec": scored(0.65, item_mean=SURE),
            "LLM": scored(0.7, item_mean=SURE, SASRec=UNSURE),
        },
    } | changes  # fmt: skip


COSTS = {
    "LLM": {"train_seconds": 200.0, "rows_per_second": 1800.0},
    "SASRec": {"train_seconds": 30.0, "rows_per_second": 9000.0},
}
GOOD = whole(
    popularity=listed(0.03, distinct=10.0, hit=0.1),
    ItemKNN=listed(0.05, SURE, UNSURE),
    list_fusion=listed(0.09, SURE),
)


def test_it_says_what_to_deploy_and_why_what_the_language_model_added_and_what_it_costs():
    lists, likes, language = verdict(results(GOOD), COSTS)
    assert lists.startswith(
        "Lists: deploy the run as it is; recommend serves list fusion, the best row, +.1000"
        " [+.0500, +.2000] NDCG@10 against popularity."
    )
    assert "20.0% are among the ten items shown (popularity 10.0%, at random 1.0%)." in lists
    assert "The order that recommend serves is EASE 60%, popularity 40%." in lists
    assert "out of fold" not in lists, "for who reads the table, not for who decides"
    assert lists.endswith("In 90 of its lists are 40 different items, in those of popularity 10.")
    assert likes.startswith("P(like): deploy LLM, AUC .7000, surely better than the best baseline, ")
    assert "surely means that a 95 % interval excludes the contrary" in likes
    assert language.startswith("The language model added nothing that is sure: +.0100 [−.0500, +.1000]")
    assert "costs 3.3 minutes of training instead of 30 seconds, and scores 1,800 rows a" in language
    assert "second instead of 9,000 (SASRec)" in language


def test_what_is_served_is_not_deployed_where_another_row_is_surely_better():
    lists = whole(
        popularity=listed(0.03), ItemKNN=listed(0.09, SURE, SURELY_WORSE),
        list_fusion=listed(0.04, UNSURE),
    )  # fmt: skip
    said = verdict(results(lists))[0]
    assert said.startswith("Lists: deploy ItemKNN and not what recommend serves, list fusion, whose")
    assert "surely worse (−.0500 [−.0700, −.0200]): the same command with" in said
    assert "'lists.channels=[ItemKNN]' and another --out serves its lists." in said


def test_what_is_served_need_not_be_the_best_row():
    lists = whole(
        popularity=listed(0.03), ItemKNN=listed(0.05, SURE, UNSURE), list_fusion=listed(0.045, UNSURE)
    )  # fmt: skip
    said = verdict(results(lists))[0]
    assert (
        said.startswith("Lists: deploy the run as it is")
        and (
            "not surely different from popularity (+.0100 [−.0500, +.1000] NDCG@10), and not surely"
            " different from the best row, ItemKNN"
        )
        in said
    )


def test_popularity_wins():
    for gain in (UNSURE, SAME, None):
        lists = whole(popularity=listed(0.05, behind=UNSURE), list_fusion=listed(0.04, gain))
        said = verdict(results(lists))[0]
        assert "No row is surely better than popularity" in said and "best row" not in said
    lists = whole(popularity=listed(0.05, behind=SURELY_WORSE), list_fusion=listed(0.02, SURELY_WORSE))
    said = verdict(results(lists))[0]
    assert "deploy popularity and not what recommend serves" in said
    assert "lists.channels=[popularity]" in said


def test_a_row_that_was_judged_on_fewer_lists_is_not_called_the_best():
    lucky = listed(0.5, SURE, UNSURE, lists=20)
    lists = whole(popularity=listed(0.03), LLM=lucky, list_fusion=listed(0.09, SURE))
    assert "serves list fusion, the best row" in verdict(results(lists))[0]


def test_lists_at_chance_are_not_deployed():
    poor = {"hit": 0.011, "chance": 0.01}
    lists = whole(popularity=listed(0.003, **poor), list_fusion=listed(0.004, SURE, **poor))
    said = verdict(results(lists))[0]
    assert said.startswith(
        "Lists: deploy none yet. No row's lists hit surely more likes than random ones"
    )
    assert "best row" not in said and "EASE" not in said
    served = whole(popularity=listed(0.03), list_fusion=listed(0.004, UNSURE, **poor))
    assert (
        "1.1% are among the ten items shown (popularity 20.0%, at random 1.0%), which is not surely"
        in (verdict(results(served))[0])
    )


def test_lists_that_were_not_judged_are_not_praised():
    never = {"evaluation": {"ranking": {"when": "never"}}}
    assert verdict(results(**never))[0].startswith("Lists: not judged (evaluation.ranking.when=never)")
    assert verdict(results())[0].startswith("Lists: not judged (no like of the test may be served)")
    unserved = whole(None, popularity=listed(0.03), ItemKNN=listed(0.05, SURE))
    said = verdict(results(unserved))[0]
    assert "deploy ItemKNN, the best row that was judged" in said
    assert "What recommend serves was not judged." in said


def test_a_row_without_a_network_is_deployed_unless_another_is_surely_better():
    rows = results()["rows"] | {"LLM": scored(0.7, item_mean=UNSURE, SASRec=UNSURE)}
    likes = verdict(results(rows=rows))[1]
    assert likes.startswith("P(like): deploy item mean, AUC .6000, which needs no network; LLM is not")
    best = {"item mean": scored(0.8), "LLM": scored(0.7, item_mean=SURELY_WORSE)}
    likes = verdict(results(rows=best))[1]
    assert likes.startswith(
        "P(like): deploy item mean, AUC .8000, which needs no network; the run's last"
    )
    assert "within a user's rows LLM is surely worse (−.0500" in likes


def test_likes_that_cannot_be_told_are_said():
    chance = {"item mean": scored(0.52, low=0.45), "LLM": scored(0.51, low=0.44, item_mean=UNSURE)}
    assert verdict(results(rows=chance))[1].startswith(
        "P(like): deploy none. No row is surely above .5"
    )
    none = {"item mean": scored(None), "LLM": scored(None, item_mean=[None] * 3)}
    lists, likes, language = verdict(results(GOOD, rows=none))
    assert (
        "AUC is undefined here" in likes and "cannot be told" in language and "deploy the run" in lists
    )


def test_an_alarm_withholds_the_headline_and_what_the_language_model_added():
    lists, likes, language = verdict(results(GOOD, alarms=["popularity is below .5"]), COSTS)
    assert (
        likes
        == "P(like): no headline, for the table may not show what users like. Popularity is below .5."
    )
    assert (
        "cannot be told, for the table may not show what users like. It costs 3.3 minutes" in language
    )
    assert "AUC" not in language and lists.startswith("Lists: deploy the run as it is")


def test_a_sum_is_compared_with_the_same_sum_without_the_language_model():
    """What a sum is above its best summand may come from the others."""
    found = results(language_model_gain={"auc": SURE, "uauc": SURELY_WORSE})
    said = verdict(found, COSTS)[2]
    assert said.startswith(
        "The language model added to AUC and took from UAUC: +.1000 [+.0500, +.2000]"
    )
    assert "(LLM against the same sum without it, its weights fitted anew)" in said
    found["rows"]["soft"] = scored(0.9, SASRec=SURE, item_mean=SURE)
    found |= {"language_model_rows": ["soft", "LLM"], "language_model_gain": {}}
    assert "(LLM against SASRec, the best row without it)" in verdict(found, COSTS)[2], "not the best"


def test_a_run_without_a_language_model_says_so():
    said = verdict(results(language_model_rows=[]), COSTS)[2]
    assert said == "Language model: the run has none, so it added nothing and cost nothing."


@pytest.mark.parametrize(
    ("auc", "uauc", "word"),
    [
        (SURE, SURE, "added to AUC and UAUC:"),
        (SURE, UNSURE, "added to AUC, and did nothing that is sure to the other:"),
        (UNSURE, SURE, "added to UAUC, and did nothing that is sure to the other:"),
        (SURE, SURELY_WORSE, "added to AUC and took from UAUC:"),
        (SURELY_WORSE, UNSURE, "took from AUC, and did nothing that is sure to the other:"),
        (SAME, SAME, "changed nothing:"), (UNSURE, UNSURE, "added nothing that is sure:"),
        (UNSURE, [None] * 3, "added nothing that is sure:"),
    ],
)  # fmt: skip
def test_what_the_language_model_added_is_called_what_it_is(auc, uauc, word):
    rows = results()["rows"]
    rows["LLM"]["differences"]["SASRec"] = {"auc": auc, "uauc": uauc}
    said = verdict(results(rows=rows))[2]
    assert said.startswith(f"The language model {word}") and "LLM against SASRec" in said


def test_a_quick_run_says_so_first():
    assert verdict(results(GOOD, quick=True))[0].startswith("A quick run: ")
    assert verdict(results(GOOD, quick=False))[0].startswith("Lists: ")
