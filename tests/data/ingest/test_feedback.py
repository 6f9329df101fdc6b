"""A threshold that does not fit the ratings is said, with one that does."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.ingest.feedback import RARE, label_warnings, threshold_warnings
from sasrecllm.errors import DataError


def named(text: str) -> float:
    """The threshold that a remedy names."""
    found = re.search(r"set data\.threshold=([^,]+), which makes ([0-9.]+)% likes", text)
    assert found is not None, text
    return float(found[1])


def test_the_usual_scales_fit_and_nothing_is_said() -> None:
    for scale in (np.arange(1, 6.0), np.arange(0.5, 5.5, 0.5), np.arange(0, 6.0)):
        assert threshold_warnings(np.repeat(scale, 3), 4.0, "log") == []
    assert threshold_warnings(np.arange(1, 6.0), 3.5, "log") == []  # divides as 4 does


def test_a_scale_of_ten_needs_a_threshold_of_its_own() -> None:
    ratings = np.repeat(np.arange(11.0), [1, 1, 1, 2, 3, 5, 8, 12, 20, 25, 22])
    (warning,) = threshold_warnings(ratings, 4.0, "log.csv")
    assert (
        "log.csv: ratings run from 0 to 10, and data.threshold=4 makes 95.0% of them likes" in warning
    )
    better = named(warning)
    assert better == 9.0 and threshold_warnings(ratings, better, "log.csv") == []


@pytest.mark.parametrize(("ratings", "better"), [
    ([0.0, 1.0, 1.0, 0.0], 1.0), ([1.0, 2.0, 3.0], 2.0), ([70.0, 85.5, 90.25], 85.5),
])  # fmt: skip
def test_a_threshold_that_fits_no_rating_is_refused_with_one_that_does(ratings, better) -> None:
    with pytest.raises(DataError, match=r"makes (all|none) of them likes") as refusal:
        threshold_warnings(np.array(ratings), 4.0, "log")
    assert named(refusal.value.remedy) == better
    threshold_warnings(np.array(ratings), better, "log")


def test_ratings_that_are_all_equal_are_refused_with_another_way() -> None:
    with pytest.raises(DataError, match="every rating is 5") as refusal:
        threshold_warnings(np.full(4, 5.0), 4.0, "log")
    assert "data.feedback=implicit" in refusal.value.remedy


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 8.0, 10.0, 100.0, 1e-3]),
             min_size=1, max_size=40),
    st.sampled_from([-5.0, 0.0, 1.0, 3.5, 4.0, 7.0, 1000.0]),
)  # fmt: skip
def test_the_named_threshold_never_leads_to_another_refusal_and_ends_the_warning_if_any_can(
    ratings: list[float], threshold: float
) -> None:
    values = np.array(ratings)
    try:
        said = threshold_warnings(values, threshold, "log")
    except DataError as refusal:
        if len(set(ratings)) == 1:
            return
        said = [refusal.remedy]
    share = float((values >= threshold).mean())
    assert said or RARE <= share <= 1 - RARE
    for text in said:
        if "set data.threshold" not in text:
            continue
        again = threshold_warnings(values, named(text), "log")
        shares = [float((values >= v).mean()) for v in set(ratings)]
        possible = any(RARE <= s <= 1 - RARE for s in shares)
        assert not again or not possible


def test_labels_that_are_nearly_all_the_same_are_said() -> None:
    for ones, words in ((1, "1.0% of the rows are likes; keep fewer"), (99, "data.feedback=implicit")):
        labels = np.repeat(np.array([1, 0], dtype=np.int8), [ones, 100 - ones])
        (warning,) = label_warnings(labels, "log")
        assert words in warning
    assert label_warnings(np.array([0, 1], dtype=np.int8), "log") == []


def test_a_rating_of_three_hundred_digits_is_told_in_few() -> None:
    (said,) = threshold_warnings(np.array([*[3.0] * 60, 2.0, 1e300]), 3.0, "log.csv")
    assert "1e+300" in said and len(said) < 200
