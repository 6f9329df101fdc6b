"""People and wishes at the shell: titles, ids with commas, boosts, and what cannot be said together."""

import json
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm import SASRecLLM
from sasrecllm.cli.list_options import attributes_from, boosts_from, ids_from
from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.inference.requests import Title
from sasrecllm.inference.wishes import boosts

CATALOG = Catalog(["a", "b", "a,b", "c"], ["A", "B", "Both", "C, the Third"])


@pytest.fixture(scope="module")
def system(run):
    return SASRecLLM.from_pretrained(run)


def lines_of(said):
    """The lines of the one list that a command printed as JSON."""
    ((_, lines),) = json.loads(said).items()
    return lines


def ids(lines):
    return [line["item_id"] for line in lines]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (None, None), (["a", "b"], ["a", "b"]), (["a, b"], ["a", "b"]), (["a,b"], ["a,b"]),
        (["b,c", "a,b"], ["b", "c", "a,b"]), (["x,y"], ["x,y"]), (["C, the Third"], ["C, the Third"]),
    ],
)  # fmt: skip
def test_commas_part_ids_but_never_one_that_the_catalogue_has(texts, wanted):
    assert ids_from(texts, "exclude", CATALOG) == wanted


def test_an_empty_id_between_commas_is_refused():
    with pytest.raises(ConfigError, match="--exclude is 'a,,b'"):
        ids_from(["a,,b"], "exclude", CATALOG)


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (None, None),
        (["genre=War"], {"genre": {"War": 2.0}}),
        (["genre=War:3", "genre=Sea:0.5"], {"genre": {"War": 3.0, "Sea": 0.5}}),
        (["series=Mission: 3:4"], {"series": {"Mission: 3": 4.0}}),
        (["series=Mission: Sea"], {"series": {"Mission: Sea": 2.0}}),
        (["a=b=c"], {"a": {"b=c": 2.0}}),
    ],
)
def test_a_boost_is_an_attribute_a_value_and_a_factor(texts, wanted):
    assert boosts_from(texts) == wanted


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["genre"], r"--boost is 'genre'; allowed: ATTR=VALUE"),
        (["=War"], "--boost is '=War'"),
        (["genre="], "--boost is 'genre='"),
        (["genre=War", "genre=War:3"], "--boost names genre=War twice"),
    ],
)
def test_a_boost_that_says_nothing_is_refused(texts, said):
    with pytest.raises(ConfigError, match=said):
        boosts_from(texts)


def test_an_attribute_has_one_wanted_value():
    assert attributes_from(["genre=War", "year=1999"], "where") == {"genre": "War", "year": "1999"}
    with pytest.raises(ConfigError, match="--where names genre twice: 'War' and 'Sea'"):
        attributes_from(["genre=War", "genre=Sea"], "where")


@given(st.text(min_size=1, max_size=6), st.floats(allow_nan=True))
def test_any_factor_is_taken_or_refused_with_what_is_allowed(value, factor):
    catalog = Catalog(["a"], ["A"], [], {"genre": ["War"]})
    asked = boosts_from([f"genre={value}:{factor!r}"])
    assert list(asked) == ["genre"] and list(asked["genre"]) == [value]
    try:
        added = boosts(catalog, {"genre": {"War": asked["genre"][value]}})
    except DataError as refusal:
        assert "allowed: 0.001 to 1000" in refusal.what and not 0.001 <= factor <= 1000
    else:
        assert added is None or added == pytest.approx([np.log(factor)])


def test_a_liked_title_is_its_item_and_stands_above_the_list(run, system, cli):
    index = 4
    item, title = system.catalog.item_ids[index], system.catalog.titles[index]
    said = cli("recommend", run, "--title", title.upper(), "-k", 5, "--json")
    assert ids(lines_of(said)) == [r.item_id for r in system.recommend([item], k=5)]
    shown = cli("recommend", run, "--title", title.upper(), "--liked", "m0003", "-k", 5)
    assert shown.startswith(f"liked: {title} [{item}], {system.catalog.titles[3]} [m0003]")
    user = system.catalog.user_ids[3]
    told = system.history(user=user)
    shown = cli("recommend", run, "--user", user, "-k", 5)
    first = next(line for line in reversed(told) if line.liked)
    assert shown.startswith(f"liked: {first.title} [{first.item_id}]")
    disliked = [line for line in told if not line.liked]
    assert ("disliked: " in shown) == bool(disliked)


def test_a_title_of_no_item_stands_for_itself(run, system, cli):
    said = cli("recommend", run, "--title", "Zzyzx Road", "-k", 4, "--json")
    assert ids(lines_of(said)) == [r.item_id for r in system.recommend([Title("Zzyzx Road")], k=4)]
    assert "Zzyzx Road (no item of the catalogue" in cli("recommend", run, "--title", "Zzyzx Road")


def test_a_list_with_fewer_places_says_why(run, system, cli):
    item = system.catalog.item_ids[0]
    shown = cli("recommend", run, "--liked", "m0003", "--only", item, "-k", 5)
    assert "1 of 5 places: --only leaves no other; what the history holds is not shown" in shown
    shown = cli("recommend", run, "--liked", item, "--only", item, "-k", 5)
    assert "0 of 5 places: " in shown and "(--seen allow shows it)" in shown
    again = cli("recommend", run, "--liked", item, "--only", item, "-k", 5, "--seen", "allow")
    assert "1 of 5 places: --only leaves no other\n" in again and item in again
    assert " places: " not in cli("recommend", run, "--liked", item, "-k", 5)


