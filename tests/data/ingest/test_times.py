"""Times: Unix seconds with or without a fraction, dates as digits, and ISO 8601 in all its forms."""

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.data.ingest.times import seconds
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError

NOON = 1405339200  # 2014-07-14 12:00:00 UTC, the Monday of week 29 and day 195 of its year
DAY = NOON - 12 * 3600

FORMS = {
    "2014-07-14": DAY,
    "20140714T12": NOON,
    "2014-07-14T12:00": NOON,
    "20140714T1200": NOON,
    "20140714T120000Z": NOON,
    "2014-07-14t12:00:00z": NOON,
    "2014-07-14 12:00:00.25": NOON,
    "2014-07-14T12:00:00,75": NOON,
    "2014-07-14T12:00:00+02:00": NOON - 7200,
    "2014-07-14T12:00:00+0200": NOON - 7200,
    "2014-07-14T12:00:00-02": NOON + 7200,
    "2014-07-14T12:00:00\u221202:30": NOON + 9000,
    "2014-07-14T14:00+02:00": NOON,
    "2014-07-14 12:00:00 UTC": NOON,
    "2014-07-14T12.5": NOON + 1800,
    "2014-07-14T12:30,5": NOON + 1830,
    "2014-07-14T24:00": DAY + 86400,
    "2014-06-30T23:59:60Z": 1404172800,
    "2014-W29-1": DAY,
    "2014W291T12": NOON,
    "2014-W29": DAY,
    "2014-195": DAY,
    "2014195T1200Z": NOON,
    "2014-07": 1404172800,
    "2014/07/14": DAY,
    " 1405339200.438 ": NOON,
    "1405339200,438": NOON,
    "1.4e9": 1400000000,
}
NO_TIMES = [
    "07/14/2014", "2014-02-30", "2014-13-01", "2014-07-14T24:01", "2014-07-14T12:60", "2014-W54-1",
    "2014-366", "2014-07-14T12:00:00+24:00", "Monday", "", "NaN", "inf", None,
]  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_a_time_alone_and_among_others(text: str) -> None:
    assert seconds(pl.Series([text]), "log").values.to_list() == [FORMS[text]]
    mixed = seconds(pl.Series([text, "2014-W29-1", "1405339200", "2014-07-14T00:00Z"]), "log").values
    assert mixed.to_list() == [FORMS[text], DAY, NOON, DAY]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_becomes_null(text: str | None) -> None:
    found = seconds(pl.Series([text, "2014-W29-1"], dtype=pl.String), "log").values
    assert found.to_list() == [None, DAY]


@given(
    st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2100, 1, 1)),
    st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%G-W%V-%u", "%GW%V%u", "%Y-%j"]),
    st.sampled_from("T "),
    st.sampled_from(["%H:%M:%S", "%H%M%S"]),
    st.integers(-14 * 4, 14 * 4),
    st.booleans(),
)
def test_whatever_a_clock_can_show_is_read_back(moment, date, between, clock, quarters, colon) -> None:
    moment = moment.replace(microsecond=0)
    sign, minutes = "-" if quarters < 0 else "+", abs(quarters) * 15
    offset = f"{sign}{minutes // 60:02}{':' * colon}{minutes % 60:02}"
    text = moment.strftime(f"{date}{between}{clock}") + offset
    expected = int(moment.replace(tzinfo=dt.UTC).timestamp()) - quarters * 900
    assert seconds(pl.Series([text]), "log").values.to_list() == [expected], text


TYPES = {
    "fractions": pl.Series([NOON + 0.438]),
    "DECIMAL(38,0)": pl.Series([Decimal(NOON)], dtype=pl.Decimal(38, 0)),
    "DECIMAL(20,6)": pl.Series([Decimal(f"{NOON}.438")], dtype=pl.Decimal(20, 6)),
    "milliseconds of a data frame": pl.Series([dt.datetime(2014, 7, 14, 12)], dtype=pl.Datetime("ms")),
    "nanoseconds of a data frame": pl.Series([dt.datetime(2014, 7, 14, 12)], dtype=pl.Datetime("ns")),
    "a zone": pl.Series(["2014-07-14T14:00+02:00"]).str.to_datetime(time_zone="Europe/Berlin"),
    "categories": pl.Series(["2014-07-14T12:00Z"], dtype=pl.Categorical),
    "an enumeration": pl.Series(["2014-07-14T12:00Z"], dtype=pl.Enum(["2014-07-14T12:00Z"])),
    "digits of a day": pl.Series([20140714]),
    "digits of a second": pl.Series([20140714120000], dtype=pl.UInt64),
    "digits as text": pl.Series(["201407141200"]),
}


@pytest.mark.parametrize("case", TYPES)
def test_every_type_that_can_be_a_time(case: str) -> None:
    whole_day = DAY if case == "digits of a day" else NOON
    found = seconds(TYPES[case], "log")
    assert found.values.to_list() == [whole_day]
    assert bool(found.note) == case.startswith("digits"), (
        "dates as digits are said to be taken for them"
    )


@pytest.mark.parametrize("values", [[True], [dt.timedelta(1)], [dt.time(1)], [[1]], [b"1"]])
def test_types_that_are_no_time_are_refused_with_file_and_column(values) -> None:
    with pytest.raises(DataError, match="log, column t: values are of type"):
        seconds(pl.Series(values), "log, column t")


def test_digits_that_are_no_dates_are_seconds_and_a_day_that_is_none_is_no_time() -> None:
    assert seconds(pl.Series([1, 20140714]), "log").values.to_list() == [1, 20140714]
    assert seconds(pl.Series([20140714, 20140732]), "log").values.to_list() == [DAY, None]


@pytest.mark.parametrize(("number", "doubted"), [(41834, True), (60, False), (NOON, False)])
def test_numbers_that_end_before_1980_may_be_of_another_unit(number: int, doubted: bool) -> None:
    assert ("another unit" in seconds(pl.Series([0, number]), "log").note) == doubted


ZONED = "2014-07-14T14:00:00+02:00"
MIXES = {
    "one without": ([ZONED, "2014-07-14T12:00:00", ZONED], True),
    "one without, late": ([ZONED] * 150 + ["2014-07-14 12:00"], True),
    "all with": ([ZONED, "2014-07-14T12:00:00Z", "2014-07-14T12:00 GMT"], False),
    "none with": (["2014-07-14T12:00:00", "20140714T12"], False),
    "a day has no clock": ([ZONED, "2014-07-14"], False),
    "Unix seconds need none": ([ZONED, "1405339200"], False),
}


@pytest.mark.parametrize("case", MIXES)
def test_times_without_a_zone_among_times_with_one_are_doubted(case: str) -> None:
    texts, doubted = MIXES[case]
    found = seconds(pl.Series(texts), "log")
    assert found.values.null_count() == 0
    assert ("say no zone and are read as UTC" in found.note) == doubted


def test_rows_of_one_second_stand_in_the_order_of_its_fractions() -> None:
    rows = [("u", "b", 9.5), ("u", "a", 9.25), ("u", "c", 9.0), ("u", "d", 8.9), ("u", "e", 10.0)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    shelf = pl.DataFrame({"item_id": list("abcde"), "title": list("ABCDE")})
    dataset = prepare(Tables(log, shelf, "t"), split="leave-one-out")
    shown = [dataset.catalog.item_ids[i] for i in dataset.items]
    assert shown == ["d", "c", "a", "b", "e"] and dataset.times.tolist() == [8, 9, 9, 9, 10]
