"""A run's language model, out again: peft and transformers load it, and the scores are the run's."""

import errno
import json
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sasrecllm import SASRecLLM, Title
from sasrecllm.config import load_config
from sasrecllm.errors import ConfigError, ModelNotFoundError, ResourceError
from sasrecllm.inference import export
from sasrecllm.inference.export import export_run
from sasrecllm.manifest import verify_folder

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(scope="session")
def texts(once, cli):
    """A finished run of words alone, whose adapter changes its answers.  Change a copy of it."""
    chosen = ("strategy=text-only", "fusion.enabled=false", "lists.enabled=false")
    chosen += ("llm.text_prompt=events-text", "llm.loop.lr=0.05", "llm.loop.epochs=2")
    return once("texts", lambda to: cli("run", "-q", "--config", TINY, "--out", to, *chosen))


@pytest.fixture(scope="session")
def forms(texts, cli, tmp_path_factory):
    """Form -> what the command wrote of that run."""
    place = tmp_path_factory.mktemp("out")
    for form in ("adapter", "merged"):
        said = cli("export", texts, place / form, f"--{form}")
        assert str(place / form) in said
    return {form: place / form for form in ("adapter", "merged")}


@pytest.fixture(scope="session")
def text_system(texts):
    return SASRecLLM.from_pretrained(texts)


def carded(folder):
    """What a reader of the card has after running its Python."""
    code = (folder / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    assert code.count('folder = "."') == 1
    space = {}
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), space)
    return space


def asked(system, count=12):
    """Histories as a reader would write them down, (title, liked), then targets, and scores."""
    questions, titles = system.dataset.questions("test"), system.catalog.titles
    few = questions.take(np.arange(count))
    h = few.histories
    entries = [
        [(titles[i], bool(liked)) for i, liked in zip(h.items[a:b], h.labels[a:b], strict=True)]
        for a, b in zip(h.offsets, h.offsets[1:], strict=False)
    ]
    scores = system.score(h, few.targets[:, None])[:, 0]
    return entries, [titles[i] for i in few.targets], scores


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_the_cards_python_gives_the_runs_scores(forms, text_system, form):
    card = carded(forms[form])
    entries, targets, wanted = asked(text_system)
    got = [card["score"](h, t) for h, t in zip(entries, targets, strict=True)]
    # Single precision (1e-7 of logits up to 10), added in another order: no padding, merged or not.
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    probability = card["probability"](entries[0], targets[0])
    wanted_p = text_system.calibration.probabilities(wanted[:1])[0]
    assert probability == pytest.approx(wanted_p, abs=1e-4)
    assert np.ptp(wanted) > 1e-2, "answers differ, or this tells nothing"


def test_without_the_adapter_the_scores_are_others(forms, text_system):
    card = carded(forms["adapter"])
    entries, targets, wanted = asked(text_system)
    with card["model"].disable_adapter():
        bare = [card["score"](h, t) for h, t in zip(entries, targets, strict=True)]
    assert np.abs(np.array(bare) - wanted).max() > 1e-2


def test_peft_and_transformers_load_the_folders_by_themselves(forms, texts):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoPeftModelForCausalLM.from_pretrained(forms["adapter"]).peft_config["default"].r == 2
    base = json.loads((forms["adapter"] / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base == str((texts / "llm").absolute())
    model = AutoModelForCausalLM.from_pretrained(forms["merged"])
    assert not any("lora" in name for name, _ in model.named_parameters())
    before = AutoTokenizer.from_pretrained(texts / "llm")
    assert AutoTokenizer.from_pretrained(forms["merged"]).get_vocab() == before.get_vocab()
    for folder in forms.values():
        verify_folder(folder)
        card = (folder / "README.md").read_text("utf-8")
        assert "? Yes" in card and "text-only LLM" in card and "u0" not in card


def test_four_bits_are_written_down_for_who_loads_the_adapter(texts, forms):
    pytest.importorskip("bitsandbytes", reason="the quant extra is not installed")
    settings = ["strategy=text-only", "fusion.enabled=false", "lists.enabled=false"]
    chosen = load_config(TINY, [*settings, "llm.quantize=nf4"])
    written = export._opened(export.choose_run(texts), chosen).prompt()["quantization"]
    assert written["load_in_4bit"] and written["bnb_4bit_quant_type"] == "nf4"
    for folder in forms.values():
        assert json.loads((folder / "prompt.json").read_text())["quantization"] is None


def test_python_writes_the_same_adapter(forms, text_system, tmp_path):
    text_system.export(tmp_path / "again")
    both = (tmp_path / "again", forms["adapter"])
    got, wanted = (load_file(folder / "adapter_model.safetensors") for folder in both)
    assert got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in got)


def test_a_run_with_soft_tokens_gives_its_adapter_and_says_what_is_missing(run, cli, tmp_path):
    said = cli("export", run, tmp_path / "out", "--merged", expect=2)
    assert "soft tokens" in said and "--adapter" in said and not list(tmp_path.iterdir())
    cli("export", run, tmp_path / "out", "--adapter")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "`{user}` and `{item}`" in card and "score_request" in card
    kept = load_file(sorted(run.glob("stages/*/parts/adapter"))[-1] / "weights.safetensors")
    wrote = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert kept.keys() == wrote.keys() and all(torch.equal(kept[k], wrote[k]) for k in kept)


def test_an_adapter_of_words_beside_soft_tokens_comes_with_the_words_prompt(run, tmp_path):
    chosen = load_config(TINY, ["strategy=plug-and-play"])
    source = export._opened(export.choose_run(run), chosen)
    assert (source.stage.prompt, source.answers.prompt) == ("text", "soft")


@pytest.mark.parametrize(
    ("chosen", "form", "said"),
    [
        ("strategy=encoder-only", "adapter", "no stage of this run asks a language model"),
        ("strategy=mapper-only", "adapter", "trains an adapter or loads one"),
        ("strategy=joint", "merged", "soft tokens"),
        ("llm.quantize=nf4", "merged", "nf4, which cannot take the adapter in"),
    ],
)
def test_what_a_run_does_not_have_is_refused(texts, tmp_path, chosen, form, said):
    settings = ["strategy=text-only", "fusion.enabled=false", "lists.enabled=false", chosen]
    with pytest.raises(ConfigError, match=said) as refused:
        export_run(texts, tmp_path / "out", form, load_config(TINY, settings))
    assert refused.value.exit_code == 2 and refused.value.remedy and not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", None])
def test_a_model_that_came_quantised_takes_no_adapter_in(tmp_path, method):
    """Before its weights are read, so neither they nor the packages that read them are needed."""
    about = {"quantization_config": {"quant_method": method, "bits": 4}} if method else {}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | about))
    config = load_config(TINY, ["strategy=text-only", f"llm.backbone={tmp_path}"])
    system, asks = SimpleNamespace(backbone_path=str(tmp_path)), SimpleNamespace(prompt="text")
    source = export._Source("run", config, system, asks, asks)
    if method is None:
        return export._refuse_unmergeable(source)
    with pytest.raises(ConfigError, match=f"held in {method}, which cannot take") as refused:
        export._refuse_unmergeable(source)
    assert "--adapter" in refused.value.remedy


