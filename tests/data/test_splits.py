from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.data.splits import (
    CONTEXT,
    DROPPED,
    SPLITS,
    TEST,
    TRAIN,
    VALID,
    OrderedRows,
    collm,
    global_time,
    leave_one_out,
    split_rows,
    tallrec,
)
from sasrecllm.errors import ConfigError, DataError, SasrecllmError


def ordered(users, times, labels=None, has_times=True, given=None) -> OrderedRows:
    labels = np.ones(len(users)) if labels is None else labels
    return OrderedRows(
        np.asarray(users, dtype=np.int64), np.asarray(labels, dtype=np.int8),
        np.asarray(times, dtype=np.int64), has_times, given,
    )  # fmt: skip


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 30), min_size=10, max_size=80),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_one_instant_never_straddles_a_cut(times, valid, test) -> None:
    rows = ordered(np.arange(len(times)), times)
    codes = global_time(rows, valid=valid, test=test)
    for earlier, later in ((TRAIN, VALID), (VALID, TEST), (TRAIN, TEST)):
        left, right = rows.times[codes == earlier], rows.times[codes == later]
        assert not len(left) or not len(right) or left.max() < right.min()
    assert (codes >= TRAIN).all() and len(codes) == len(times)


def test_shares_are_met_where_nothing_is_tied() -> None:
    codes = global_time(ordered(np.arange(100), np.arange(100)), valid=0.2, test=0.1)
    assert [int((codes == c).sum()) for c in (TRAIN, VALID, TEST)] == [70, 20, 10]


def test_dates_are_utc_and_a_cut_belongs_to_the_later_side() -> None:
    day = 86_400
    rows = ordered([0, 1, 2, 3], [day - 1, day, 2 * day - 1, 2 * day])
    for valid in ("1970-01-02", dt.date(1970, 1, 2), dt.datetime(1970, 1, 2)):
        codes = global_time(rows, valid=valid, test="1970-01-03T00:00:00+00:00")
        assert codes.tolist() == [TRAIN, VALID, VALID, TEST]


@pytest.mark.parametrize(
    "args",
    [
        {"valid": 0.6, "test": 0.5},
        {"valid": 0.1, "test": "1970-01-02"},
        {"valid": "1970-01-03", "test": "1970-01-02"},
        {"valid": "soon", "test": "later"},
        {"valid": 2, "test": 0.1},
        {"valid": True, "test": 0.1},
        {"vald": 0.1},
    ],
)
def test_impossible_arguments_are_refused(args) -> None:
    with pytest.raises(ConfigError):
        split_rows(ordered(np.arange(50), np.arange(50)), "global-time", args)


def test_leave_one_out_asks_about_the_last_two_rows_whatever_their_label() -> None:
    users = [0] * 6 + [1] * 2 + [2] * 4 + [3] * 3
    labels = [*(1, 1, 0, 1, 0, 0), *(1, 1), *(0, 1, 1, 0), *(1, 1, 1)]
    codes = leave_one_out(ordered(users, np.arange(15), labels))
    assert codes.tolist() == [
        *[TRAIN, TRAIN, TRAIN, TRAIN, VALID, TEST],
        *[TRAIN, TRAIN],  # two rows are too few
        *[TRAIN, TRAIN, VALID, TEST],
        *[TRAIN, VALID, TEST],
    ]


def test_leave_one_out_of_likes_begins_the_test_at_the_last_like() -> None:
    users = [0] * 8 + [1] * 3 + [2] * 5 + [3] * 2
    labels = [*(1, 0, 1, 1, 0, 0, 1, 0), *(1, 1, 1), *(0, 1, 0, 1, 1), *(0, 0)]
    rows = ordered(users, np.arange(18), labels)
    assert leave_one_out(rows, likes=True).tolist() == [
        *[TRAIN, TRAIN, TRAIN, VALID, VALID, VALID, TEST, TEST],
        *[TRAIN, VALID, TEST],
        *[TRAIN, TRAIN, TRAIN, VALID, TEST],
        *[TRAIN, TRAIN],  # nothing is liked
    ]
    asked = leave_one_out(rows, likes=True, least=4)
    assert set(asked[:8].tolist()) == {TRAIN, VALID, TEST}
    assert (asked[8:] == TRAIN).all(), "three likes are fewer than four"
    assert leave_one_out(rows, least=4)[:8].tolist() == [TRAIN] * 6 + [VALID, TEST]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=60),
    st.integers(3, 6),
)
def test_leave_one_out_of_likes_asks_one_like_of_every_user_with_enough(rows, least) -> None:
    users, labels = np.array(sorted(rows, key=lambda r: r[0])).T
    users = np.unique(users, return_inverse=True)[1]
    codes = leave_one_out(ordered(users, np.arange(len(users)), labels), likes=True, least=least)
    for user in np.unique(users):
        mine, liked = codes[users == user], labels[users == user] == 1
        enough = liked.sum() >= least
        assert [int((mine[liked] == c).sum()) for c in (VALID, TEST)] == [enough, enough]
        assert (np.diff(mine) >= 0).all(), "nothing is learnt from behind a question of its user"


@pytest.mark.parametrize("args", [{"likes": "yes"}, {"least": 2}, {"least": 4.0}, {"least": True}])
def test_wrong_arguments_of_leave_one_out_are_refused(args) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(args))} is .*allowed: "):
        split_rows(ordered([0] * 5, np.arange(5)), "leave-one-out", args)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=60))
def test_leave_one_out_never_trains_behind_a_target(rows) -> None:
    rows = sorted(rows, key=lambda r: r[0])
    users, labels = np.array(rows).T
    users = np.unique(users, return_inverse=True)[1]
    codes = leave_one_out(ordered(users, np.arange(len(users)), labels))
    for user in np.unique(users):
        mine = codes[users == user].tolist()
        behind = [VALID, TEST] if len(mine) >= 3 else []
        assert mine == [TRAIN] * (len(mine) - len(behind)) + behind


