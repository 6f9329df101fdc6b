"""What several seeds say of lists, in one row."""

import pytest

from sasrecllm.studies.collect import mean_of_seeds


def test_the_mean_of_seeds_keeps_the_shape_of_one():
    one = {"hr@10": [0.2, 0.1, 0.3], "lists": 40, "novelty": [None, None, None], "distinct items": 10.0,
           "popularity bias": [{"group": "niche", "lift": 1.0}], "minus popularity": {}}  # fmt: skip
    other = {"hr@10": [0.4, 0.1, 0.5], "lists": 40, "novelty": [3.0, 2.0, 4.0], "distinct items": 20.0,
             "popularity bias": [{"group": "niche", "lift": None}]}  # fmt: skip
    got = mean_of_seeds([one, other])
    assert got.pop("hr@10") == pytest.approx([0.3, 0.1, 0.4])
    assert got == {
        "lists": 40,
        "novelty": [None, None, None],
        "distinct items": 15.0,
        "popularity bias": [{"group": "niche", "lift": None}],
    }