def test_places_and_flags_that_cannot_be_are_refused(texts, cli, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "exists already" in cli("export", texts, tmp_path / "mine", "--adapter", expect=2)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    for place in (texts / "out", texts / "llm" / "out"):
        assert "lies in the run folder" in cli("export", texts, place, "--merged", expect=2)
        assert not place.exists()
    assert "neither" in cli("export", texts, tmp_path / "out", expect=2)
    assert "both" in cli("export", texts, tmp_path / "out", "--adapter", "--merged", expect=2)
    assert "no such folder" in cli(
        "export", tmp_path / "nowhere", tmp_path / "o", "--adapter", expect=5
    )
    with pytest.raises(ConfigError, match="did you mean 'merged'"):
        export_run(texts, tmp_path / "out", "merge")
    (tmp_path / "file").write_text("")
    cli("export", texts, tmp_path / "file" / "out", "--adapter", expect=2)


def test_a_damaged_run_leaves_nothing(texts, cli, tmp_path):
    damaged = shutil.copytree(texts, tmp_path / "run")
    (part,) = damaged.glob("stages/*/parts/adapter/weights.safetensors")
    part.write_bytes(part.read_bytes()[:-1])
    assert "damaged" in cli("export", damaged, tmp_path / "out", "--adapter", expect=5)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("form", ["adapter", "merged"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ResourceError), (KeyboardInterrupt(), None)],
)
def test_a_full_disk_and_a_stop_leave_nothing(texts, tmp_path, monkeypatch, form, error, raised):
    def stopped(path, value):
        assert any(path.parent.iterdir()), "the weights stand"
        raise error

    monkeypatch.setattr(export, "write_json", stopped)
    with pytest.raises(raised or KeyboardInterrupt):
        export_run(texts, tmp_path / "out", form)
    assert not list(tmp_path.iterdir())


def test_a_merged_model_that_answers_otherwise_is_refused(texts, tmp_path, monkeypatch):
    from sasrecllm.llm.backbone import Backbone

    def forgotten(self):
        self.causal = self._adapter().unload()

    monkeypatch.setattr(Backbone, "merge_adapter", forgotten)
    with pytest.raises(ModelNotFoundError, match="answers otherwise"):
        export_run(texts, tmp_path / "out", "merged")
    assert not list(tmp_path.iterdir())


def test_a_request_to_another_server_holds_the_runs_own_soft_tokens(run, text_system):
    system = SASRecLLM.from_pretrained(run)
    request = system.score_request(["m0003", "m0005"], history=["m0001", Title("A new one")])
    again = system.score_request(["m0003"], history=["m0001", Title("A new one")])
    mark = request["embed_override_token_id"]
    width = system.parts.backbone.hidden_size
    assert len(request["items"]) == 2 and request["query"].count(mark) == 1
    assert all(len(v) == width for v in request["query_embed_overrides"])
    assert np.allclose(request["query_embed_overrides"], again["query_embed_overrides"], atol=1e-5)
    words = text_system.score_request(["m0003"], history=["m0001"])
    assert "embed_override_token_id" not in words and words["label_token_ids"][0] > 0
    assert math.isfinite(sum(words["query"]))
