"""The public face on a trained run: known users, new users, new items, filters and reasons."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import read_json
from sasrecllm.config import load_config
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.inference.list_maker import ListMaker
from sasrecllm.inference.requests import NewItem, Title
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.opening import open_run

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommender") / "tiny"
    config = load_config(TINY, ["evaluation.ablations=false"])
    run_all(open_run(folder, config, "test", quiet=True))
    return folder


@pytest.fixture(scope="module")
def system(folder):
    return SASRecLLM.from_pretrained(folder)


def ids(found):
    return [r.item_id for r in found]


def ranked(found):
    return [(r.item_id, r.score) for r in found]


def test_a_known_user_gets_unseen_items_in_the_order_of_the_list_fusion(system):
    user = system.catalog.user_ids[3]
    found = system.recommend(user=user, k=7)
    had = {system.catalog.item_ids[i] for i in system.dataset.latest(np.array([3])).items}
    assert len(found) == 7 and not had & set(ids(found))
    assert [r.rank for r in found] == list(range(1, 8))
    again = system.score_items(ids(found), user=user)
    np.testing.assert_allclose([r.probability for r in found], again, atol=1e-6)
    known = system.dataset.latest(np.array([3]))
    order = system.fusion.scores(replace(known, asked_at=np.array([system.dataset.now])))[0]
    listed = [order[system.catalog.item_ids.index(i)] for i in ids(found)]
    order[known.items] = -np.inf
    np.testing.assert_allclose(listed, np.sort(order)[::-1][:7], atol=1e-6)
    everything = system.recommend(user=user, k=7, retrieve=system.catalog.n_items)
    assert all(r.retrieval_rank is None or r.retrieval_rank <= 100 for r in found)
    assert ids(everything) == ids(found)


def test_what_was_met_can_be_asked_for_in_one_call(system):
    user, everything = 3, system.catalog.n_items
    had = {system.catalog.item_ids[i] for i in system.dataset.items[system.dataset.users == user]}
    assert had and not system.dataset.allow_seen
    given = {"user": system.catalog.user_ids[user], "k": everything, "retrieve": everything}
    assert not had & set(ids(system.recommend(**given)))
    assert not had & set(ids(system.recommend(**given, seen="exclude")))
    assert set(ids(system.recommend(**given, seen="allow"))) == set(system.catalog.item_ids)
    liked = ids(system.recommend(history=sorted(had), k=everything, retrieve=everything, seen="allow"))
    assert had <= set(liked)
    item = sorted(had)[0]
    users = [{a["user_id"] for a in system.audience(item, k=999, seen=s)} for s in ("allow", "exclude")]
    assert users[0] == set(system.catalog.user_ids) and given["user"] in users[0] - users[1]
    with pytest.raises(ConfigError, match="seen is 'maybe'; allowed: exclude, allow"):
        system.recommend(**given, seen="maybe")


def test_a_score_carries_the_flags_that_the_item_has_in_a_list(system):
    new = system.with_items([NewItem("new", "The General of the Sea")])
    known, stranger = system.catalog.user_ids[3], "nobody"
    for asked, up in (({"user": known}, ()), ({"user": stranger}, ("cold_user", "fallback"))):
        found = new.recommend(k=30, strict=False, **asked)
        scored = new.scored([*ids(found), "new"], strict=False, **asked)
        assert [s.flags for s in scored[:-1]] == [r.flags for r in found]
        assert scored[-1].flags == (*up, "cold_item")
        np.testing.assert_allclose(
            [s.probability for s in scored[:-1]], [r.probability for r in found], atol=1e-6
        )


def test_a_long_title_is_cut_alike_wherever_it_comes_in(system):
    long = "The General of the Sea " * 500
    grown = system.with_items([NewItem("long", long)])
    assert len(grown.catalog.title(grown.catalog.n_items - 1)) <= 256
    by_title = grown.recommend([Title(long)], k=5)
    assert by_title == grown.recommend(["long"], k=5)  # the same item, and left out as such
    assert "long" not in ids(grown.recommend([Title(long.upper())], k=200, retrieve=200))
    assert len(system.recommend([Title(long)], k=5)) == 5


def test_many_at_once_equal_one_at_a_time(system, alike):
    known = system.dataset.latest(np.array([0, 5, 9]))
    items, scores, ranks = system.recommend_many(known, k=5, count=20)
    for row, user in enumerate((0, 5, 9)):
        alone = system.recommend(user=system.catalog.user_ids[user], k=5, retrieve=20)
        got = [system.catalog.item_ids[i] for i in items[row]]
        alike(list(zip(got, scores[row], strict=True)), ranked(alone))
        if got == ids(alone):
            assert [int(r) or None for r in ranks[row]] == [r.retrieval_rank for r in alone]


def test_threads_that_share_a_system_get_the_answers_that_they_would_get_alone(system, alike):
    users = system.catalog.user_ids[:12]

    def asked(user):
        return ranked(system.recommend(user=user, k=5, retrieve=20))

    alone = [asked(user) for user in users]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, wanted in zip(pool.map(asked, users), alone, strict=True):
                alike(got, wanted)


def test_without_the_second_stage_the_order_is_the_encoders_own(system, alike):
    known = system.dataset.latest(np.array([3]))
    seen = system.dataset.seen_items
    logits = system.parts.list_encoder.logits(known).detach().numpy()[0]
    logits[~seen] = logits[known.items] = -np.inf
    user = system.catalog.user_ids[3]
    found = system.recommend(user=user, k=7, rerank=False)
    best = np.argsort(-logits)[:7]
    own = {item: logits[i] for i, item in enumerate(system.catalog.item_ids)}
    alike([(i, own[i]) for i in ids(found)], [(system.catalog.item_ids[i], logits[i]) for i in best])
    assert [(r.rank, r.retrieval_rank) for r in found] == [(n, n) for n in range(1, 8)]
    again = system.score_items(ids(found), user=user)
    np.testing.assert_allclose([r.probability for r in found], again, atol=1e-6)
    assert ids(found) != ids(system.recommend(user=user, k=7))
    unread = [i for i, s in zip(system.catalog.item_ids, seen, strict=True) if not s]
    assert system.recommend(user=user, only=unread) and not system.recommend(
        user=user, only=unread, rerank=False
    )


def test_a_users_own_rows_come_before_what_is_told_now(system):
    user, more = system.catalog.user_ids[3], system.catalog.item_ids[-1]
    told = system.recommend(user=user, history=[(more, True)], k=50)
    assert more not in ids(told)
    assert system.score_items(["m0001"], user=user) != system.score_items(["m0001"], [more], user)


def test_flags_say_who_and_what_is_new(system):
    new_user = system.recommend(history=["m0003"], user="nobody-yet")
    assert all("cold_user" in r.flags and "fallback" not in r.flags for r in new_user)
    assert ids(new_user) == ids(system.recommend(history=["m0003"]))
    with pytest.raises(DataError, match="nobody-yet"):
        system.recommend(user="nobody-yet")
    fallback = system.recommend(user="nobody-yet", strict=False)
    assert fallback and all("fallback" in r.flags for r in fallback)
    assert ids(fallback) == ids(system.recommend(history=[]))
    every = system.recommend(
        history=["m0003"], k=system.catalog.n_items, retrieve=system.catalog.n_items
    )
    seen = system.dataset.seen_items
    for line in every:
        index = int(system.catalog.item_index([line.item_id])[0])
        assert ("cold_item" in line.flags) == (not seen[index])
        assert (line.retrieval_rank is None) == (not seen[index])


def test_filters_by_id_and_by_attribute(system):
    some = system.catalog.item_ids[10:20]
    assert set(ids(system.recommend(history=["m0003"], only=some))) == set(some)
    name, column = next(iter(system.catalog.attributes.items()))
    value = column[0]
    found = system.recommend(history=["m0003"], where={name: value}, k=200)
    assert found
    for line in found:
        assert column[int(system.catalog.item_index([line.item_id])[0])] == value
    with pytest.raises(DataError, match="no attribute of this catalogue"):
        system.recommend(history=["m0003"], where={"colour": "red"})
    with pytest.raises(DataError, match="only: item 'x'"):
        system.recommend(history=["m0003"], only=["x"])
    assert system.recommend(history=["m0003"], only=["m0003"]) == []


def test_a_new_item_can_be_scored_recommended_and_read_and_the_old_answers_stand(system):
    before = system.score_items(system.catalog.item_ids[:8], ["m0003"])
    title = system.catalog.title(5)
    more = system.with_items([NewItem("brand new", title + " Again", {"nothing": "x"})])
    assert more.catalog.n_items == system.catalog.n_items + 1
    np.testing.assert_allclose(
        more.score_items(system.catalog.item_ids[:8], ["m0003"]), before, atol=1e-6
    )
    (p,) = more.score_items(["brand new"], ["m0003"])
    assert 0 < p < 1
    every = more.recommend(history=["m0003"], k=500, retrieve=500)
    (line,) = [r for r in every if r.item_id == "brand new"]
    assert "cold_item" in line.flags and line.retrieval_rank is None
    assert abs(line.probability - p) < 1e-6
    twice = more.with_items([NewItem("another", "Second")])
    assert twice.score_items(["brand new"], ["m0003"]) == pytest.approx([p], abs=1e-6)
    assert more.score_items(["m0001"], ["brand new"])
    with pytest.raises(DataError, match="in the catalogue already"):
        more.with_items([NewItem("brand new", "x")])
    with pytest.raises(DataError):
        system.score_items(["brand new"], ["m0003"])


def test_a_new_item_is_scored_as_its_twin_in_the_catalogue_that_nobody_has_rated(system):
    catalog, cold = system.catalog, np.flatnonzero(~system.dataset.seen_items)
    twins = [
        NewItem(f"twin {i}", catalog.titles[i], {n: v[i] for n, v in catalog.attributes.items()})
        for i in cold.tolist()
    ]
    more = system.with_items(twins[:1]).with_items(twins[1:])
    known = system.dataset.latest(np.arange(5))
    got = more.score(known, np.tile(catalog.n_items + np.arange(len(cold)), (5, 1)))
    want = system.score(known, np.tile(cold, (5, 1)))
    assert len(cold) > 1 and want.std(axis=1).min() > 0.01
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_titles_alone_make_a_history_and_a_known_title_is_its_item(system):
    known = system.catalog.title(4)
    by_title = system.recommend(history=[Title(known.upper())])
    assert ids(by_title) == ids(system.recommend(history=[system.catalog.item_ids[4]]))
    stranger = system.recommend(
        history=[Title("A film nobody made"), (Title("Another"), False)], k=500, retrieve=500
    )
    assert set(ids(stranger)) == set(system.catalog.item_ids)


def test_reasons_are_what_leaving_an_entry_out_does(system):
    history = ["m0003", "m0010", ("m0020", False), "m0031"]
    got = system.explain("m0050", history)
    assert got == system.explain("m0050", history)  # the same kernels on the same shapes
    (whole,) = system.score_items(["m0050"], history)
    assert got.probability == pytest.approx(whole, abs=1e-6)
    assert {r.item_id for r in got.reasons} == {"m0003", "m0010", "m0031"}
    for reason in got.reasons:
        rest = [e for e in history if e != reason.item_id]
        (without,) = system.score_items(["m0050"], rest)
        assert reason.probability_without == pytest.approx(without, abs=1e-6)
        assert reason.drop == pytest.approx(
            np.log(whole / (1 - whole)) - np.log(without / (1 - without)), abs=1e-4
        )
    assert [r.drop for r in got.reasons] == sorted((r.drop for r in got.reasons), reverse=True)
    assert set(got.shares) == set(system.scorer.weights.components)
    (bias,) = {system.scorer.weights.seen[-1]}
    calibration = system.calibration
    total = sum(got.shares.values()) + calibration.slope * bias + calibration.intercept
    assert total == pytest.approx(np.log(whole / (1 - whole)), abs=1e-4)
    assert {n.item_id for n in got.nearest} == {"m0003", "m0010", "m0031"}
    assert all(-1 - 1e-6 <= n.cosine <= 1 + 1e-6 for n in got.nearest)
    known = system.dataset.latest(np.array([3]))
    listed = system.explain("m0050", user=system.catalog.user_ids[3]).listed
    order = system.fusion.scores(known)[0]
    place = system.catalog.item_ids.index("m0050")
    assert sum(listed.values()) == pytest.approx(order[place] - order.mean(), abs=1e-6)
    new = system.with_items([NewItem("n", "Brand new thing")]).explain("n", history)
    names = {c.name for c in system.fusion.channels} | {"offset of new items"}
    assert {*listed, *new.listed, *got.listed} <= names
    assert all(n.by == "title" for n in new.nearest) and len(new.nearest) == 3
    assert got.to_dict()["reasons"][0]["item_id"] == got.reasons[0].item_id


def test_a_run_of_an_encoder_alone_recommends_and_explains(tmp_path):
    options = [
        "strategy=encoder-only",
        "fusion.enabled=false",
        "encoder.kind=mf",
        "evaluation.ablations=false",
    ]
    config = load_config(TINY, options)
    run_all(open_run(tmp_path / "mf", config, "test", quiet=True))
    alone = SASRecLLM.from_pretrained(tmp_path / "mf")
    assert alone.name == "mf" and len(alone.recommend(history=["m0003"], k=4)) == 4
    assert list(alone.explain("m0001", ["m0003"]).shares) == ["mf"]
    more = alone.with_items([NewItem("n", "x")])
    assert more.explain("n", ["m0003"]).nearest == ()
    assert (alone.explain("m0001", ["m0003"]).listed == {}) == (alone.fusion is None)


def test_the_showcase_of_the_run_names_the_new_ones(folder):
    shown = read_json(folder / "showcase.json")
    (new,) = [lines for heading, lines in shown.items() if heading.startswith("new user")]
    assert all("cold_user" in line["flags"] for line in new)


def test_who_takes_an_item_next_is_a_share_of_all_that_each_may_take(system):
    """Log P of the list fusion; where a run has none, what its encoder says."""
    maker, n_items = system.maker, system.catalog.n_items
    some = system.dataset.latest(np.arange(5))
    shares_IB = np.exp([maker.taking(some, item) for item in range(n_items)])
    assert shares_IB.sum(axis=0) == pytest.approx(np.ones(5))
    now = replace(some, asked_at=np.maximum(some.asked_at, system.dataset.now))
    scores_BI = maker.two_stage(system).scores(now)
    assert np.log(shares_IB.T[:, 1:] / shares_IB.T[:, :1]) == pytest.approx(
        scores_BI[:, 1:] - scores_BI[:, :1]
    )
    plain = ListMaker(system.parts, system.calibration, system.catalog, None)
    encoder = EncoderScorer("encoder", system.parts.retrieving_encoder)
    assert plain.taking(some, 7) == pytest.approx(encoder.score(some, np.full((5, 1), 7))[:, 0])
