"""Which layers of a language model LoRA goes to."""

from __future__ import annotations

from typing import Any

from torch import nn

from sasrecllm.errors import ConfigError, did_you_mean

LORA_TARGETS: dict[str, list[str]] = {
    "gpt2": ["c_attn"],
    "gpt_bigcode": ["c_attn"],
    "openai-gpt": ["c_attn"],
    "gpt_neox": ["query_key_value"],
    "bloom": ["query_key_value"],
    "falcon": ["query_key_value"],
    "persimmon": ["query_key_value"],
    "phi3": ["qkv_proj"],
    "codegen": ["qkv_proj"],
    "mpt": ["Wqkv"],
    "mamba": ["in_proj"],
    "mamba2": ["in_proj"],
    "falcon_mamba": ["in_proj"],
}
"""Families whose attention has other names than ``q_proj`` and ``v_proj`` (the paper's choice)."""

NOT_BY_PEFT = dict.fromkeys(
    ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"), ("out_proj", "conv1d")
)
"""Layers that peft refuses in a family: their own code multiplies by the matrix, past an adapter."""
DEFAULT_TARGETS = ["q_proj", "v_proj"]
EVERY = "all-linear"
"""Every linear layer that an adapter can go to, without the head; peft's own word."""


def lora_targets(causal: Any, targets: list[str] | None) -> list[str]:
    """The layers that LoRA goes to: ``targets`` where given, else the family's own.

    Raises:
        ConfigError: one of them is no linear layer of the model, or is its head.
    """
    family = causal.config.model_type
    layers = linear_layers(causal)
    if targets is not None and not targets:
        raise ConfigError(
            "llm.lora.targets is empty",
            f"leave it out for the family's own, or name some of {', '.join(layers)}",
        )
    if targets == [EVERY]:
        return layers
    head = next((n for n, m in causal.named_modules() if m is causal.get_output_embeddings()), "")
    names = [name for name, module in causal.named_modules() if _is_linear(module) and name != head]
    for target in targets or LORA_TARGETS.get(family, DEFAULT_TARGETS):
        if any(_ends(name, target) for name in names):
            continue
        why = "the model's linear layers are " + ", ".join(layers) + did_you_mean(target, layers)
        if _ends(head, target):
            why = "that is the head, whose two answer rows are read past an adapter"
        raise ConfigError(
            f"llm.lora.targets has {target!r}, which no layer of the {family} model can be: {why}",
            f"set llm.lora.targets to some of {', '.join(layers)}",
        )
    return list(targets or LORA_TARGETS.get(family, DEFAULT_TARGETS))


def linear_layers(causal: Any) -> list[str]:
    """Names of the linear layers that LoRA can go to, without the head."""
    head = causal.get_output_embeddings()
    found = ((n, m) for n, m in causal.named_modules() if _is_linear(m) and m is not head)
    names = {name.rsplit(".", 1)[-1] for name, _ in found}
    return sorted(names.difference(NOT_BY_PEFT.get(causal.config.model_type, ())))


def _is_linear(module: nn.Module) -> bool:
    """Whether it multiplies by a matrix: a linear layer, quantised or not, or GPT-2's kind of one."""
    return hasattr(module, "in_features") or _is_gpt2s(module)


def _is_gpt2s(module: nn.Module) -> bool:
    """GPT-2's linear layer, whose matrix lies the other way round."""
    return hasattr(module, "nf") and hasattr(module, "nx")


def is_transposed(causal: Any, targets: list[str]) -> bool:
    """Whether the layers that ``targets`` name hold their matrices as [in, out]."""
    named = (m for n, m in causal.named_modules() if any(_ends(n, t) for t in targets))
    return any(map(_is_gpt2s, named))


def _ends(name: str, target: str) -> bool:
    """peft's own rule of what a target names."""
    return bool(name) and (name == target or name.endswith("." + target))
