"""A GGUF file becomes an ordinary folder with the same weights and token ids, or is refused."""

import importlib.util
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from sasrecllm.checkpoint import is_whole
from sasrecllm.errors import (
    CheckpointError,
    EnvironmentRefusal,
    MissingExtraError,
    ModelNotFoundError,
    SasrecllmError,
)
from sasrecllm.llm import gguf
from sasrecllm.llm.gguf import ARCHITECTURES
from sasrecllm.llm.loading import load_backbone
from sasrecllm.llm.sources import convert
from sasrecllm.prompts.titles import TitleTokens

pytest.importorskip("gguf", reason='needs pip install "sasrecllm[gguf]"')

TITLES = [
    "The Silent Harbour (1994)",
    "2001: Golden Tide",
    "Last   Reef",
    "Ame\u0301lie, ½ of 千と千尋",
]


@pytest.fixture(scope="session")
def file(tokenizer, tmp_path_factory, gguf_writer):
    """A small Llama's file, in fp32."""
    folder = tmp_path_factory.mktemp("gguf")
    return gguf_writer.write(folder / "tiny.gguf", gguf_writer.build("llama"), tokenizer)


@pytest.fixture(scope="session")
def folder(file):
    """What it is converted into."""
    convert(str(file), file.with_name("converted"))
    return file.with_name("converted")


def logits(causal):
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        return causal(input_ids=ids).logits.float()


def refused(source, kind, out, **options):
    with pytest.raises(kind) as caught:
        convert(str(source), out, **options)
    assert not out.exists() and not list(out.parent.glob("*.tmp"))
    return caught.value


@pytest.mark.parametrize(
    ("family", "tied"), [(f, t) for f in ARCHITECTURES for t in (True, False) if t or f != "gpt2"]
)  # GPT-2's head is its embeddings
def test_the_folder_has_the_files_weights(family, tied, tokenizer, tmp_path, gguf_writer):
    model = gguf_writer.build(family, tied)
    convert(str(gguf_writer.write(tmp_path / "m.gguf", model, tokenizer)), tmp_path / "out")
    got = load_backbone(str(tmp_path / "out")).causal
    assert got.config.tie_word_embeddings == tied
    # The weights are equal; other kernels may add in another order.
    torch.testing.assert_close(logits(got), logits(model), rtol=0, atol=1e-4)
    wanted = model.state_dict()
    for name, tensor in got.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize(
    ("kind", "dtype", "off"),
    [("F32", "float32", 1e-5), ("F16", "float32", 1e-3), ("BF16", "bfloat16", 1e-2),
     ("Q8_0", "bfloat16", 2e-2), ("Q4_1", "bfloat16", 0.3)],
)  # fmt: skip
def test_quantised_weights_are_read_and_what_they_are_stored_in_keeps_their_digits(
    kind, dtype, off, tokenizer, tmp_path, gguf_writer
):
    model = gguf_writer.build("llama")
    convert(str(gguf_writer.write(tmp_path / "m.gguf", model, tokenizer, kind=kind)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    got = load_backbone(str(tmp_path / "out")).causal.state_dict()
    for name, wanted in model.state_dict().items():
        distance = float((got[name] - wanted).norm() / wanted.norm())
        assert distance < off, (name, distance)  # 4 bits of 16 levels over a block: some hundredths


def test_it_is_an_ordinary_folder_with_its_tokenizer_its_template_and_its_card(file, folder):
    assert is_whole(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(folder.with_name("again"))  # which a model that counts as quantised refuses
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"content": "hello"}], tokenize=False) == "hello"
    assert tokenizer.model_max_length == 128
    card = (folder / "README.md").read_text()
    about = json.loads((folder / "gguf.json").read_text())
    import hashlib

    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert about["sha256"] == digest and digest in card and "license: mit" in card
    assert "# Tiny films\n" in card and "tiny.gguf" in card


