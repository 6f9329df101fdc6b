"""What a language model can do is tried before it is trained: causality, cache, positions, answers."""

import warnings

import numpy as np
import pytest
import torch

from sasrecllm.errors import ConfigError, ModelNotFoundError
from sasrecllm.llm.ability import longest_text, refuse_unable
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.types import Histories

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def configs(vocabulary):
    import transformers as t

    v = {"vocab_size": vocabulary}
    return {
        "gpt2": t.GPT2Config(**v, n_positions=64, n_embd=16, n_layer=2, n_head=2),
        "mistral": t.MistralConfig(**v, **SMALL, num_key_value_heads=2, head_dim=8, sliding_window=40),
        "gemma3": t.Gemma3TextConfig(
            **v, **SMALL, num_key_value_heads=1, head_dim=8, sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
        ),
        "granite": t.GraniteConfig(**v, **SMALL, num_key_value_heads=2, logits_scaling=3.0),
        "mamba": t.MambaConfig(**v, hidden_size=16, num_hidden_layers=2, state_size=4),
        "jamba": t.JambaConfig(
            **v, **SMALL, num_key_value_heads=2, use_mamba_kernels=False, num_experts=2,
            attn_layer_period=2, attn_layer_offset=1,
        ),
        "bert": t.BertConfig(**v, **SMALL),
        "bert decoder": t.BertConfig(**v, **SMALL, is_decoder=True),
        "xlnet": t.XLNetConfig(**v, d_model=16, n_layer=2, n_head=2, d_inner=32),
    }  # fmt: skip


def made(kind, tokenizer):
    import transformers as t

    t.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, about itself
        causal = t.AutoModelForCausalLM.from_config(configs(len(tokenizer))[kind])
    return Backbone(causal, tokenizer).requires_grad_(False).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gpt2", "mistral", "gemma3", "granite", "mamba", "jamba"])
def test_models_that_read_from_left_to_right_pass(kind, dtype, tokenizer):
    refuse_unable(made(kind, tokenizer).to(dtype), kind, 40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bert", "xlnet"])
def test_a_model_that_sees_what_follows_is_refused_before_its_positions_are(kind, dtype, tokenizer):
    with pytest.raises(ModelNotFoundError, match="left to right"):
        refuse_unable(made(kind, tokenizer).to(dtype), kind, 100_000)


def test_a_model_whose_answer_is_not_two_rows_of_its_head_is_refused(tokenizer):
    with pytest.raises(ModelNotFoundError, match="two rows of its head"):
        refuse_unable(made("bert decoder", tokenizer), "x", 64)


def test_numbers_that_are_not_finite_are_refused(tokenizer):
    model = made("gpt2", tokenizer)
    model.causal.transformer.h[0].mlp.c_fc.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelNotFoundError, match="finite"):
        refuse_unable(model, "x", 64)


def test_whatever_a_family_raises_when_it_reads_is_a_refusal(tokenizer, monkeypatch):
    model = made("gpt2", tokenizer)

    def broken(*_, **__):
        raise KeyError("cache_position")

    monkeypatch.setattr(model.causal.transformer, "forward", broken)
    with pytest.raises(ModelNotFoundError, match="KeyError"):
        refuse_unable(model, "x", 64)


@pytest.mark.parametrize(("kind", "longest"), [("gpt2", 64), ("mistral", 40)])
def test_longer_prompts_than_it_reads_are_refused_with_the_number_that_fits(kind, longest, tokenizer):
    model = made(kind, tokenizer)
    with pytest.raises(ConfigError) as caught:
        refuse_unable(model, "a/name", longest + 1)
    assert caught.value.remedy == f"set llm.max_tokens={longest}"
    refuse_unable(model, "a/name", longest)


def test_a_window_of_some_layers_alone_is_no_limit(tokenizer):
    kinds = configs(len(tokenizer))
    assert longest_text(kinds["gemma3"]) == kinds["gemma3"].max_position_embeddings
    assert longest_text(kinds["mamba"]) is None


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tokenizer):
    model = made("gpt2", tokenizer)
    model.causal.resize_token_embeddings(len(tokenizer) - 3)
    with pytest.raises(ModelNotFoundError, match="tokenizer has token ids up to"):
        refuse_unable(model, "x", 64)


@pytest.mark.parametrize("kind", ["mamba", "jamba"])
def test_without_shared_keys_and_values_lists_are_scored_all_the_same(kind, tokenizer, builders):
    from sasrecllm.llm.mapper import build_mapper
    from sasrecllm.llm.model import SoftTokenLLM

    backbone = made(kind, tokenizer)
    assert not backbone.reads_prefixes
    add_lora(backbone, r=2)
    builder = builders("paper-text")
    mapper = build_mapper("linear", width=2, llm_width=16)
    model = SoftTokenLLM(backbone, mapper, builder.yes_id, builder.no_id).eval()
    scorer = LLMScorer("llm", model, builder)
    items, ones = np.array([0, 1, 2]), np.ones(3, dtype=np.int8)
    histories = Histories(np.array([0]), items, ones, items, np.array([0, 3]), np.array([9]))
    together = scorer.score(histories, np.array([[3, 4, 5]]))[0]
    alone = [scorer.score(histories, np.array([[item]]))[0, 0] for item in (3, 4, 5)]
    np.testing.assert_allclose(together, alone, atol=1e-4)  # other batch sizes round differently
    model.learn({"adapter"})
    prompts = builder.build(histories.take(np.zeros(3, dtype=np.int64)), np.array([3, 4, 5]))
    model(prompts).sum().backward()
    assert any(p.grad is not None for p in backbone.adapter_parameters())


def test_trying_the_cache_draws_no_random_number_and_leaves_the_modes(tokenizer):
    model = made("gpt2", tokenizer)
    add_lora(model, r=2, dropout=0.5)
    model.adapter_mode(True)
    before, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    assert model.reads_prefixes
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in model.modules()] == modes and any(modes)