def test_words_of_several_titles_are_refused_with_their_ids_and_found_by_a_search(run, system, cli):
    found = system.search("the general", limit=3)
    assert len(found) == 3 and all("general" in f.title.lower() for f in found)
    said = cli("recommend", run, "--title", "general", expect=4)
    assert "may be" in said and all(f.item_id in said for f in found) and "Traceback" not in said
    listed = json.loads(cli("recommend", run, "--search", "the general", "-k", 3, "--json"))
    assert listed == [f.to_dict() for f in found]
    table = cli("recommend", run, "--search", "the general", "-k", 3)
    assert all(f.item_id in table and f.title in table for f in found) and "theme" in table
    title = system.catalog.titles[0]
    assert f"did you mean {title!r}" in cli("recommend", run, "--search", title.replace("e", "ee"))


def test_the_shells_wishes_are_pythons(run, system, cli):
    user = system.catalog.user_ids[5]
    flags = ["--exclude", "m0001,m0002", "--exclude", "m0004", "--where", "theme=war"]
    said = cli("recommend", run, "--user", user, "-k", 30, *flags, "--json")
    wishes = {"exclude": ["m0001", "m0002", "m0004"], "where": {"theme": "war"}}
    assert ids(lines_of(said)) == [r.item_id for r in system.recommend(user=user, k=30, **wishes)]
    flags = [
        "--boost",
        "theme=war:9",
        "--diversity",
        "0.4",
        "--only",
        ",".join(system.catalog.item_ids),
    ]
    said = cli("recommend", run, "--user", user, "-k", 9, *flags, "--json")
    wishes = {"boost": {"theme": {"war": 9}}, "diversity": 0.4}
    assert ids(lines_of(said)) == [r.item_id for r in system.recommend(user=user, k=9, **wishes)]


def test_a_file_of_users_takes_the_same_wishes(run, system, cli, tmp_path):
    user = system.catalog.user_ids[5]
    pl.DataFrame({"user_id": [user]}).write_csv(tmp_path / "users.csv")
    wanted = system.recommend(user=user, k=5, exclude=["m0001", "m0002"], boost={"theme": "war"})
    flags = ["--exclude", "m0001,m0002", "--boost", "theme=war"]
    files = ["--users", tmp_path / "users.csv", "--out", tmp_path / "lists.csv"]
    cli("recommend", run, *files, "-k", 5, *flags, "--quiet")
    assert pl.read_csv(tmp_path / "lists.csv")["item_id"].to_list() == [r.item_id for r in wanted]
    said = cli(
        "recommend", run, *files[:2], "--out", tmp_path / "b.csv", "--boost", "theme=wra", expect=4
    )
    assert "did you mean 'war'" in said and not list(tmp_path.glob("b.csv*"))


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--user", "u0001", "--exclude", "m9"], 4, "exclude: item 'm9' is not in the catalogue"),
        (["--user", "u0001", "--boost", "them=war"], 4, "did you mean 'theme'"),
        (["--user", "u0001", "--where", "theme=wars"], 4, "did you mean 'war'"),
        (["--user", "u0001", "--boost", "theme=war:0"], 4, "allowed: 0.001 to 1000"),
        (["--user", "u0001", "--diversity", "2"], 2, "--diversity"),
        (["--user", "u0001", "--diversity", "nan"], 2, "--diversity"),
        (["--user", "u0001", "--diversity", "0.5", "--no-rerank"], 2, "leave one of the two out"),
        (["--title", " "], 4, "give the words of a title"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_is_refused(run, cli, flags, code, said):
    got = cli("recommend", run, *flags, expect=code)
    assert said in got and "Traceback" not in got


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--users", "u.csv", "--liked", "m0003"], "--liked beside --users"),
        (["--users", "u.csv", "--out", "o.csv", "--title", "sea", "--json"], "--title, --json beside"),
        (["--user", "u0001", "--out", "o.csv"], "--out beside a list without --users"),
        (["--user", "u0001", "--shard", "1/2"], "--shard beside"),
        (["--search", "sea", "--user", "u1", "--diversity", "0.2"], "--user, --diversity beside"),
        (["--showcase", "--boost", "theme=war"], "--boost beside --showcase"),
    ],
)  # fmt: skip
def test_what_says_nothing_beside_another_flag_is_refused_and_not_passed_over(
    tmp_path, cli, flags, named
):
    said = cli("recommend", tmp_path, *flags, expect=2)
    assert named in said and "leave one of the two out" in said and not list(tmp_path.iterdir())


def test_explain_says_what_pythons_explain_says(run, system, cli):
    liked, target = ["m0003", "m0010"], system.catalog.item_ids[50]
    got = json.loads(cli("explain", run, target, "--liked", "m0003,m0010", "--json"))
    wanted = system.explain(target, liked)
    assert got["item_id"] == target and got["probability"] == pytest.approx(
        wanted.probability, abs=1e-5
    )
    assert [r["item_id"] for r in got["reasons"]] == [r.item_id for r in wanted.reasons]
    shown = cli("explain", run, system.catalog.titles[50].lower(), "--liked", "m0003,m0010")
    assert shown.startswith("liked: ") and f"[{target}]: P(like)" in shown
    assert all(re.search(rf"{re.escape(name)} [+-]\d", shown) for name in wanted.shares)
    assert "without " in shown and "by encoder" in shown
    assert "did you mean" in cli("explain", run, f"{target}0", "--liked", "m0003", expect=4)
    assert "neither user nor history" in cli("explain", run, target, expect=4)
