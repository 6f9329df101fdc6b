"""What a recipe for a real language model costs on one GPU, computed (not measured).

    python benchmarks/llm_cost.py configs/llm/*.yaml configs/paper/ml-1m.yaml

A recipe whose model has no shape below, because it is run on a CPU, is passed over and named.

Floating-point operations a token: 2 N forward and 2 N backward (gradients flow through the frozen
weights but not into them; Kaplan et al. 2020, section 2.1, less the weight gradients), N the
parameters without embeddings.  Scoring needs 2 N.  Hours assume 40 % of 989 TFLOP/s, the dense bf16
rate that the maker states for H100 and H200; NF4 is computed in bf16 and pays for unpacking besides.
Memory: weights, plus bf16 activations of about 34 bytes per token, layer and unit of width at the
longest prompt (Korthikanti et al. 2022, eq. 2, without attention scores).  Prompt lengths are those of
the ML-1M split under a tokenizer of 4,000 merges; pretrained tokenizers need fewer tokens.  Trained
parameters are those of a mapper of vectors alone: one that reads the encoder's logit too, which a run
chooses where the recipe does not say, has as many more as its hidden layer has units.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sasrecllm.config import load_config
from sasrecllm.stages.strategies import stages_of

ROWS = {"train": 33_891, "valid": 10_401, "test": 7_331}
TOKENS = {"text": (189, 272), "soft": (238, 321)}  # mean, longest
RATE = 0.4 * 989e12

# Shapes as the models' own config.json gives them; written here because nothing is downloaded.
SHAPES: dict[str, dict[str, Any]] = {
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": dict(
        model_type="llama", vocab_size=32000, hidden_size=2048, intermediate_size=5632,
        num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
        tie_word_embeddings=False,
    ),
    "Qwen/Qwen3-0.6B": dict(
        model_type="qwen3", vocab_size=151936, hidden_size=1024, intermediate_size=3072,
        num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
        tie_word_embeddings=True,
    ),
    "Qwen/Qwen3-8B": dict(
        model_type="qwen3", vocab_size=151936, hidden_size=4096, intermediate_size=12288,
        num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        tie_word_embeddings=False,
    ),
}  # fmt: skip


def cost(path: Path) -> str:
    """One line of the table for one recipe."""
    config = load_config(path)
    shape = dict(SHAPES[config.llm.backbone])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(shape.pop("model_type"), **shape))
    every = sum(p.numel() for p in model.parameters())
    embedded = model.get_input_embeddings().weight.numel()
    core = every - embedded * (1 if shape["tie_word_embeddings"] else 2)
    lora = sum(
        config.llm.lora.r * sum(m.weight.shape)
        for name, m in model.named_modules()
        if name.rpartition(".")[2] in (config.llm.lora.targets or ["q_proj", "v_proj"])
    )
    c = config.mapper
    width, out = config.encoder.width, shape["hidden_size"] * c.tokens
    mapper = width * c.hidden + c.hidden + c.hidden * out + out
    operations = 0.0
    for stage in stages_of(config.strategy, fusion=False):
        if stage.kind.name == "answer":
            mean = TOKENS[stage.prompt][0]
            loop = config.llm.loop
            checks = loop.epochs * loop.evals_per_epoch + 1
            operations += 4 * core * mean * ROWS["train"] * loop.epochs
            operations += 2 * core * mean * (ROWS["valid"] * checks + ROWS["test"])
    weight_bytes = core * 0.55 + embedded * 4 if config.llm.quantize == "nf4" else every * 2
    longest = max(v[1] for v in TOKENS.values())
    layers, hidden = shape["num_hidden_layers"], shape["hidden_size"]
    activation = 34 * config.llm.loop.batch_size * longest * layers * hidden
    return (
        f"| {path} | {every / 1e9:.2f} B | {lora + mapper:,} | {operations / 1e15:.0f} |"
        f" {operations / RATE / 3600:.2f} | {(weight_bytes + activation) / 2**30:.1f} |"
    )


def main() -> None:
    """Print the table."""
    print("| recipe | parameters | trained (LoRA + mapper) | PFLOP | hours | GiB |")
    print("|---|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:]):
        if load_config(path).llm.backbone in SHAPES:
            print(cost(path))
        else:
            print(f"{path}: not on a GPU", file=sys.stderr)


if __name__ == "__main__":
    main()
