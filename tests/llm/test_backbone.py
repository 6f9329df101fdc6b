"""Any causal language model in Hugging Face format, and refusals within seconds."""

import time

import pytest
import torch

from sasrecllm.errors import CheckpointError, ConfigError, ModelNotFoundError
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.digest import weights_digest
from sasrecllm.llm.loading import build_llama, load_backbone, save_backbone
from sasrecllm.llm.mapper import build_mapper


def family(kind, vocabulary):
    import transformers as t

    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "gemma2":  # bends its logits after the head
        config = t.Gemma2Config(
            vocab_size=vocabulary, hidden_size=16, num_key_value_heads=1, head_dim=8,
            final_logit_softcapping=0.1, **small,
        )  # fmt: skip
    elif kind == "gpt2":
        config = t.GPT2Config(vocab_size=vocabulary, n_embd=16, n_layer=1, n_head=2)
    elif kind == "qwen2":
        config = t.Qwen2Config(vocab_size=vocabulary, hidden_size=16, num_key_value_heads=1, **small)
    else:
        config = t.GPTNeoXConfig(vocab_size=vocabulary, hidden_size=16, **small)
    return t.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "gpt_neox", "gemma2"])
def test_other_families_go_through_the_same_door(kind, tokenizer, tmp_path):
    save_backbone(Backbone(family(kind, len(tokenizer)), tokenizer), tmp_path)
    backbone = load_backbone(str(tmp_path))
    add_lora(backbone, r=2)
    for parameter in backbone.adapter_parameters():
        parameter.requires_grad_(True)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    hidden = backbone.hidden_last(backbone.embed(ids), torch.tensor([4, 2]))
    score = backbone.answer_logits(hidden, 11, 12)
    full = backbone.causal(input_ids=ids[1:, :2]).logits[0, -1]
    # A prompt alone and one padded beside another: single precision rounds otherwise.
    assert score[1].item() == pytest.approx((full[11] - full[12]).item(), abs=1e-5)
    score.sum().backward()
    assert sum(t.numel() for t in backbone.adapter_tensors().values()) > 0


@pytest.mark.parametrize(
    ("kind", "factor"), [("gpt2", 1), ("qwen2", 1), ("gpt_neox", 1), ("gemma2", 4)]
)  # Gemma multiplies by the root of its width, inside of the layer; here that is 16
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_soft_token_must_be_as_loud_as_the_words_that_come_out(kind, factor, dtype, tokenizer):
    backbone = Backbone(family(kind, len(tokenizer)).to(dtype), tokenizer)
    stored = float(backbone.causal.get_input_embeddings().weight.detach().float().norm(dim=1).mean())
    assert backbone.embedding_norm == factor * stored  # powers of two: to the last bit
    words = backbone.embed(torch.arange(len(tokenizer))[None])[0].detach().float()
    assert backbone.embedding_norm == pytest.approx(float(words.norm(dim=1).mean()), rel=1e-5)


