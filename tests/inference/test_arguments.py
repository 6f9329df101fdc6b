"""The Python door: whatever a caller passes gives an answer or a refusal in the user's words."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm import NewItem, SASRecLLM, Title
from sasrecllm.errors import ConfigError, DataError, EnvironmentRefusal, SasrecllmError
from sasrecllm.inference.arguments import count_of, id_of, ids_of
from sasrecllm.inference.requests import Recommendation, pairs_of
from sasrecllm.machine.device import pick_device


@pytest.fixture(scope="module")
def system(run):
    return SASRecLLM.from_pretrained(run)


class Nasty:
    """An object that fails at everything it is asked."""

    def __repr__(self):
        raise RuntimeError("no")

    def __iter__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


@pytest.mark.parametrize(
    "value", [7, np.int64(7), np.uint8(7), np.array(7), torch.tensor(7), "7", np.str_("7")]
)
def test_text_and_whole_numbers_of_any_library_are_ids(value):
    assert id_of(value, "x") == "7" and type(id_of(value, "x")) is str


@pytest.mark.parametrize(
    "value",
    [None, True, np.bool_(True), 7.0, np.float32(7), float("nan"), b"7", ["7"], {"id": 7},
     np.array([7]), torch.tensor([7]), np.datetime64("2020-01-01"), object(), Nasty(), 1j],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_everything_else_is_no_id_and_the_refusal_says_what_is(value):
    with pytest.raises(DataError, match="text or a whole number"):
        id_of(value, "history")


def test_a_column_of_whole_numbers_that_pandas_made_fractions_is_told_so():
    with pytest.raises(DataError) as caught:
        id_of(np.float64(3.0), "user")
    assert "pandas" in caught.value.remedy


def columns():
    import pandas as pd
    import polars as pl

    yield from (["1", "2"], [1, 2], (1, 2), range(1, 3), np.array([1, 2]), np.array(["1", "2"]))
    yield from (torch.tensor([1, 2]), pl.Series([1, 2]), pd.Series([1, 2]), pd.Index(["1", "2"]))


@pytest.mark.parametrize(
    "values", list(columns()), ids=lambda v: f"{type(v).__module__}.{type(v).__name__}"
)
def test_lists_arrays_and_columns_are_lists_of_ids(values):
    assert ids_of(values, "items") == ["1", "2"]
    assert pairs_of(values) == [("1", True), ("2", True)]


@pytest.mark.parametrize(
    "values", ["m0003", b"m", {"m0003": True}, {"m0003"}, 5, None, np.array(5), Title("x"), Nasty()],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_is_no_list_is_refused_with_the_way_to_write_one(values):
    with pytest.raises(DataError, match="a list of entries") as caught:
        ids_of(values, "items")
    assert "items=[" in caught.value.remedy


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, "3", True, None, float("inf"), [3], np.float64(2)])
def test_lengths_are_whole_numbers_from_one_on(value, system):
    with pytest.raises(DataError, match="from 1 on"):
        count_of(value, "k")
    for asked in ({"k": value}, {"retrieve": value}):
        with pytest.raises(DataError, match=r"(k|retrieve) is"):
            system.recommend(["m0003"], **asked)
    with pytest.raises(DataError, match="k is"):
        system.audience("m0003", k=value)


def test_a_longer_list_than_there_are_items_is_all_there_are(system):
    every = system.recommend(["m0003"], k=10**30, retrieve=10**30)
    assert len(every) == system.catalog.n_items - 1
    assert len(system.recommend(["m0003"], k=np.int64(3))) == 3


def test_ids_of_numbers_meet_the_catalogue_as_their_digits(system):
    with pytest.raises(DataError, match="user '1' is not"):
        system.recommend(user=1)
    with pytest.raises(DataError, match="item '1' is not"):
        system.recommend([1, 2])
    grown = system.with_items([NewItem(5, "A Film of Five"), NewItem(np.int64(6), "Another")])
    assert [r.item_id for r in grown.recommend([5], only=[6])] == ["6"]
    assert grown.score_items([5, "6"], ["m0003"]) == grown.score_items(["5", 6], ["m0003"])
    assert grown.explain(5, ["m0003"]).item_id == "5"
    assert grown.scored(np.array([5]), ["m0003"])[0].item_id == "5"


@pytest.mark.parametrize(
    "items",
    [
        "m", 5, None, ["x"], [("x", "A title")], NewItem("x", "X"), [NewItem(None, "X")],
        [NewItem("x", None)], [NewItem("x", 5)], [NewItem("x", "")], [NewItem("x", "X", None)],
        [NewItem("x", "X", {"genres": ["a"]})], [NewItem("x", "X"), NewItem("x", "Y")],
        [NewItem("m0003", "X")], [NewItem("\ud800", "X")],
    ],
    ids=repr,
)  # fmt: skip
def test_new_items_are_refused_by_what_is_wrong_with_them(system, items):
    with pytest.raises(DataError):
        system.with_items(items)


@pytest.mark.parametrize(
    "where", ["genres", ["genres"], 5, {5: "a"}, {"nosuch": "a"}, {"genres": None}, {"genres": ["a"]}],
    ids=repr,
)  # fmt: skip
def test_filters_are_refused_by_what_is_wrong_with_them(system, where):
    with pytest.raises(DataError, match="where"):
        system.recommend(["m0003"], where=where)


def test_allowed_items_may_be_a_set(system):
    assert {r.item_id for r in system.recommend(["m0003"], only={"m0004", "m0005"})} == {
        "m0004",
        "m0005",
    }
    assert system.recommend(["m0003"], only=[]) == []
    assert system.score_items([], ["m0003"]) == []


@pytest.mark.parametrize("device", ["mps", "gpu", "", "cuda:x", "cpu:0", 0, None, "xla", "CPU"])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(ConfigError, match="allowed: auto, cpu, cuda"):
        pick_device(device)


def test_a_device_that_is_not_here_is_refused(monkeypatch, run):
    assert pick_device(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(EnvironmentRefusal, match="no CUDA device"):
            SASRecLLM.from_pretrained(run, device=name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == "cuda:1"
    with pytest.raises(EnvironmentRefusal, match="2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize("run", [None, 5, "", [], "a\0b", "x" * 5000], ids=lambda v: repr(v)[:10])
def test_a_run_that_is_no_path_is_refused(run):
    with pytest.raises(SasrecllmError):
        SASRecLLM.from_pretrained(run)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 200), st.integers(), st.floats(), st.text(max_size=6),
    st.binary(max_size=3), st.sampled_from(["m0003", "m0007", "u0001", "nobody", "\ud800", ""]),
    st.builds(np.int64, st.integers(-3, 200)), st.builds(np.float64, st.floats()),
    st.builds(np.array, st.lists(st.integers(0, 9), max_size=2)), st.builds(Nasty),
    st.builds(Title, st.one_of(st.text(max_size=8), st.none(), st.integers())),
    st.builds(torch.tensor, st.integers(0, 9)),
)  # fmt: skip
PAIRS = st.tuples(SCALARS, SCALARS)
VALUES = st.recursive(
    SCALARS | PAIRS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
ASKED = {
    name: VALUES
    for name in (
        "user",
        "k",
        "retrieve",
        "only",
        "where",
        "rerank",
        "strict",
        "seen",
        "exclude",
        "boost",
        "diversity",
    )
}
OFTEN = st.lists(st.sampled_from(["m0003", "m0004", 7, Title("A Reef")]), max_size=3)


@settings(max_examples=150)
@given(
    asked=st.fixed_dictionaries({"history": VALUES | OFTEN}, optional=ASKED),
    item=VALUES | st.just("m0005"),
)
def test_any_values_give_an_answer_or_a_refusal(system, asked, item):
    try:
        found = system.recommend(**asked)
        assert all(isinstance(line, Recommendation) for line in found)
    except SasrecllmError as error:
        assert error.what and error.remedy
    for ask in (
        lambda: system.score_items(item, asked["history"], asked.get("user")),
        lambda: system.explain(item, asked["history"], asked.get("user")),
        lambda: system.audience(item, asked.get("k", 3)),
        lambda: system.with_items(item),
    ):
        try:
            ask()
        except SasrecllmError as error:
            assert error.what and error.remedy
