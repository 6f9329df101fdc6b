"""What a run measured, as a mapping that prints as its table."""

import pytest

from sasrecllm.inference.results import Results

ROW = {
    "rows": 1234,
    "metrics": {"auc": 0.75, "log_loss": 1.25},
    "intervals": {"auc": [0.75, 0.7, 0.8], "uauc": [None, None, None]},
}
HITS = {"hr@10": [0.5, 0.25, 1.0], "ndcg@10": [0.5, 0.25, 1.0], "mrr": None}
VALUES = {
    "rows": {"item mean": ROW, "a longer name": ROW},
    "seed": 3,
    "ranking": {"whole catalogue": {"lists": 77, "rows": {"SASRec": HITS}}},
}


def test_it_prints_as_a_table_with_intervals_and_lists():
    assert str(Results(VALUES)).splitlines() == [
        "test split, 1,234 rows, seed 3, 95 % intervals over users",
        "row            AUC                   UAUC  log loss",
        "item mean      .7500 [.7000, .8000]  –     1.2500",
        "a longer name  .7500 [.7000, .8000]  –     1.2500",
        "",
        "ranking, whole catalogue, 77 lists",
        "row     HR@10                  NDCG@10                MRR",
        "SASRec  .5000 [.2500, 1.0000]  .5000 [.2500, 1.0000]  –",
    ]


def test_it_is_a_mapping_that_cannot_be_changed():
    got = Results(VALUES)
    assert dict(got) == VALUES and len(got) == 3 and got["seed"] == 3
    with pytest.raises(TypeError):
        got["seed"] = 4
    with pytest.raises(KeyError):
        got["nothing"]
