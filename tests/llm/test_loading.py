"""The language model's door: whatever the libraries raise is a refusal with a next step."""

import json
from pathlib import Path

import pytest

from sasrecllm.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EnvironmentRefusal,
    ModelNotFoundError,
    SasrecllmError,
)
from sasrecllm.llm.loading import build_llama, load_backbone, save_backbone
from sasrecllm.llm.naming import backbone_path, refuse_unreachable


@pytest.fixture
def folder(tokenizer, tmp_path):
    """An ordinary model's folder, to be damaged."""
    built = build_llama(tokenizer, width=16, layers=2, heads=2, positions=64)
    save_backbone(built, tmp_path / "model")
    return tmp_path / "model"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(name, kind=SasrecllmError):
    with pytest.raises(kind) as caught:
        load_backbone(str(name))
    assert caught.value.exit_code in (3, 4, 5) and caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("~/no-such-model", "check the path"),
        ("a model", "check the path"),
        ("mistral:7b-instruct", "other programs"),
        ("llama3.2:latest", "other programs"),
        ("owner/name@v1.0", "--revision"),
        ("$HOME/model", "not replaced"),
        ("https://example.org/owner/name", "hub id alone"),
        ("C:\\models\\mine", "other programs"),
        ("", "check the path"),
        ("  ", "check the path"),
        ("owner/name/more", "check the path"),
        ("x" * 300, "check the path"),
        ("a\0b", "check the path"),
        ("~nobody-of-this-name/model", "check the path"),
    ],
)
def test_a_name_that_is_no_folder_and_no_hub_id_is_refused_at_once(name, remedy):
    error = refused(name, ModelNotFoundError)
    assert error.exit_code == 4 and remedy in error.remedy and repr(name) in error.what


def test_a_misspelt_folder_names_the_nearest_and_a_file_its_folder(folder):
    assert "did you mean 'model'" in refused(folder.with_name("modle")).what
    error = refused(folder / "config.json")
    assert "is a file" in error.what and "folder" in error.remedy


def test_a_tilde_is_the_home_folder_and_a_relative_path_is_kept_absolute(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert backbone_path("~/model") == str(folder)
    assert load_backbone("~/model").hidden_size == 16
    monkeypatch.chdir(folder.parent)
    assert backbone_path("model") == backbone_path("./model") == str(folder)
    assert backbone_path("owner/name") == "owner/name"
    refuse_unreachable("model")


@pytest.mark.parametrize("base", [False, True])
def test_an_adapters_folder_is_refused_whether_its_base_lies_there_or_not(folder, base):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    if not base:
        (folder / "config.json").unlink()
    error = refused(folder, ModelNotFoundError)
    assert "adapter" in error.what and "base_model_name_or_path" in error.remedy


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("gptq", "optimum gptqmodel"),
        ("awq", "gptqmodel"),
        ("compressed-tensors", "compressed-tensors"),
        ("hqq", "hqq"),
        ("aqlm", '"aqlm[gpu,cpu]"'),
        ("quanto", "optimum-quanto"),
        ("torchao", "torchao"),
    ],
)
def test_weights_quantised_by_a_package_that_is_not_installed_name_it(folder, method, package):
    change(folder / "config.json", quantization_config={"quant_method": method, "bits": 4})
    error = refused(folder, EnvironmentRefusal)
    assert error.exit_code == 3 and error.remedy.startswith("pip install") and package in error.remedy


def test_quantised_weights_are_not_quantised_again(folder):
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ConfigError, match="quantised already") as caught:
        load_backbone(str(folder), quantize="nf4")
    assert "llm.quantize=none" in caught.value.remedy


def test_a_tokenizer_of_a_newer_library_asks_for_it(folder):
    change(folder / "tokenizer.json", normalizer={"type": "NotYetInvented"})
    error = refused(folder, EnvironmentRefusal)
    assert "tokenizer" in error.what and "pip install --upgrade tokenizers" in error.remedy