def test_text_is_cut_as_the_file_says(tmp_path, gguf_writer):
    from sasrecllm.llm.offline import train_tokenizer

    years = train_tokenizer([f"The Reef ({year})" for year in range(1980, 2010)] * 20, 400)
    model = gguf_writer.build("llama", vocab_size=len(years))
    title, found = "Reef (1994)", {}
    for split in ("gpt-2", "smollm"):
        path = gguf_writer.write(tmp_path / f"{split}.gguf", model, years, split=split)
        convert(str(path), tmp_path / split)
        got = AutoTokenizer.from_pretrained(tmp_path / split)
        found[split] = [got.decode([i]) for i in TitleTokens(got, [title]).of(0).tolist()]
        for text, ids in zip(TITLES, _ids(got), strict=True):
            assert got.decode(ids) == text
        if split == "gpt-2":
            assert _ids(got) == _ids(years)  # which cuts as GPT-2's does
    assert found["smollm"][-5:-1] == ["1", "9", "9", "4"] and "1994" in found["gpt-2"]


def test_a_sentencepiece_vocabulary_is_read(gguf_writer, tmp_path):
    words = [
        "▁",
        *"TheoyStr(195)abcYN",
        "▁T",
        "he",
        "▁The",
        "to",
        "▁S",
        "▁▁",
        "▁Y",
        "es",
        "▁Yes",
        "▁No",
    ]
    pieces = [
        *[("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)],
        *[(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)],
        *[(word, -float(rank), 1) for rank, word in enumerate(dict.fromkeys(words))],
    ]
    model = gguf_writer.build("llama", vocab_size=len(pieces))
    path = gguf_writer.write(tmp_path / "m.gguf", model, pieces)
    convert(str(path), tmp_path / "out")
    got = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert got.tokenize("Toy Story (1995)")[:4] == ["▁T", "o", "y", "▁S"]
    assert got("The")["input_ids"] == [1, got.get_vocab()["▁The"]]  # it begins with BOS
    titles = TitleTokens(got, TITLES)
    assert [got.decode(titles.of(n).tolist()) for n in range(len(TITLES))] == TITLES


def _ids(tokenizer):
    titles = TitleTokens(tokenizer, TITLES)
    return [titles.of(n).tolist() for n in range(len(TITLES))]


def test_control_tokens_in_titles_are_text(folder):
    got = AutoTokenizer.from_pretrained(folder)
    ids = TitleTokens(got, ["The </s> of <s>"]).of(0).tolist()
    assert not {got.bos_token_id, got.eos_token_id} & set(ids) and got.decode(ids) == "The </s> of <s>"


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("split", "said"),
    [(None, "does not name the rule"), ("default", "'default'"), ("novel", "'novel'")],
)
def test_an_unknown_rule_for_cutting_text_is_refused(split, said, tokenizer, tmp_path, gguf_writer):
    path = gguf_writer.write(tmp_path / "m.gguf", gguf_writer.build("llama"), tokenizer, split=split)
    error = refused(path, ModelNotFoundError, tmp_path / "out")
    assert said in error.what and "smollm" in error.what and "folder" in error.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.add_rope_scaling_type(w_scaling()), "rope.scaling.type"),
        (lambda w: w.add_expert_count(8), "llama.expert_count is 8"),
        (lambda w: w.add_uint32("llama.of_tomorrow", 1), "llama.of_tomorrow"),
        (lambda w: w.add_rope_dimension_count(4), "4 of the 16 columns"),
        (lambda w: w.add_uint16("split.count", 3), "one of 3 parts"),
        (lambda w: w.add_tensor("blk.0.attn_q.bias", ones(64)), "blk.0.attn_q.bias"),
        (lambda w: w.add_tensor("rope_freqs.weight", 3 * ones(8)), "rope_freqs.weight"),
        (lambda w: w.add_tensor("rope_freqs.weight", ones(5)), "rope_freqs.weight"),
    ],
)
def test_what_is_not_carried_over_is_refused_by_name(change, said, tokenizer, tmp_path, gguf_writer):
    path = gguf_writer.write(tmp_path / "m.gguf", gguf_writer.build("llama"), tokenizer, change=change)
    error = refused(path, ModelNotFoundError, tmp_path / "out")
    assert said in error.what and str(path) in error.what and error.exit_code == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", 10**6),
        ("block_count", 1),
        ("embedding_length", 2**31),
        ("feed_forward_length", 2**31),
        ("attention.head_count", 0),
        ("attention.head_count", 2**31),
        ("attention.head_count_kv", 2**31),
        ("attention.layer_norm_rms_epsilon", float("nan")),
        ("rope.freq_base", float("inf")),
        ("rope.freq_base", 0.0),
        ("context_length", 0),
    ],
)
def test_numbers_that_no_tensor_bears_out_are_refused_before_a_model_is_built(
    key, value, gguf_writer, tokenizer, tmp_path, monkeypatch
):
    def change(w):
        w.kv_data[0][f"llama.{key}"].value = value

    monkeypatch.setattr(gguf, "gguf_model", None)
    path = gguf_writer.write(tmp_path / "m.gguf", gguf_writer.build("llama"), tokenizer, change=change)
    error = refused(path, SasrecllmError, tmp_path / "out")
    assert error.exit_code in (4, 5) and error.remedy and str(path) in error.what


