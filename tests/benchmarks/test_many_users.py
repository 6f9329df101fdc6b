"""The benchmark of many users: the log that it makes, and that it finds what is missing or twice."""

import polars as pl

from benchmarks.many_users import ROWS, K, checked, tables


def test_everybody_has_rows_none_twice_and_some_are_held_out():
    log, items = tables(500)
    assert log["user_id"].n_unique() == 500 and log.height > 500 * (ROWS - 1)
    assert not log.select("user_id", "item_id").is_duplicated().any()
    assert set(log["split"]) == {"train", "valid", "test"}
    assert set(log["item_id"]) <= set(items["item_id"]) and set(log["label"]) == {0, 1}


def test_whoever_lacks_a_list_and_every_row_that_stands_twice_is_counted(tmp_path):
    users, lists = tmp_path / "users.parquet", tmp_path / "lists.parquet"
    pl.DataFrame({"user_id": ["a", "b", "c"]}).write_parquet(users)
    rows = [(user, rank, f"i{rank}") for user in "abx" for rank in range(1, K + 1)]

    def found(rows):
        pl.DataFrame(rows, ["user_id", "rank", "item_id"], orient="row").write_parquet(lists)
        return checked(users, lists)

    assert found(rows) == {
        "rows": 3 * K, "users without a list": 1, "strangers": 1, "rows twice": 0,
        "items twice in a list": 0, "lists of another length": 0,
    }  # fmt: skip
    twice = found([*rows, rows[0], ("b", K + 1, "i1")])
    assert twice["rows twice"] == 1 and twice["items twice in a list"] == 2
    assert twice["lists of another length"] == 2
