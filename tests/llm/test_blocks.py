"""Blocks by steps of our own give what the library's operations give, forward and back."""

import numpy as np
import pytest
import torch

from sasrecllm.llm.backbone import LAST_BLOCK, Backbone, add_lora
from sasrecllm.llm.blocks import ATTENTION
from sasrecllm.llm.loading import load_backbone, save_backbone, width_of
from sasrecllm.ops.draws import Rows, of_rows

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [9, 10, 11, 12, 0, 0], [5, 6, 7, 8, 13, 0]])
LENGTHS = torch.tensor([6, 4, 5])
CLOSE = {"fp32": 1e-5, "bf16": 0.05}
"""As a share of the largest gradient: rounding of 2⁻²⁴ and 2⁻⁹ at each of some hundred steps."""


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A Llama whose queries share keys and values in threes, in fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama")
    save_backbone(Backbone(LlamaForCausalLM(config), tokenizer), path)
    return str(path)


def loaded(folder, dtype="fp32", dropout=0.0):
    backbone = load_backbone(folder, dtype=dtype)
    add_lora(backbone, r=3, alpha=6, dropout=dropout, targets=TARGETS)
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.adapter_parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        parameter.requires_grad_(True)
    return backbone


def by_the_library(backbone):
    """The same model with every layer's own ``forward``."""
    for module in backbone.modules():
        vars(module).pop("forward", None)
    backbone.causal.set_attn_implementation("sdpa")
    return backbone


def learnt(backbone, seed=0, rows=None):
    """Scores of three prompts, and every gradient; ``rows``: what they are of a larger batch."""
    torch.manual_seed(seed)
    backbone.adapter_mode(True)
    with of_rows(rows):
        hidden = backbone.hidden_last(backbone.embed(IDS), LENGTHS)
    scores = backbone.answer_logits(hidden, 11, 12)
    (scores * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    return scores.detach(), [p.grad for p in backbone.adapter_parameters()]


def assert_near(got, wanted, allowed):
    scale = max(float(g.abs().max()) for g in wanted[1])
    for mine, theirs in zip(got[1], wanted[1], strict=True):
        assert mine.dtype == theirs.dtype == torch.float32
        assert (mine - theirs).abs().max() <= allowed * scale
    assert (got[0] - wanted[0]).abs().max() <= allowed * wanted[0].abs().max()


@pytest.mark.parametrize("dtype", CLOSE)
def test_scores_and_gradients_are_those_of_the_library_in_single_precision(folder, dtype):
    wanted = learnt(by_the_library(loaded(folder)))
    mine = loaded(folder, dtype)
    assert (mine.causal.config._attn_implementation == ATTENTION) == (dtype == "bf16")
    assert_near(learnt(mine), wanted, CLOSE[dtype])


def test_half_precision_is_no_further_from_the_truth_than_the_librarys(folder):
    truth = torch.cat([g.flatten() for g in learnt(by_the_library(loaded(folder)))[1]])
    ways = (loaded(folder, "bf16"), by_the_library(loaded(folder, "bf16")))
    mine, theirs = (torch.cat([g.flatten() for g in learnt(way)[1]]) for way in ways)
    assert (mine - truth).norm() <= 2 * (theirs - truth).norm()


def test_what_is_read_once_and_continued_is_what_is_read_whole(folder):
    """Masks with keys and values from before, through our attention."""
    assert loaded(folder, "bf16").eval().reads_prefixes


def test_a_score_in_half_precision_is_not_rounded_to_it(folder):
    backbone = loaded(folder, "bf16")
    with torch.no_grad():
        scores = backbone.answer_logits(backbone.hidden_last(backbone.embed(IDS), LENGTHS), 11, 12)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def test_dropout_is_on_in_training_alone(folder):
    backbone = loaded(folder, dropout=0.5)
    with torch.no_grad():
        backbone.eval()
        calm = [backbone.hidden_last(backbone.embed(IDS), LENGTHS) for _ in range(2)]
        backbone.adapter_mode(True)
        wild = [backbone.hidden_last(backbone.embed(IDS), LENGTHS) for _ in range(2)]
    assert torch.equal(*calm) and not torch.equal(*wild)


@pytest.mark.parametrize("dtype", CLOSE)
def test_blocks_that_are_computed_again_keep_less_and_learn_the_same(folder, dtype):
    """Dropout too: what is computed again drops the same."""
    plain, saving = loaded(folder, dtype, dropout=0.3), loaded(folder, dtype, dropout=0.3)
    saving.recompute_blocks()
    kept = []
    found = []
    for backbone in (plain, saving):
        held = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: (held.setdefault(t.data_ptr(), t), t)[1], lambda t: t
        ):
            found.append(learnt(backbone, seed=5))
        kept.append(sum(t.nbytes for t in held.values()))
    assert_near(found[1], found[0], 1e-6)
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize("way", [lambda mine: mine, by_the_library])  # the library's is a GPU's
def test_blocks_of_a_shared_batch_drop_the_same_when_they_are_computed_again(folder, way):
    """The gradient comes when the share of the batch is no longer set."""
    plain, saving = (way(loaded(folder, dropout=0.3)) for _ in range(2))
    saving.recompute_blocks()
    rows = Rows(7, np.array([1, 3, 4]))
    wanted = learnt(plain, seed=5, rows=rows)
    assert_near(learnt(saving, seed=5, rows=rows), wanted, 1e-6)
    alone = learnt(way(loaded(folder, dropout=0.3)), seed=5)
    assert (alone[0] - wanted[0]).abs().max() > 0.01, "else its rows draw nothing of their own"


def test_the_adapter_is_still_peft_s_to_merge_and_to_switch_off(folder):
    backbone = loaded(folder)
    with torch.no_grad():
        adapted = backbone.hidden_last(backbone.embed(IDS), LENGTHS)
        with backbone._adapter().disable_adapter():
            bare = backbone.hidden_last(backbone.embed(IDS), LENGTHS)
        backbone.merge_adapter()
        merged = backbone.hidden_last(backbone.embed(IDS), LENGTHS)
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert (adapted - bare).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["gemma2", "gpt_neox"])
def test_norms_of_another_kind_stay_the_librarys(kind, tokenizer, tmp_path):
    import transformers as t

    small = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = {"gemma2": t.Gemma2Config, "gpt_neox": t.GPTNeoXConfig}[kind]
    config = made(vocab_size=len(tokenizer), hidden_size=16, **small)
    save_backbone(Backbone(t.AutoModelForCausalLM.from_config(config), tokenizer), tmp_path)
    backbone = load_backbone(str(tmp_path), dtype="bf16")
    assert not any("forward" in vars(m) for m in backbone.modules())
    ours = backbone.causal.config._attn_implementation == ATTENTION
    assert ours == (kind in LAST_BLOCK)


def test_a_models_width_is_told_without_its_weights(folder):
    assert width_of(folder) == 24