def test_stretched_positions_are_carried_over(gguf_writer, tokenizer, tmp_path):
    """As Llama 3.1 and later stretch them; at once visible in the logits of 40 tokens."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model = gguf_writer.build("llama", rope_parameters=rope, hidden_size=128)
    turns, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config)
    plain = 1 / 10_000 ** (torch.arange(0, 32, 2) / 32)
    factors = (plain / turns).numpy().astype("float32")
    assert factors.max() == pytest.approx(8, rel=1e-5) and factors.min() == pytest.approx(1, rel=1e-5)
    path = gguf_writer.write(
        tmp_path / "m.gguf", model, tokenizer,
        change=lambda w: w.add_tensor("rope_freqs.weight", factors),
    )  # fmt: skip
    convert(str(path), tmp_path / "out")
    got = load_backbone(str(tmp_path / "out")).causal
    torch.testing.assert_close(logits(got), logits(model), rtol=0, atol=1e-4)
    assert got.config.rope_parameters["factor"] == pytest.approx(8, rel=1e-5)


def w_scaling():
    import gguf

    return gguf.RopeScalingType.YARN


def ones(count):
    import numpy as np

    return np.ones(count, dtype=np.float32)


def test_tensors_that_are_missing_or_of_another_shape_are_refused(tokenizer, tmp_path, gguf_writer):
    model = gguf_writer.build("llama")

    def lacking(w):
        add = w.add_tensor
        w.add_tensor = lambda name, *a, **k: (
            None if name == "blk.1.ffn_up.weight" else add(name, *a, **k)
        )

    path = gguf_writer.write(tmp_path / "a.gguf", model, tokenizer, change=lacking)
    assert "up_proj" in refused(path, CheckpointError, tmp_path / "out").what

    def shorter(w):
        add = w.add_tensor
        w.add_tensor = lambda name, tensor, **k: add(
            name, tensor[:32] if "ffn_up" in name else tensor, **k
        )

    path = gguf_writer.write(tmp_path / "b.gguf", model, tokenizer, change=shorter)
    error = refused(path, CheckpointError, tmp_path / "out")
    assert "up_proj" in error.what and "[32, 64]" in error.what and "[96, 64]" in error.what


def test_an_architecture_or_a_part_that_is_not_read_is_refused(tokenizer, tmp_path):
    import gguf

    others = ("mamba", "gemma", "gemma3", "phi2", "phi3", "qwen", "qwen2moe")
    for name, add, said in [
        *((other, lambda w: None, f"{other!r}, of which GGUF files are not read") for other in others),
        ("llama", lambda w: w.add_type("adapter"), "'adapter'"),
    ]:
        w = gguf.GGUFWriter(tmp_path / "m.gguf", name)
        add(w)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        error = refused(tmp_path / "m.gguf", ModelNotFoundError, tmp_path / "out")
        assert said in error.what and error.remedy
        if name in others:
            assert all(family in error.what for family in ARCHITECTURES) and "hub id" in error.remedy


@given(data=st.data())
@settings(max_examples=15)
def test_changed_bytes_end_in_a_folder_or_a_refusal(data, file, tmp_path_factory):
    changed = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(4, len(changed) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("changed")
    (folder / "m.gguf").write_bytes(changed)
    try:
        convert(str(folder / "m.gguf"), folder / "out")
    except SasrecllmError as error:
        assert error.exit_code in (4, 5) and error.remedy
        assert [p.name for p in folder.iterdir()] == ["m.gguf"]
    else:
        assert is_whole(folder / "out")


def test_a_vocabulary_without_its_merges_is_refused(gguf_writer, tokenizer, tmp_path):
    path = gguf_writer.write(
        tmp_path / "m.gguf", gguf_writer.build("llama"), tokenizer,
        change=lambda w: w.kv_data[0].pop("tokenizer.ggml.merges"),
    )  # fmt: skip
    assert "has no merges" in refused(path, ModelNotFoundError, tmp_path / "out").what


def test_a_tokenizer_that_loses_titles_is_refused(file, tmp_path, monkeypatch):
    from sasrecllm.llm import gguf_tokens

    def lossy(tokenizer, described):
        from tokenizers import normalizers

        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
        return tokenizer

    monkeypatch.setattr(gguf_tokens, "mended", lossy)
    error = refused(file, ModelNotFoundError, tmp_path / "out")
    assert "'Toy Story (1995)' becomes 'toy story (1995)'" in error.what


def test_a_transformers_that_is_too_old_is_told_with_the_version_that_is_needed(
    file, tmp_path, monkeypatch
):
    import sys
    import tomllib
    from pathlib import Path

    from sasrecllm.llm.gguf import TRANSFORMERS

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert f"transformers>={TRANSFORMERS}" in project["project"]["optional-dependencies"]["gguf"]
    monkeypatch.setitem(sys.modules, "transformers.integrations.gguf.gguf_tokenizer_mapping", None)
    error = refused(file, EnvironmentRefusal, tmp_path / "out")
    assert f"transformers {TRANSFORMERS} or newer" in error.what and error.exit_code == 3
    assert f"transformers>={TRANSFORMERS}" in error.remedy and not (tmp_path / "out").exists()


def test_without_the_extra_it_is_named(file, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "gguf" else find(n, *a))
    error = refused(file, MissingExtraError, tmp_path / "out")
    assert error.exit_code == 3 and "sasrecllm[gguf]" in error.remedy
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(file.read_bytes()[:1000])  # no package would mend that
    assert refused(broken, CheckpointError, tmp_path / "out").exit_code == 5


# --------------------------------------------------------------------------------- the verb


def test_the_verb_says_what_it_made_and_replaces_only_what_it_made(cli, file, tmp_path):
    out = tmp_path / "models" / "mine"
    assert cli("convert", file, out, "--quiet").strip() == str(out)
    before = (out / "model.safetensors").stat().st_ino
    said = cli("convert", file, out, expect=2)
    assert "is there already" in said and "--force" in said
    assert (out / "model.safetensors").stat().st_ino == before
    cli("convert", file, out, "--force")
    assert is_whole(out) and (out / "model.safetensors").stat().st_ino != before
    assert sorted(p.name for p in out.parent.iterdir()) == ["mine"]


def test_force_deletes_nothing_that_it_did_not_write_and_a_failure_keeps_the_old(cli, file, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert "delete it by hand" in cli("convert", file, mine, "--force", expect=2)
    assert (mine / "thesis.txt").read_text() == "years of work"
    out = tmp_path / "out"
    convert(str(file), out)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(file.read_bytes()[:-100])
    assert "cut short" in cli("convert", broken, out, "--force", expect=5)
    assert is_whole(out)
    (tmp_path / "a-file").write_text("")
    assert "is there already" in cli("convert", file, tmp_path / "a-file", expect=2)


def test_an_empty_folder_may_be_filled(file, tmp_path):
    (tmp_path / "out").mkdir()
    convert(str(file), tmp_path / "out")
    assert is_whole(tmp_path / "out")
