"""The order of a history: by one number made of several columns as by the columns; ties by the file."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.interactions import Tables, ordered

NAMES = ["", "10", "9", "a", "b"]
SMALL = st.integers(0, 3)
LARGE = st.integers(0, 2**62)  # three such columns do not fit one number


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), SMALL | LARGE, SMALL, st.sampled_from(NAMES)),
             min_size=1, unique=True)
)  # fmt: skip
@settings(max_examples=60)
@pytest.mark.parametrize("order", ["auto", "time"])
def test_users_then_time_then_order_then_the_file(order, rows):
    names = pl.Enum(NAMES)
    schema = {"user_id": names, "timestamp": pl.Int64, "order": pl.Int64, "item_id": names}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    if order == "auto":
        frame = frame.drop("order")
    tables = Tables(frame, pl.DataFrame(), "world", order=order)
    keys = 2 if order == "auto" else 3
    assert ordered(tables).rows() == sorted(frame.rows(), key=lambda row: row[:keys])