def test_a_saved_folder_is_an_ordinary_hugging_face_model(tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    built = build_llama(tokenizer, width=16, layers=1, heads=2, positions=64)
    save_backbone(built, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(again(ids).logits, built.causal(ids).logits)
    text = "The Silent Harbour 🎬"
    assert AutoTokenizer.from_pretrained(tmp_path).decode(tokenizer(text)["input_ids"]) == text
    assert weights_digest(load_backbone(str(tmp_path)).causal) == built.digest


@pytest.mark.parametrize("name", ["nobody/nothing-7b", "./absent", "/absent/folder", "gpt-absent"])
def test_a_model_that_is_not_there_is_refused_within_seconds(name, times):
    started = time.monotonic()
    with pytest.raises(ModelNotFoundError) as refused:
        load_backbone(name)
    assert refused.value.exit_code == 4 and name in str(refused.value)
    assert time.monotonic() - started < times(float("inf"), 20)


def test_a_folder_with_pickled_weights_only_is_refused(tokenizer, tmp_path):
    save_backbone(build_llama(tokenizer, width=16, layers=1, heads=2, positions=64), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match="safetensors"):
        load_backbone(str(tmp_path))


def test_adapter_of_another_base_or_rank_is_refused(backbone, tokenizer):
    other = build_llama(tokenizer, width=32, layers=2, heads=2, positions=256)
    add_lora(other, r=2, alpha=4)
    with pytest.raises(CheckpointError, match="does not fit this language model"):
        backbone.load_adapter(other.adapter_tensors(), other.adapter_config)
    with pytest.raises(CheckpointError, match="LoRA r = 4"):
        backbone.load_adapter(backbone.adapter_tensors(), backbone.adapter_config | {"r": 4})


def test_an_adapter_that_is_loaded_changes_what_is_said_and_thaws_nothing(backbone):
    ids = torch.tensor([[5, 6, 7]])
    plain = backbone.hidden(backbone.embed(ids))
    moved = {k: v + 0.1 for k, v in backbone.adapter_tensors().items()}
    backbone.load_adapter(moved, backbone.adapter_config)
    adapted = backbone.hidden(backbone.embed(ids))
    assert not torch.allclose(plain, adapted)
    assert not any(p.requires_grad for p in backbone.parameters())


def test_unknown_lora_targets_name_the_layers_there_are(tokenizer):
    with pytest.raises(ConfigError, match="q_proj"):
        add_lora(build_llama(tokenizer, width=16, heads=2), targets=["attention"])


def test_the_papers_trainable_parameters_come_out(tokenizer):
    """LoRA r 8 on q_proj and v_proj of TinyLlama-1.1B, and the mapper 64 -> 320 -> 2048."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
        num_attention_heads=32, num_key_value_heads=4,
    )  # fmt: skip
    with torch.device("meta"):
        causal = LlamaForCausalLM(config)
        from peft import LoraConfig, get_peft_model

        adapted = get_peft_model(causal, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    lora = sum(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)
    mapper = sum(p.numel() for p in build_mapper("mlp", width=64, llm_width=2048).parameters())
    assert (lora, mapper, lora + mapper) == (1_126_400, 678_208, 1_804_608)


def test_nf4_runs_forward_and_backward_on_a_cpu(tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes", reason="the quant extra is not installed")
    save_backbone(build_llama(tokenizer, width=64, layers=1, heads=2, positions=64), tmp_path)
    backbone = load_backbone(str(tmp_path), quantize="nf4", dtype="bf16")
    add_lora(backbone, r=2)
    for parameter in backbone.adapter_parameters():
        parameter.requires_grad_(True)
    hidden = backbone.hidden_last(backbone.embed(torch.tensor([[5, 6, 7]])), torch.tensor([3]))
    score = backbone.answer_logits(hidden, 11, 12)
    score.sum().backward()
    assert torch.isfinite(score).all()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.adapter_parameters())
    kinds = {type(m).__name__ for m in backbone.modules()}
    assert "Linear4bit" in kinds


def test_nf4_still_learns_after_a_pass_without_gradients(tokenizer, tmp_path):
    """bitsandbytes packs weights for some CPUs in such a pass, and packed ones stop every gradient."""
    pytest.importorskip("bitsandbytes", reason="the quant extra is not installed")
    save_backbone(build_llama(tokenizer, width=64, layers=2, heads=2, positions=64), tmp_path)
    backbone = load_backbone(str(tmp_path), quantize="nf4", dtype="bf16")
    add_lora(backbone, r=2, dropout=0.0)
    for parameter in backbone.adapter_parameters():
        parameter.requires_grad_(True)

    def gradients():
        backbone.zero_grad()
        hidden = backbone.hidden_last(backbone.embed(torch.tensor([[5, 6, 7]])), torch.tensor([3]))
        backbone.answer_logits(hidden, 11, 12).sum().backward()
        return [p.grad.clone() for n, p in backbone.named_parameters() if "lora_B" in n]

    first = gradients()
    with torch.no_grad():
        backbone.hidden_last(backbone.embed(torch.tensor([[5, 6, 7]])), torch.tensor([3]))
    assert all(g.abs().sum() > 0 for g in first)
    for before, after in zip(first, gradients(), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-3)  # bf16: the pass is the same


def test_damaged_or_incomplete_weights_are_refused(tokenizer, tmp_path):
    from safetensors.torch import load_file, save_file

    save_backbone(build_llama(tokenizer, width=16, layers=1, heads=2, positions=64), tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    lost = next(k for k in tensors if "q_proj" in k)
    rest = {k: v.clone() for k, v in tensors.items() if k != lost}
    save_file(rest, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="q_proj"):
        load_backbone(str(tmp_path))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_backbone(str(tmp_path))


def test_code_of_a_repository_is_never_run_nor_asked_about(tokenizer, tmp_path, monkeypatch):
    import json

    save_backbone(build_llama(tokenizer, width=16, layers=1, heads=2, positions=64), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelNotFoundError, match="never run"):
        load_backbone(str(tmp_path))
    assert not (tmp_path / "ran").exists()
