"""item_features.vectors=backbone: read by a model from elsewhere, the view chosen, kept in the run."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

import sasrecllm
from sasrecllm import NewItem, SASRecLLM
from sasrecllm.checkpoint import load_part, read_json
from sasrecllm.encoders.prior import apply_prior, rows_of
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.errors import CheckpointError
from sasrecllm.evaluation.metrics import auc
from sasrecllm.llm.loading import build_llama
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.llm.title_vectors import TitleReader
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config, stored_data, stored_vectors
from sasrecllm.runs.system import System
from sasrecllm.stages.title_views import WORDS, NewItemJudge, auc_with_prior

TINY = Path(__file__).parents[1] / "tiny.yaml"
ASKED = (
    "strategy=encoder-only", "fusion.enabled=false", "encoder.prior=titles",
    "item_features.vectors=backbone", "item_features.words=0", "evaluation.ablations=false",
    "lists.channels=[popularity, title words, item vectors]",
)  # fmt: skip


@pytest.fixture(scope="session")
def elsewhere(once):
    """A pretrained language model, as far as anybody can tell: random weights and a tokenizer."""

    def make(folder):
        words = train_tokenizer(["The quiet harbour of Anna", "A storm over the last garden", '"'], 400)
        model = build_llama(words, width=32, layers=3, heads=2, positions=256, seed=0)
        model.causal.save_pretrained(folder)
        words.save_pretrained(folder)

    return once("elsewhere", make)


@pytest.fixture(scope="session")
def reading_run(once, elsewhere, cli):
    """A finished run whose titles were read; change a copy of it, not it."""
    asked = ("run", "--config", TINY, "--quiet", *ASKED, f"llm.backbone={elsewhere}", "--out")
    return once("reading", lambda folder: cli(*asked, folder))


@pytest.fixture(scope="module")
def system(reading_run):
    return SASRecLLM.from_pretrained(reading_run)


def test_reading_the_titles_is_part_of_what_a_run_is_said_to_take(elsewhere, cli, tmp_path):
    asked = (*ASKED, f"llm.backbone={elsewhere}", "--out", tmp_path / "run", "--dry-run")
    assert "stage prior: about" in cli("run", "--config", TINY, *asked)


def test_the_view_is_the_best_on_validation_and_the_vectors_are_a_part_of_the_run(reading_run, system):
    (about,) = reading_run.glob("stages/*-prior/stage.json")
    result = read_json(about)["result"]
    judged = dict(result["validation_auc"])
    assert judged.pop(WORDS) is None, "there are no words in this run"
    assert result["view"] == max(judged, key=judged.get) and len(judged) == 6
    _, kept = load_part(about.parent / "parts" / "item_vectors", {})
    assert kept["item"] == "movie" and str(kept["layer"]) in result["view"]
    worth = result["prior_auc"]
    read = worth["with vectors"] > worth[WORDS]
    assert (result["explained_out_of_fold"] is not None) == read, "there is nothing else to go by"
    np.testing.assert_allclose(np.linalg.norm(system.parts.item_vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(stored_vectors(RunFolder(reading_run)), system.parts.item_vectors)
    words = system.catalog.titles[3].split()[0]
    assert [f for f in system.search(words, 60) if f.near], "searches go by them"


def test_an_update_reads_the_new_titles_alone_in_the_same_view(
    reading_run, system, tmp_path, monkeypatch
):
    read, states = [], TitleReader.states

    def counted(self, titles, *others):
        read.extend(titles)
        return states(self, titles, *others)

    monkeypatch.setattr(TitleReader, "states", counted)
    catalog, data = system.catalog, system.dataset
    rows = [
        (user, item, place % 2, int(data.times.max()) + 60 * place)
        for place, user in enumerate(catalog.user_ids[:40])
        for item in ("aaa", catalog.item_ids[place])
    ]
    log = pl.DataFrame(rows, ["user_id", "item_id", "label", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": ["aaa"], "title": ["The garden of Anna"]})
    copy = shutil.copytree(reading_run, tmp_path / "run")
    after = sasrecllm.update(copy, log, items, quiet=True, out=tmp_path / "next")
    assert set(read) == {"The garden of Anna"}
    assert after.catalog.item_ids[0] == "aaa", "all others have moved by one"
    before, now = (one.parts.vectors.read for one in (system, after))
    assert now.view == before.view and np.array_equal(now.vectors[1:], before.vectors)
    assert np.linalg.norm(now.vectors[0]) == pytest.approx(1, abs=1e-6)


def test_a_damaged_vector_is_refused(reading_run, tmp_path):
    copy = shutil.copytree(reading_run, tmp_path / "copy")
    (weights,) = copy.glob("stages/*-prior/parts/item_vectors/weights.safetensors")
    damaged = bytearray(weights.read_bytes())
    damaged[-3] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(CheckpointError):
        SASRecLLM.from_pretrained(copy)


def test_a_new_item_gets_the_vector_that_its_title_has_in_the_catalogue(system):
    catalog, vectors = system.catalog, system.parts.item_vectors
    grown = system.with_items([NewItem("later", catalog.titles[5]), NewItem("other", "Storm garden")])
    found = system.parts.vectors.of(grown.catalog)
    assert np.array_equal(found[: len(vectors)], vectors)
    # Read beside other titles than then: other kernels add single precision in other orders.
    np.testing.assert_allclose(found[len(vectors)], vectors[5], atol=1e-3)
    liked = [catalog.item_ids[n] for n in (5, 6, 7)]
    explained = grown.explain("later", history=liked)
    assert [n.by for n in explained.nearest] == ["title"] * 3
    assert explained.nearest[0].item_id == catalog.item_ids[5]
    assert explained.nearest[0].cosine == pytest.approx(1, abs=1e-3)


def test_without_the_language_model_the_run_answers_and_says_what_new_items_lack(
    reading_run, elsewhere, tmp_path, caplog, monkeypatch
):
    system = SASRecLLM.from_pretrained(reading_run)
    monkeypatch.setattr(system.parts, "backbone_path", str(tmp_path / "gone"))
    user = system.catalog.user_ids[0]
    before = system.recommend(user=user, k=3)
    with caplog.at_level(logging.WARNING):
        grown = system.with_items([NewItem("later", "Storm garden")])
        found = system.parts.vectors.of(grown.catalog)
    assert not found[-1].any() and found[0].any()
    assert "1 new items have no vector" in caplog.text and "gone" in caplog.text
    assert grown.explain("later", user=user).nearest == ()
    assert len(grown.recommend(user=user, k=3)) == len(before) == 3


def test_a_model_that_the_run_would_build_itself_reads_nothing(cli, tmp_path):
    said = cli("run", "-q", "-c", TINY, "-o", tmp_path / "run", *ASKED, expect=2)
    assert "item_features.vectors is backbone" in said and "llm.backbone is 'offline'" in said


def test_a_language_model_that_is_not_there_is_refused_before_anything_is_trained(cli, tmp_path):
    missing = f"llm.backbone={tmp_path / 'nothing'}"
    said = cli("run", "-q", "-c", TINY, "-o", tmp_path / "run", *ASKED, missing, expect=4)
    assert "nothing" in said and not (tmp_path / "run" / "stages").exists()


def test_a_prior_is_judged_as_it_would_be_applied_and_taken_back(reading_run):
    folder = RunFolder(reading_run)
    data = stored_data(folder)
    system = System.load(folder, config=stored_config(folder), dataset=data, until=1)
    work = SimpleNamespace(system=system, dataset=data, questions=data.questions)
    before = {name: value.clone() for name, value in system.encoder.state_dict().items()}
    asked = data.questions("valid")
    plain = auc(
        EncoderScorer("", system.encoder).score(asked.histories, asked.targets[:, None])[:, 0],
        asked.labels,
    )
    assert auc_with_prior(work, np.zeros((data.n_items, 0))) == plain, "nothing to go by"
    own = rows_of(system.encoder)
    found = auc_with_prior(work, own / np.linalg.norm(own, axis=1, keepdims=True))
    after = system.encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    apply_prior(system.encoder, own / np.linalg.norm(own, axis=1, keepdims=True), data.train_counts)
    again = EncoderScorer("", system.encoder).score(asked.histories, asked.targets[:, None])[:, 0]
    assert found == auc(again, asked.labels) != plain


def test_a_judge_knows_vectors_that_say_something_and_leaves_the_encoder_as_it_was(reading_run):
    folder = RunFolder(reading_run)
    config, data = stored_config(folder), stored_data(folder)
    system = System.load(folder, config=config, dataset=data, until=1)
    asked = SimpleNamespace(system=system, dataset=data, questions=data.questions)
    items = np.arange(data.n_items)
    before = {name: value.clone() for name, value in system.encoder.state_dict().items()}
    judge = NewItemJudge(asked, items)
    own = rows_of(system.encoder)
    good = judge(own / np.linalg.norm(own, axis=1, keepdims=True))
    bad = judge(np.random.default_rng(0).normal(size=(data.n_items, 8)) / 3)
    assert good > bad + 0.02, "vectors that are the encoder's own say more than chance"
    assert judge(None) is None, "there are no words in this run"
    after = system.encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
