"""The replay of a log day by day: what its page says of the days that were played."""

import json

from benchmarks.daily import page, sure


def day(number, above, below, first=None):
    """A day on which update minus never and retrain minus update have these intervals."""

    def metric(low_high, other):
        values = {way: [0.5, 0.4, 0.6] for way in ("never", "update", "retrain")}
        differences = {"update minus never": [0.0, *low_high], "retrain minus update": [0.0, *other]}
        return values | {"differences": differences}

    judged = {"all": {"rows": 10, "metrics": {"auc": metric(above, below)}}}
    if first:
        judged["of the first day"] = {"rows": 4, "metrics": {"auc": metric(first, below)}}
    return {"day": number, "seconds": {"update": 1.0, "retrain": 4.0 * number}, "judged": judged}


DAYS = [
    day(1, (0.01, 0.02), (-0.1, 0.1), first=(-0.2, -0.1)),
    day(2, (-0.01, 0.02), (0.01, 0.1), first=(-0.2, 0.1)),
    day(3, (-0.03, -0.02), (-0.2, -0.1)),
]


def test_days_are_counted_on_which_an_interval_lies_on_one_side_of_zero():
    assert sure(DAYS, "auc", "update minus never", 1, "all") == "1 of 3"
    assert sure(DAYS, "auc", "update minus never", -1, "all") == "1 of 3"
    assert sure(DAYS, "auc", "retrain minus update", 1, "all") == "1 of 3"
    assert sure(DAYS, "auc", "update minus never", -1, "of the first day") == "1 of 2"
    assert sure(DAYS, "hr@10", "update minus never", 1, "all") == "0 of 0"


def test_the_page_has_the_cost_of_all_days_and_every_day_of_what_was_played(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/days.json").write_text(json.dumps({"first": 9.0, "days": DAYS}))
    text = page({"shop, encoder only": tmp_path / "a", "not played": tmp_path / "b"})
    assert "| shop, encoder only | 3 | 3 of 24 (12%) | AUC | 1 of 3 |" in text
    assert "## shop, encoder only" in text and "not played" not in text
    assert text.count("| of the first day | AUC |") == 2 and "1 of 8 (12%)" in text
