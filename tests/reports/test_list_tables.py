"""The tables of lists: every row in its place, the sample said, narrow enough for a terminal."""

import io
import re

from rich.console import Console

from sasrecllm.reports.list_tables import console_lists, ranking_tables

HITS = {m: [0.5, 0.4, 0.6] for m in ("hr@10", "ndcg@10", "mrr")}
LOOK = {
    "lists": 7, "distinct items": 41.2, "most frequent list": 0.25, "novelty": [7.1, 7.0, 7.2],
    "diversity": [None, None, None], "new items shown": [0.1, 0.0, 0.2],
    "new items liked": [0.3, 0.2, 0.4],
    "popularity bias": [{"group": "niche", "users": 3, "likes": 2.0, "lists": 3.0, "lift": 0.5}],
}  # fmt: skip
WHOLE = {
    "lists": 7, "users": 5, "of_users": 50, "of_lists": 90, "served": "a | b", "left_out": 0,
    "reranked": {"a | b": 100},
    "rows": {
        "popularity": HITS | LOOK,
        "a | b": HITS | LOOK | {"minus popularity": {"ndcg@10": [0.1, 0.05, 0.2]}},
    },
}  # fmt: skip


def test_lists_that_could_not_be_made_are_counted():
    lists = {"lists": 9, "rows": {"SASRec": HITS}, "reranked": {}}
    assert "Ranking, 1 + 5 items, 9 lists:" in ranking_tables({"1 + 5 items": lists})
    less = ranking_tables({"1 + 5 items": lists | {"left_out": 2}})
    assert "9 lists (2 liked rows have none: their item is never recommended again" in less


def test_served_lists_have_a_table_of_what_they_look_like():
    text = ranking_tables({"whole catalogue": WHOLE})
    assert "7 lists of 5 users, a seeded sample of the 90 liked test items of 50 users" in text
    hits, looks = (part.splitlines() for part in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE))
    for lines in (hits, looks):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1 and len(lines) == 4
    assert "+.1000 [+.0500, +.2000]" in hits[-1] and "best 100 reranked (served)" in hits[-1]
    assert "| 41 | .250 | 7.1 | – | .100 | .300 | +.50 |" in looks[-1]


def test_the_terminal_has_80_columns():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(console_lists(WHOLE))
    text = console.export_text()
    assert "a | b (served)" in text and "+.1000" in text and max(map(len, text.splitlines())) <= 80
