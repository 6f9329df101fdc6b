"""Scorers of a run's parts: each summand of a fusion by its name, and what an ablation takes away."""

from pathlib import Path

import numpy as np
import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.ablated_scorers import Change
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.scorers import component, llm_scorer
from sasrecllm.runs.system import System


@pytest.fixture(scope="module")
def system(run):
    return System.load(RunFolder(Path(run)), "cpu")


@pytest.fixture(scope="module")
def asked(system):
    """A few histories, and the candidates of each."""
    return system.dataset.latest(np.array([0, 5, 9])), np.array([[1, 2, 3]] * 3)


def test_the_summands_of_a_fusion_go_by_their_names(system, asked):
    by_llm, by_encoder, by_mean = (
        component(system, name, "text") for name in ("llm", "encoder", "item mean")
    )
    assert (by_llm.name, by_encoder.name, by_mean.name) == ("llm", "encoder", "item mean")
    means = by_mean.score(*asked)
    assert (means == means[0]).all(), "the same for everybody"
    assert not np.allclose(by_encoder.score(*asked)[0], by_encoder.score(*asked)[1])
    np.testing.assert_array_equal(by_llm.score(*asked), llm_scorer(system, "x", "text").score(*asked))
    with pytest.raises(ConfigError, match="item meann"):
        component(system, "item meann", "text")


def test_what_an_ablation_takes_away_is_missing_in_the_scores(system, asked):
    text, soft = (llm_scorer(system, "llm", prompt).score(*asked) for prompt in ("text", "soft"))
    blank = llm_scorer(system, "llm", "text", Change(blank_titles=True)).score(*asked)
    without = llm_scorer(system, "llm", "soft", Change(zero_soft=True)).score(*asked)
    assert not np.allclose(text, blank) and not np.allclose(soft, without)
    # No title is left by which one candidate could differ from another.
    np.testing.assert_allclose(blank, blank[:, :1].repeat(3, axis=1), atol=1e-4)