def test_a_part_without_rows_is_refused_with_a_split_that_works() -> None:
    rows = ordered([0, 0, 0, 1, 1, 1], [5, 5, 5, 5, 5, 5])
    with pytest.raises(DataError, match="train 0, valid 0, test 6") as refusal:
        split_rows(rows, "global-time", {"valid": 0.2, "test": 0.2})
    assert refusal.value.remedy == "set data.split=leave-one-out and data.split_args={}"
    assert set(split_rows(rows, "leave-one-out", {})) == {TRAIN, VALID, TEST}
    with pytest.raises(DataError, match="give more rows"):
        split_rows(ordered([0, 1], [5, 5]), "global-time", {})


def test_collm_months() -> None:
    stamps = ["2001-05-31T23:59:59", "2001-06-01", "2002-03-31T23:59:59", "2002-04-01",
              "2002-08-31T23:59:59", "2002-09-01", "2003-01-31T23:59:59", "2003-02-01"]  # fmt: skip
    times = [int(dt.datetime.fromisoformat(s + "+00:00" if "T" in s else s + "T00:00:00+00:00")
                 .timestamp()) for s in stamps]  # fmt: skip
    codes = collm(ordered(np.arange(8), times))
    assert codes.tolist() == [DROPPED, TRAIN, TRAIN, VALID, VALID, TEST, TEST, DROPPED]


def only_first_trains(rows: OrderedRows, valid_row: int = 1) -> np.ndarray:
    codes = np.full(len(rows.users), TEST, dtype=np.int8)
    codes[0], codes[valid_row] = TRAIN, VALID
    return codes


def test_a_rule_of_ones_own_needs_no_fork(monkeypatch) -> None:
    import sys
    import types

    module = types.ModuleType("my_splits")
    module.rule = only_first_trains  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_splits", module)
    codes = split_rows(ordered([0, 1, 2], [1, 2, 3]), "my_splits:rule", {"valid_row": 2})
    assert codes.tolist() == [TRAIN, TEST, VALID]


@pytest.mark.parametrize(
    ("codes", "words"), [([0, 1, 2, 9], r"values \[9\]"), ([0, 1, 2], r"shape \(3,\) for 4 rows")]
)
def test_what_a_rule_of_ones_own_gives_back_is_checked(monkeypatch, codes, words) -> None:
    import functools
    import sys
    import types

    def rule(rows: OrderedRows, answer: list[int]) -> np.ndarray:
        return np.array(answer)

    module = types.ModuleType("odd_splits")
    module.rule = functools.partial(rule, answer=codes)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_splits", module)
    rows = ordered([0, 1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ConfigError, match=words):
        split_rows(rows, "odd_splits:rule", {})
    assert split_rows(rows, "odd_splits:rule", {"answer": [0, 1, 2, 0]}).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("rule", SPLITS)
def test_rules_that_cannot_apply_say_so(rule) -> None:
    with pytest.raises(SasrecllmError) as refusal:
        split_rows(ordered([0, 0], [0, 1], has_times=False), rule, {})
    assert refusal.value.exit_code == 4


def test_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'global-time'"):
        split_rows(ordered([0], [0]), "globaltime", {})
    with pytest.raises(DataError, match="train 2, valid 0, test 0"):
        split_rows(ordered([0, 0], [0, 1], given=np.array([0, 0], dtype=np.int8)), "given", {})


def test_of_a_users_given_rows_only_the_last_is_asked_where_told() -> None:
    users = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    codes = np.array([TRAIN, TRAIN, TRAIN, VALID, VALID, VALID, TRAIN, VALID, TEST, TEST], np.int8)
    rows = ordered(users, np.arange(10), given=codes)
    assert split_rows(rows, "given", {}).tolist() == codes.tolist()
    last = split_rows(rows, "given", {"last": True})
    assert last.tolist() == [
        *[TRAIN, TRAIN, TRAIN],
        *[CONTEXT, CONTEXT, VALID],
        *[TRAIN, VALID, CONTEXT, TEST],
    ]
    with pytest.raises(ConfigError, match="last is 'yes'"):
        split_rows(rows, "given", {"last": "yes"})


def test_tallrec_windows_follow_the_file_and_end_it(monkeypatch) -> None:
    monkeypatch.setattr("sasrecllm.data.splits.TALLREC_COUNTS", (3, 2, 1))
    # Users 0, 1, 2 have 14, 12 and 13 rows; in the file user 2 comes first, then 0, then 1.
    sizes, first_line = [14, 12, 13], [50, 90, 0]
    users = np.repeat([0, 1, 2], sizes)
    lines = np.concatenate([np.arange(n) + at for n, at in zip(sizes, first_line, strict=True)])
    rows = OrderedRows(users, np.ones(39, np.int8), np.arange(39), True, None, lines)
    codes = tallrec(rows)
    # Targets in the order of the file: 3 of user 2, 4 of user 0, 2 of user 1; the last six count.
    assert (codes[users == 2] == DROPPED).all()
    assert codes[users == 0].tolist() == [*[CONTEXT] * 10, TRAIN, TRAIN, TRAIN, VALID]
    assert codes[users == 1].tolist() == [*[CONTEXT] * 10, VALID, TEST]
    assert split_rows(rows, "tallrec", {}).tolist() == codes.tolist()
    monkeypatch.setattr("sasrecllm.data.splits.TALLREC_COUNTS", (30, 2, 1))
    with pytest.raises(DataError, match="only 9 rows"):
        tallrec(rows)
