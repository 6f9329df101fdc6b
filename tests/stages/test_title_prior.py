"""encoder.prior=titles where it can have no effect: the run goes on and says so."""

from pathlib import Path

import pytest

from sasrecllm.checkpoint import read_json

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.mark.parametrize(
    ("strategy", "said"),
    [("encoder-only", "no two items share a word"), ("text-only", "no stage applies it")],
)
def test_a_prior_without_words_has_no_effect_and_says_so(cli, tmp_path, strategy, said):
    out = cli("run", "--config", TINY, "--out", tmp_path / "run", f"strategy={strategy}",
              "encoder.prior=titles", "item_features.words=0", "fusion.enabled=false",
              "evaluation.ablations=false")  # fmt: skip
    assert f"encoder.prior=titles has no effect: {said}" in out
    assert "no effect" in (tmp_path / "run/log.txt").read_text()
    rows = read_json(tmp_path / "run/results.json")["rows"]
    if strategy == "encoder-only":
        assert rows["SASRec"]["intervals"] == rows["SASRec + title prior"]["intervals"]
