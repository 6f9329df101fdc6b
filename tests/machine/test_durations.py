"""Durations are read as people write them, and refused with the allowed spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.config import load_config
from sasrecllm.errors import ConfigError
from sasrecllm.machine.durations import seconds_of


@given(h=st.integers(0, 30), m=st.integers(0, 90), s=st.integers(0, 90))
def test_hours_minutes_and_seconds_add_up(h, m, s):
    text = f"{h}h" * bool(h) + f"{m}m" * bool(m) + f"{s}s" * bool(s)
    if h or m or s:
        assert seconds_of(text) == 3600 * h + 60 * m + s


@pytest.mark.parametrize(
    "text", ["", "0s", "15", "1.5h", "2 m", "30m1h", "-5m", "1:30", "five", "m", "١m", 15, None, True]
)
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match="90s, 15m, 2h or 1h30m"):
        seconds_of(text)


@pytest.mark.parametrize("written", ["15", "1:30", "soon", "0m", "[2m]", "null"])
def test_a_budget_is_refused_with_what_is_allowed(written):
    with pytest.raises(ConfigError, match=r"budget is .*90s, 15m, 2h or 1h30m") as refused:
        load_config(None, [f"budget={written}"])
    assert refused.value.exit_code == 2


def test_a_budget_is_kept_as_it_was_written():
    assert load_config(None, ["budget=1h30m"]).budget == "1h30m"
