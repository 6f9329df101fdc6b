"""A scorer over a grown catalogue: what reads titles learns the new ones, others stay."""

from types import SimpleNamespace

import numpy as np

from sasrecllm.baselines.item_attributes import ItemAttributes
from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.vectors import VectorLikeness
from sasrecllm.data.catalog import Catalog
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.new_items_in_lists import NewItems
from sasrecllm.fusion.score_fusion import Fusion, FusionWeights
from sasrecllm.inference.new_items import grown, grown_lists
from sasrecllm.types import Histories


class ById:
    name = "by id"

    def score(self, histories, candidates):
        return candidates * 1.0


class Reader:
    """Knows titles; a new one is the same scorer with one more."""

    name = "reader"

    def __init__(self, titles):
        self.titles = titles

    def with_new_titles(self, titles):
        return Reader([*self.titles, *titles])

    def score(self, histories, candidates):
        return np.array([[len(self.titles[i]) for i in row] for row in candidates], dtype=float)


CATALOG = Catalog(["a", "b", "new"], ["A", "BB", "CCC"])
NO_PARTS = SimpleNamespace()


def test_a_scorer_that_knows_items_by_index_is_the_same():
    one = ById()
    assert grown(one, NO_PARTS, CATALOG, 2) is one


def test_a_reader_reads_the_new_titles_alone():
    got = grown(Reader(["A", "BB"]), NO_PARTS, CATALOG, 2)
    assert got.titles == ["A", "BB", "CCC"]


def test_a_fusion_grows_in_every_part_and_keeps_its_weights():
    weights = FusionWeights(
        ("by id", "reader"), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 2.0, 0.5)
    )
    fused = Fusion("both", weights, [ById(), Reader(["A", "BB"])], np.array([True, True]))
    got = grown(fused, NO_PARTS, CATALOG, 2)
    assert got.name == "both" and got.weights is weights
    np.testing.assert_allclose(got.score(None, np.array([[0, 2]])), [[0 + 1, 2 * 3 + 0.5]])
    np.testing.assert_allclose(fused.score(None, np.array([[0, 1]])), [[0 + 1, 1 + 2]])


def test_a_new_item_is_listed_by_its_vector_too():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    words = WordLikeness.fit(["A", "BB"], {})
    new = NewItems.of(words, np.zeros(2, dtype=bool), np.ones(2, dtype=bool))
    channels = (words, VectorLikeness(vectors[:2]))
    fusion = ListFusion(channels, 2, np.ones(2), np.array([0.5, 2.0]), new=new)
    asked = []

    def vectors_of(catalog):
        asked.append(catalog)
        return vectors

    got = grown_lists(fusion, SimpleNamespace(vectors=SimpleNamespace(of=vectors_of)), CATALOG)
    one = np.ones(1, dtype=np.int64)
    likes_the_second = Histories(one, one, one.astype(np.int8), one, np.array([0, 1]), 2 * one)
    assert asked == [CATALOG] and got.n_items == 3
    (scores,) = got.scores(likes_the_second)
    assert scores.tolist() == [0.0, 2.0, 2.0]


def test_a_new_item_is_listed_by_its_attributes_too():
    taken = TrainRows(
        np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), np.ones(4, dtype=np.int8), n_users=2, n_items=2
    )
    words = WordLikeness.fit(["A", "BB"], {})
    new = NewItems.of(words, np.zeros(2, dtype=bool), np.ones(2, dtype=bool))
    attributes = ItemAttributes.fit({"kind": ["tea", "war"]}, taken)
    fusion = ListFusion((words, attributes), 2, np.ones(2), np.array([0.5, 2.0]), new=new)
    catalog = Catalog(["a", "b", "new"], ["A", "BB", "CCC"], [], {"kind": ["tea", "war", "war"]})
    got = grown_lists(fusion, NO_PARTS, catalog)
    one = np.ones(1, dtype=np.int64)
    likes_the_second = Histories(one, one, one.astype(np.int8), one, np.array([0, 1]), 2 * one)
    (scores,) = got.scores(likes_the_second)
    assert scores[2] == scores[1] > 0 > scores[0]
