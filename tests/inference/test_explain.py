"""Reasons on a world where the right ones are known: genres are liked, one liked item at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sasrecllm import SASRecLLM
from sasrecllm.data.catalog import Catalog
from sasrecllm.encoders.table import build_encoder
from sasrecllm.evaluation.calibration import Calibration
from sasrecllm.fusion.score_fusion import Fusion, FusionWeights
from sasrecllm.inference.explain import cosines, left_out
from sasrecllm.inference.requests import one_history
from sasrecllm.settings import Config

GENRE = np.array([0, 0, 0, 1, 1, 1, 2, 2])  # three of the sea, three of the war, two of neither
WEIGHT = np.array([0.5, 1.0, 0.0, 0.25, 0.75, 0.0, 0.0, 0.0])  # how loudly each speaks when liked
NAMES = ["sea a", "sea b", "sea c", "war a", "war b", "war c", "other", "unseen"]


class SameGenre:
    """Sum of the weights of the liked items that share the candidate's genre."""

    name = "same genre"

    def score(self, histories, candidates):
        liked = histories.liked()
        table = np.zeros((len(histories), len(GENRE)))
        np.add.at(table, (liked.owners, liked.items), WEIGHT[liked.items])
        same = GENRE[candidates][:, :, None] == GENRE
        return (table[:, None, :] * same).sum(2)


class Constant:
    name = "constant"

    def score(self, histories, candidates):
        return np.full(candidates.shape, 3.0)


@pytest.fixture
def system():
    seen = np.array([True] * 7 + [False])
    encoder = build_encoder(
        "mf", n_items=8, n_users=0, width=3, blocks=1, heads=1, length=5, seen_items=seen
    )
    with torch.no_grad():
        vectors = torch.nn.functional.one_hot(torch.from_numpy(GENRE), 3).float()
        encoder.item_table.copy_(vectors + 0.1 * torch.arange(8)[:, None])
    catalog = Catalog([f"i{n}" for n in range(8)], NAMES)
    nobody = one_history(-1, np.array([0]), np.ones(1, dtype=np.int8), np.array([0]), 0)
    dataset = SimpleNamespace(
        catalog=catalog, seen_items=seen, seen_users=np.zeros(0, dtype=bool), allow_seen=False, now=0,
        starts=np.zeros(1, dtype=np.int64), latest=lambda users: nobody,
    )  # fmt: skip
    parts = SimpleNamespace(
        dataset=dataset,
        encoder=encoder,
        retrieving_encoder=encoder,
        list_fusion=None,
        vectors=SimpleNamespace(of=lambda catalog: None, own=None),
        config=Config(strategy="encoder-only"),
    )
    return SASRecLLM(parts, SameGenre(), Calibration(slope=2.0, intercept=-1.0))


def test_the_reasons_are_the_liked_items_of_the_genre_each_with_its_weight(system):
    got = system.explain("i2", ["i0", "i3", "i1", ("i4", False), "i6"])
    assert {r.title: r.drop for r in got.reasons} == pytest.approx(
        {"sea b": 2.0, "sea a": 1.0, "other": 0.0, "war a": 0.0}
    )
    assert [r.title for r in got.reasons][:2] == ["sea b", "sea a"]
    logit = 2.0 * 1.5 - 1.0
    assert got.probability == pytest.approx(1 / (1 + np.exp(-logit)))
    assert got.reasons[0].probability_without == pytest.approx(1 / (1 + np.exp(-(logit - 2.0))))
    assert got.shares == pytest.approx({"same genre": 3.0})


def test_the_reason_moves_with_the_question(system):
    got = system.explain("i5", ["i0", "i3", "i1", "i4"])
    assert [r.title for r in got.reasons][:2] == ["war b", "war a"]
    assert {r.title for r in got.reasons if r.drop == 0} == {"sea a", "sea b"}
    assert {n.title for n in got.nearest[:2]} == {"war a", "war b"}
    assert {n.by for n in got.nearest} == {"encoder"}


def test_dislikes_are_no_reasons_and_without_likes_there_are_none(system):
    got = system.explain("i2", [("i0", False), ("i1", False)])
    assert (got.reasons, got.nearest) == ((), ())
    assert system.explain("i2", [], strict=False).reasons == ()


def test_an_item_without_vector_and_words_has_no_neighbours_but_has_reasons(system):
    got = system.explain("i7", ["i6", "i0"])
    assert got.nearest == () and {r.title for r in got.reasons} == {"other", "sea a"}


def test_only_the_newest_ten_are_left_out(system):
    history = ["i0"] * 3 + ["i3"] * 10
    got = system.explain("i2", history)
    assert len(got.reasons) == 10 and {r.title for r in got.reasons} == {"war a"}


def test_shares_are_standardised_scores_times_weights(system):
    weights = FusionWeights(
        ("encoder", "llm"), (0.5, 1.0), (2.0, 4.0), (1.5, 2.0, 0.3), (0.0, 6.0, 0.3)
    )
    fused = Fusion("both", weights, [SameGenre(), Constant()], system.dataset.seen_items)
    system = SASRecLLM(system.parts, fused, Calibration(slope=2.0, intercept=0.0))
    warm, cold = (system.explain(item, ["i0", "i1"]) for item in ("i2", "i7"))
    # 2 · 1.5 · (1.5 − 0.5) / 2 and 2 · 2 · (3 − 1) / 4; the unseen item has weights of its own.
    assert warm.shares == pytest.approx({"encoder": 1.5, "llm": 2.0})
    assert cold.shares == pytest.approx({"encoder": 0.0, "llm": 6.0})
    for got in (warm, cold):
        logit = np.log(got.probability / (1 - got.probability))
        assert sum(got.shares.values()) + 2.0 * 0.3 == pytest.approx(logit)


def test_an_encoder_without_a_language_model_recommends_beside_many_items_without_a_vector(system):
    """It cannot read their titles, so it asks for none of its language model, which it has not."""
    system.parts.encoder.mark_seen(np.array([True] * 4 + [False] * 4))
    system = SASRecLLM(system.parts, system.scorer)
    assert len(system.recommend(history=["i0"], k=3, retrieve=3)) == 3
    nobody = one_history(-1, np.array([0]), np.ones(1), np.zeros(1), 1)
    items, _, ranks = system.recommend_many(nobody, k=8, count=3)
    assert (ranks[items >= 0] == 0).any()  # some without a vector are among the candidates


def test_leaving_one_out_takes_the_newest_likes_one_by_one():
    items, labels = np.array([7, 8, 9, 7]), np.array([1, 0, 1, 1])
    rows, places = left_out(one_history(-1, items, labels, np.arange(4), 4), most=2)
    assert places == [3, 2]
    asked = [rows.take(np.array([b])).items.tolist() for b in range(3)]
    assert asked == [[7, 8, 9, 7], [7, 8, 9], [7, 8, 7]]


def test_cosines():
    got = cosines(np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(got, [1.0, 0.0, 0.0])