def test_a_tokenizer_that_must_be_converted_asks_for_its_packages(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (folder / "tokenizer.model").write_bytes(b"\x0a\x07")
    error = refused(folder)
    if isinstance(error, EnvironmentRefusal):  # the packages are not installed here
        assert "sentencepiece" in error.remedy and error.remedy.startswith("pip install")
    assert "tokenizer" in error.what


DAMAGED = {
    "config.json": [
        "{",
        "",
        "[]",
        "null",
        "5",
        "{}",
        '{"model_type": "of-tomorrow"}',
        '{"model_type": 5}',
    ],
    "tokenizer.json": ["{", "", "[]", "{}", "null"],
    "tokenizer_config.json": ["{", "[]"],
    "generation_config.json": ["[]"],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in DAMAGED.items() for t in texts])
def test_a_damaged_file_of_the_folder_is_a_refusal(folder, name, text):
    (folder / name).write_text(text)
    assert "model" in refused(folder).what


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "wide"},
        {"hidden_size": None},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"hidden_act": "nosuch"},
        {"rope_parameters": {"rope_type": "nosuch"}},
        {"dtype": "float3"},
        {"quantization_config": []},
        {"quantization_config": {"quant_method": None}},
    ],
    ids=str,
)
def test_a_value_of_config_json_that_makes_no_model_is_a_refusal(folder, values):
    change(folder / "config.json", **values)
    refused(folder)


@pytest.mark.parametrize("rows", [-8, 8])
def test_a_vocabulary_of_another_size_names_the_tensor_and_both_shapes(folder, rows):
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    change(folder / "config.json", vocab_size=size + rows)
    error = refused(folder, CheckpointError)
    assert f"[{size}, 16]" in error.what and f"[{size + rows}, 16]" in error.what
    assert "vocab_size" in error.remedy


def test_layers_that_config_json_leaves_out_are_refused(folder):
    change(folder / "config.json", num_hidden_layers=1)
    assert "layers.1" in refused(folder, CheckpointError).what
    change(folder / "config.json", num_hidden_layers=3)
    assert "lacks" in refused(folder, CheckpointError).what


def test_weights_that_are_cut_or_missing_are_refused(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for size in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:size])
        assert "damaged" in refused(folder, CheckpointError).what
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    error = refused(folder, ModelNotFoundError)
    assert ".bin" in error.remedy and "safetensors" in error.remedy


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_models_that_are_no_causal_language_models_are_refused(tokenizer, tmp_path):
    import transformers as t

    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "encoder_layers": 1, "decoder_layers": 1}
    bart = t.BartConfig(vocab_size=len(tokenizer), d_model=16, **heads, **sizes)
    both = save(t.BartForConditionalGeneration(bart), tokenizer, tmp_path / "bart")
    error = refused(both, ModelNotFoundError)
    assert "encoder-decoder" in error.what
    eyes = t.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16
    )
    assert "no language model" in refused(save(t.ViTModel(eyes), tokenizer, tmp_path / "vit")).what
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    headless = t.LlamaModel(t.LlamaConfig(vocab_size=len(tokenizer), intermediate_size=16, **small))
    assert "lm_head" in refused(save(headless, tokenizer, tmp_path / "headless"), CheckpointError).what


def test_what_a_library_raises_without_words_still_names_the_model(folder, monkeypatch):
    import transformers

    def broken(*_, **__):
        raise AttributeError

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", broken)
    error = refused(folder, DataError)
    assert str(folder) in error.what and "AttributeError" in error.what


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_memory_that_runs_out_is_not_the_models_fault(folder, monkeypatch, error):
    import transformers

    def full(*_, **__):
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(type(error)) as caught:
        load_backbone(str(folder))
    assert caught.value is error


def test_the_libraries_own_notices_stay_off_the_terminal(folder, capfd):
    change(folder / "config.json", vocab_size=9)
    refused(folder)
    said = capfd.readouterr()
    assert "MISMATCH" not in said.err + said.out and "LOAD REPORT" not in said.err + said.out


def test_the_folder_is_named_as_the_user_gave_it_where_it_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repr("./here") in refused("./here").what and not Path("here").exists()
