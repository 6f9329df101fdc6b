"""Every LoRA target is asked: unknown names, the head, and each family's own."""

import warnings

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.loading import build_llama
from sasrecllm.llm.targets import LORA_TARGETS, linear_layers


@pytest.fixture
def llama(tokenizer):
    return build_llama(tokenizer, width=16, layers=2, heads=2)


@pytest.mark.parametrize(
    ("targets", "culprit", "hint"),
    [
        (["q_proj", "v_porj"], "v_porj", "did you mean 'v_proj'"),
        (["q_proj", "lm_head"], "lm_head", "head"),
        (["lm_head"], "lm_head", "head"),
        (["embed_tokens", "q_proj"], "embed_tokens", "linear layers are"),
        (["self_attn"], "self_attn", "linear layers are"),
        (["input_layernorm"], "input_layernorm", "linear layers are"),
        (["proj"], "proj", "linear layers are"),
        ([""], "", "linear layers are"),
        (["layers.7.self_attn.q_proj"], "layers.7.self_attn.q_proj", "linear layers are"),
    ],
)
def test_a_target_that_lora_cannot_go_to_is_refused_by_name(llama, targets, culprit, hint):
    with pytest.raises(ConfigError) as caught:
        add_lora(llama, targets=targets)
    assert repr(culprit) in caught.value.what and hint in caught.value.what
    assert "lm_head" not in caught.value.remedy and "q_proj" in caught.value.remedy


def test_no_targets_at_all_are_refused(llama):
    with pytest.raises(ConfigError, match="empty"):
        add_lora(llama, targets=[])


def test_all_linear_layers_are_every_one_but_the_head_in_any_family(llama, tokenizer):
    import transformers as t

    layers = linear_layers(llama.causal)
    add_lora(llama, r=2, targets=["all-linear"])
    assert llama.adapter_config["targets"] == layers
    assert len(llama.adapter_config["targets"]) == 7
    gpt2 = Backbone(
        t.GPT2LMHeadModel(t.GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2)),
        tokenizer,
    )
    add_lora(gpt2, r=2, targets=["all-linear"])
    assert gpt2.adapter_config["targets"] == ["c_attn", "c_fc", "c_proj"]
    with pytest.raises(ConfigError, match="'all-linear'"):
        add_lora(build_llama(tokenizer, width=16, layers=1, heads=2), targets=["all-linear", "q_proj"])


def test_layers_may_be_named_by_their_end_or_one_by_one(llama):
    add_lora(llama, r=2, targets=["layers.1.self_attn.q_proj", "mlp.up_proj"])
    names = " ".join(llama.adapter_tensors())
    assert "layers.1.self_attn.q_proj" in names and "layers.0.self_attn.q_proj" not in names
    assert "layers.0.mlp.up_proj" in names


def test_a_head_by_another_name_is_refused_too(tokenizer):
    import transformers as t

    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    neox = t.GPTNeoXForCausalLM(t.GPTNeoXConfig(vocab_size=len(tokenizer), hidden_size=16, **small))
    assert "embed_out" not in linear_layers(neox) and "query_key_value" in linear_layers(neox)
    name = next(n for n, m in neox.named_modules() if m is neox.get_output_embeddings())
    with pytest.raises(ConfigError, match="head"):
        add_lora(Backbone(neox, tokenizer), targets=["query_key_value", name])


def families(vocabulary):
    import transformers as t

    v = {"vocab_size": vocabulary}
    narrow = {"n_embd": 16, "n_layer": 1, "n_head": 2}
    small = {"num_hidden_layers": 1, "num_attention_heads": 2}
    state = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    wide = {"hidden_size": 16, "intermediate_size": 32, **small}
    return [
        t.GPT2Config(**v, **narrow),
        t.GPTBigCodeConfig(**v, **narrow),
        t.OpenAIGPTConfig(**v, **narrow),
        t.GPTNeoXConfig(**v, **wide),
        t.BloomConfig(**v, hidden_size=16, n_layer=1, n_head=2),
        t.FalconConfig(**v, hidden_size=16, **small),
        t.PersimmonConfig(**v, **wide),
        t.Phi3Config(**v, **wide, pad_token_id=0),
        t.CodeGenConfig(**v, n_embd=16, n_layer=1, n_head=4, rotary_dim=4, n_ctx=64, n_positions=64),
        t.MptConfig(**v, d_model=16, n_layers=1, n_heads=2),
        t.MambaConfig(**v, **state),
        t.Mamba2Config(**v, **state, num_heads=4, head_dim=8, n_groups=1),
        t.FalconMambaConfig(**v, **state),
    ]


def test_every_family_of_the_table_takes_its_own_targets(tokenizer):
    import transformers as t

    known = {config.model_type: config for config in families(len(tokenizer))}
    assert known.keys() == LORA_TARGETS.keys()
    for family, config in known.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=FutureWarning)  # transformers', about itself
            backbone = Backbone(t.AutoModelForCausalLM.from_config(config), tokenizer)
            add_lora(backbone, r=2)
        assert backbone.adapter_config["targets"] == sorted(LORA_TARGETS[family]), family
        assert len(list(backbone.adapter_parameters())) >= 2
        every = Backbone(t.AutoModelForCausalLM.from_config(config), tokenizer)
        add_lora(every, r=2, targets=["all-linear"])  # peft refuses some layers of Mamba's
        assert set(LORA_TARGETS[family]) <= set(every.adapter_config["targets"]), family
