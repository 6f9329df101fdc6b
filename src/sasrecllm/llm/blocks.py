"""What a language model's blocks are computed by, where not by the library's own operations.

On a CPU those of LoRA, and in half precision of attention and norms, take longer than the products;
on a GPU those of LoRA and norms keep copies in single precision.
The model stays the library's: a layer's ``forward`` is another, with the same result up to rounding.
Wherever something is out of the ordinary the library's own is called.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sasrecllm.ops.adapted_linear import adapted_linear
from sasrecllm.ops.draws import Rows, current_rows, of_rows
from sasrecllm.ops.grouped_attention import fits, grouped_attention
from sasrecllm.ops.root_mean_square import rms_norm

ATTENTION = "sasrecllm"
"""The name that our attention has among transformers' own."""
SPECIAL = ("softcap", "position_bias", "is_causal", "cache", "s_aux")
"""Arguments of attention functions that ours does not know."""


def lora_by_one_step(causal: nn.Module) -> None:
    """Let peft's adapted layers, where they are ordinary ones, go through :func:`adapted_linear`."""
    for module in causal.modules():
        base = getattr(module, "base_layer", None)
        if type(base) is nn.Linear and hasattr(module, "lora_A"):
            module.forward = partial(_adapted, module, module.forward)


def _adapted(layer: Any, plain: Any, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    names, device = layer.active_adapters, values.device.type
    ordinary = len(names) == 1 and not (args or kwargs or layer.disable_adapters or layer.merged)
    ordinary = ordinary and names[0] not in layer.lora_variant and not torch.is_autocast_enabled(device)
    dropout = layer.lora_dropout[names[0]] if ordinary else None
    p = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    if not ordinary or (p and device != "cpu"):  # what is dropped is drawn on a CPU
        result: Tensor = plain(values, *args, **kwargs)
        return result
    name, base = names[0], layer.base_layer
    return adapted_linear(
        values,
        base.weight,
        base.bias,
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
        p,
    )


def let_gradients_through(causal: Any) -> None:
    """Keep bitsandbytes from packing its 4-bit weights on some CPUs: no gradient passes packed ones.

    It packs them in the first pass without gradients, a validation say, and training went on without a
    word, with the adapters of the last layers alone.
    """
    for module in causal.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def norms_by_one_step(causal: nn.Module) -> None:
    """Let norms that are Llama's RMSNorm go through :func:`rms_norm`, in half precision."""
    for module in causal.modules():
        if type(module).__name__.endswith("RMSNorm") and _is_llamas(module):
            module.forward = partial(_normed, module, module.forward)


def _is_llamas(norm: Any) -> bool:
    """Tried out, for some families multiply by 1 + weight, and some have a gate."""
    weight, eps = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", None)
    if weight is None or eps is None or weight.requires_grad:
        return False
    try:
        with torch.no_grad():
            tried = torch.linspace(-2, 3, len(weight), dtype=weight.dtype)[None]
            return torch.allclose(norm(tried), rms_norm(tried, weight, eps), rtol=0.02, atol=1e-3)
    except (RuntimeError, TypeError):
        return False


def _normed(norm: Any, plain: Any, values: Tensor) -> Tensor:
    half = values.dtype == norm.weight.dtype == torch.bfloat16
    result: Tensor = rms_norm(values, norm.weight, norm.variance_epsilon) if half else plain(values)
    return result


def attention(
    plain: Callable[..., tuple[Tensor, Any]],
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **more: Any,
) -> tuple[Tensor, Any]:
    """For transformers' registry: by :func:`grouped_attention` where that fits, else by ``plain``."""
    ordinary = not more.get("dropout") and getattr(module, "is_causal", True)
    special = any(more.get(key) is not None for key in SPECIAL)
    if not ordinary or special or not fits(query, key, mask):
        return plain(module, query, key, value, mask, **more)
    scale = more.get("scaling") or query.shape[-1] ** -0.5
    read_BHTE = grouped_attention(query, key, value, mask, scale)
    return read_BHTE.transpose(1, 2).contiguous(), None


def blocks_recomputed(base: nn.Module) -> None:
    """Let each block keep nothing but its input for its gradient, unless it shares keys and values."""
    blocks = next(m for m in base.modules() if isinstance(m, nn.ModuleList))
    for block in blocks:
        # With the signature of its own: the last block's is read (ops.last_block).
        block.forward = update_wrapper(partial(_recomputed, block.forward), block.forward)


def _recomputed(plain: Any, *args: Any, **kwargs: Any) -> Any:
    shared = kwargs.get("past_key_values", kwargs.get("layer_past"))
    if shared is not None or not torch.is_grad_enabled():
        return plain(*args, **kwargs)
    # It runs again in the backward pass, which comes after the block of ``of_rows`` has ended and on a
    # GPU is another thread's: only what is handed on says whose numbers were drawn the first time.
    block = partial(_for_rows, current_rows(), plain)
    return checkpoint(block, *args, use_reentrant=False, **kwargs)


def _for_rows(rows: Rows | None, plain: Any, *args: Any, **kwargs: Any) -> Any:
    with of_rows(rows):
        return plain(*args, **kwargs)


def continued(layer: Any, owners_C: Tensor) -> Any:
    """A block's keys and values for those who continue them; the given ones stay as they were.

    A layer takes new keys by making longer tensors, so copies of it may share theirs.  Where it holds
    nothing else, each one's are laid out when its block asks for them, and only that block has them.
    """
    mine = copy.copy(layer)
    if type(layer).__name__ != "DynamicLayer":
        mine.batch_select_indices(owners_C)
        return mine

    def update(*states: Any, **more: Any) -> Any:
        chosen = copy.copy(layer)
        chosen.batch_select_indices(owners_C)
        return chosen.update(*states, **more)

    mine.update = update
    return mine
