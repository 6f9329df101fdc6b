"""A scorer over a grown catalogue: what reads titles learns the new ones, others stay."""

from types import SimpleNamespace

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.inference.new_items import grown
from sasrecllm.llm.fusion import Fusion, FusionWeights


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
