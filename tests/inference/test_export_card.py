"""The Python of a card, on tiny models: the scores are those of the run's own arithmetic."""

import numpy as np
import pytest
import torch

from sasrecllm.checkpoint import write_json
from sasrecllm.inference.export_card import card
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.loading import QUANTIZATIONS, build_llama, load_backbone, save_backbone
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.portable import portable
from sasrecllm.prompts.template import load_template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.types import Histories

TITLES = [f"The {a} {b}" for a in ("Silent", "Golden", "Last") for b in ("Harbour", "Tide", "Reef")]
WORDS = {"item": "movie", "items": "movies", "consumed": "watched"}
TOKENIZER = train_tokenizer([*TITLES, "Liked: Next: Answer: Yes No"] * 3, 320)
SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}


def family(kind):
    """A tiny model of a family that bends, scales or shifts its logits after the head."""
    import transformers as t

    if kind == "gptj":  # its head has a bias
        config = t.GPTJConfig(vocab_size=len(TOKENIZER), n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    else:
        many = {"vocab_size": len(TOKENIZER), "intermediate_size": 32, "num_key_value_heads": 2}
        config = {
            "gemma2": lambda: t.Gemma2Config(**SMALL, **many, head_dim=8, final_logit_softcapping=0.1),
            "cohere": lambda: t.CohereConfig(**SMALL, **many, logit_scale=4.0, eos_token_id=2),
            "granite": lambda: t.GraniteConfig(**SMALL, **many, logits_scaling=3.0),
        }[kind]()
    causal = t.AutoModelForCausalLM.from_config(config)
    if kind == "gptj":
        torch.nn.init.normal_(causal.lm_head.bias)
    return Backbone(causal, TOKENIZER)


def exported(backbone, place, form, quantise=None, dtype="float32"):
    """``backbone``, its adapter in ``place``/out or merged there, and the functions of the card."""
    template = load_template("short-text")
    titles = TitleTokens(TOKENIZER, TITLES, 12, template.lead)
    builder = PromptBuilder(template, TOKENIZER, titles, WORDS)
    out = place / "out"
    if form == "adapter":
        backbone.save_adapter(out, str(place / "base"))
    else:
        save_backbone(backbone, out)
    prompt = portable(builder) | {
        "row": "text", "run": "0", "base": str(place / "base"), "dtype": dtype,
        "quantization": QUANTIZATIONS.get(quantise), "calibration": {"slope": 1.0, "intercept": 0.0},
    }  # fmt: skip
    write_json(out / "prompt.json", prompt)
    code = card(form, prompt, "tiny", "text").split("```python\n")[1].split("```")[0]
    space = {}
    exec(code.replace('folder = "."', f"folder = {str(out)!r}"), space)
    return builder, space


def scores(backbone, builder, cards):
    """Of every title after a short history: by the card, and by ``backbone`` as a run asks it."""
    history = Histories(*(np.array(a) for a in ([0], [1, 5], [1, 1], [0, 1], [0, 2], [2])))
    batch = builder.build(history.take(np.zeros(len(TITLES), dtype=np.int64)), np.arange(len(TITLES)))
    shown = [(TITLES[i], True) for i in (1, 5)]
    got = [cards["score"](shown, title) for title in TITLES]
    wanted = []
    with torch.no_grad():
        for ids, length in zip(batch.ids_BT, batch.lengths_B, strict=True):
            embeds = backbone.embed(torch.from_numpy(ids[None, :length]))
            state = backbone.hidden(embeds)[:, -1]
            wanted.append(float(backbone.answer_logits(state, builder.yes_id, builder.no_id)))
    return np.array(got), np.array(wanted)


def test_in_half_precision_the_card_tells_apart_what_the_run_does(tmp_path):
    built = build_llama(TOKENIZER, width=32, layers=1, heads=2, positions=256)
    with torch.no_grad():  # logits of ten and more, as pretrained models have them
        built.causal.model.norm.weight.mul_(12)
    built.causal.to(torch.bfloat16)
    builder, cards = exported(built, tmp_path, "merged", dtype="bfloat16")
    same = Backbone(cards["causal"], TOKENIZER)  # the same layers, so nothing is rounded otherwise
    got, wanted = scores(same, builder, cards)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)  # single precision
    coarse = torch.from_numpy(got).bfloat16().double().numpy()
    assert np.abs(coarse - got).max() > 1e-3, "half precision would show, or this tells nothing"


@pytest.mark.parametrize("kind", ["gemma2", "cohere", "granite", "gptj"])
def test_what_a_family_does_after_the_head_the_card_does_too(kind, tmp_path):
    backbone = family(kind).eval()
    builder, cards = exported(backbone, tmp_path, "merged")
    got, wanted = scores(backbone, builder, cards)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert np.ptp(wanted) > 1e-3, "answers differ, or this tells nothing"


def test_a_card_of_four_bits_loads_four_bits(tmp_path):
    pytest.importorskip("bitsandbytes", reason="the quant extra is not installed")
    save_backbone(build_llama(TOKENIZER, width=64, layers=1, heads=2), tmp_path / "base")
    backbone = load_backbone(str(tmp_path / "base"), quantize="nf4")
    add_lora(backbone, r=2)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.normal_(std=0.1)
    builder, cards = exported(backbone.eval(), tmp_path, "adapter", "nf4")
    got, wanted = scores(backbone, builder, cards)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=0.05)  # four bits are multiplied in bf16
    whole = load_backbone(str(tmp_path / "base"))
    add_lora(whole, r=2)
    whole.load_adapter(backbone.adapter_tensors(), backbone.adapter_config)
    unquantised = scores(whole.eval(), builder, cards)[1]
    assert np.abs(unquantised - wanted).max() > 0.2, "four bits show, or this tells nothing"
