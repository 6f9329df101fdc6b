"""What is wished of a list, in the user's spelling: filters, boosts and shares, or a refusal."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import ConfigError, DataError, SasrecllmError
from sasrecllm.inference.wishes import Wanted, Wishes, allowed_items, boosts, having, wanted
from sasrecllm.serving.schema import RecommendRequest

GENRES = ["Sea|Old", "War", "Sea", None]
CATALOG = Catalog(["a", "b", "c", "d"], ["The Sea", "A War", "Sea Two", "Love"], [], {"genre": GENRES})


def test_without_wishes_a_list_is_the_systems_own():
    got = wanted(CATALOG, Wishes(), allow_seen=True)
    assert got.allowed_I.all() and got.boost_I is None and got.seen and not got.reorders
    assert wanted(CATALOG, Wishes(seen="exclude"), allow_seen=True).seen is False
    assert not Wanted().reorders and Wanted(diversity=0.1).reorders


def test_filters_leave_what_passes_all_of_them():
    assert allowed_items(CATALOG, None, None).all()
    assert allowed_items(CATALOG, {"a", "b"}, None).tolist() == [True, True, False, False]
    assert allowed_items(CATALOG, None, {"genre": "Sea"}).tolist() == [True, False, True, False]
    both = allowed_items(CATALOG, ["a", "b"], {"genre": "Sea"})
    assert both.tolist() == [True, False, False, False]
    assert allowed_items(CATALOG, None, None, ["a", "d"]).tolist() == [False, True, True, False]
    assert not allowed_items(CATALOG, ["a"], None, ["a"]).any()


def test_a_boost_adds_the_logarithm_of_its_factors():
    two = math.log(2)
    assert boosts(CATALOG, None) is None and boosts(CATALOG, {}) is None
    assert boosts(CATALOG, {"genre": {"Sea": 1}}) is None, "a factor of one changes nothing"
    np.testing.assert_allclose(boosts(CATALOG, {"genre": "Sea"}), [two, 0, two, 0])
    several = boosts(CATALOG, {"genre": {"Sea": 4, "Old": 0.5, "War": np.float64(0.25)}})
    np.testing.assert_allclose(several, [two, -2 * two, 2 * two, 0])


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"only": ["x"]}, "only: item 'x' is not in the catalogue"),
        ({"exclude": ["aa"]}, "exclude: item 'aa' is not in the catalogue of 4 items"),
        ({"exclude": "a"}, "exclude is 'a'; allowed: a list"),
        ({"where": {"gnre": "Sea"}}, "where: 'gnre' is no attribute .* did you mean 'genre'"),
        (
            {"where": {"genre": "See"}},
            "where: no item has genre 'See'; there are: .*did you mean 'Sea'",
        ),
        ({"where": ["genre"]}, "where is .* allowed: attribute -> value"),
        ({"boost": {"gnre": "Sea"}}, "boost: 'gnre' is no attribute .* did you mean 'genre'"),
        ({"boost": {"genre": "sea"}}, "boost: no item has genre 'sea'.*did you mean 'Sea'"),
        ({"boost": {"genre": {"Sea": 0}}}, "genre=Sea has the factor 0.*allowed: 0.001 to 1000"),
        ({"boost": {"genre": {"Sea": float("nan")}}}, "has the factor nan"),
        ({"boost": {"genre": {"Sea": True}}}, "has the factor True"),
        ({"boost": "genre"}, "boost is 'genre'; allowed: attribute -> value"),
        ({"boost": {"genre": None}}, "boost: genre: None"),
        ({"diversity": 1.5}, "diversity is 1.5.*allowed: 0 to 1"),
        ({"diversity": "0.3"}, "diversity is '0.3'; allowed: 0 to 1"),
        ({"diversity": float("nan")}, "diversity is nan"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_what_can(wish, said):
    with pytest.raises(DataError, match=said) as refusal:
        wanted(CATALOG, Wishes(**wish), allow_seen=False)
    assert refusal.value.exit_code == 4 and refusal.value.remedy


def test_a_catalogue_without_attributes_says_where_they_would_come_from():
    plain = Catalog(["a"], ["A"])
    with pytest.raises(DataError, match="it has: none") as refusal:
        having(plain, "genre", "Sea", "boost")
    assert "items file" in refusal.value.remedy
    with pytest.raises(ConfigError, match="seen is 'maybe'"):
        wanted(plain, Wishes(seen="maybe"), allow_seen=False)


def test_wishes_become_json_and_come_back():
    asked = Wishes(
        only={"b"}, exclude=np.array(["a", "c"]), boost={"genre": {"Sea": 2.0}}, seen="allow"
    )
    job = json.loads(json.dumps(asked.to_dict() | {"k": 3}))
    assert Wishes.among(job) == Wishes(["b"], None, ["a", "c"], {"genre": {"Sea": 2.0}}, 0.0, "allow")


def test_http_takes_every_wish_by_its_own_name():
    schema = RecommendRequest.model_fields
    for wish in fields(Wishes):
        assert wish.name in schema and schema[wish.name].default == wish.default


TEXTS = st.text(max_size=5) | st.sampled_from(["a", "b", "Sea", "genre", "\ud800"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = [f.name for f in fields(Wishes)]


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, ANY)))
def test_any_values_are_wishes_or_are_refused(asked):
    try:
        got = wanted(CATALOG, Wishes(**asked), allow_seen=False)
    except SasrecllmError as refusal:
        assert refusal.exit_code in (2, 4)
    else:
        assert got.allowed_I.shape == (4,) and 0 <= got.diversity <= 1
        assert got.boost_I is None or np.isfinite(got.boost_I).all()
