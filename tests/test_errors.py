"""The nearest name of what was mistyped, in whatever case."""

import pytest

from sasrecllm.errors import did_you_mean, nearest_name

NAMES = ["member", "recipe_id", "clicked_at", "Anna", "anna", "MEMORY"]


@pytest.mark.parametrize(
    ("got", "near"),
    [
        ("membr", "member"),
        ("MEMBER", "member"),
        ("Clicked_At", "clicked_at"),
        ("RECIPEID", "recipe_id"),
        ("ANNA", "Anna"),
        ("anna", "anna"),
        ("price", ""),
        ("", ""),
    ],
)
def test_a_name_is_near_whatever_its_case(got, near):
    assert nearest_name(got, NAMES) == near
    assert did_you_mean(got, NAMES) == (f"; did you mean {near!r}?" if near else "")
