"""The configuration out of a GGUF file: all that the file says, and nothing that it does not bear out.

transformers reads most keys of a family and leaves the rest at its own defaults; here every key is
carried over or refused.  Sizes are held against the tensors before a model of such sizes is built.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sasrecllm.errors import CheckpointError, ModelNotFoundError
from sasrecllm.llm.gguf_file import GgufFile
from sasrecllm.types import FloatArray

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings",),
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
}
"""Keys of a file, without the family's name, and what config.json calls them (the first it has)."""

SAYS_NOTHING = ("tensor_data_layout", "vocab_size")
"""Keys that change nothing: how a converter ordered rows, and the rows that the embeddings have."""

TOKENS, PLACES, ROTATION = "token_embd.weight", "position_embd.weight", "rope_freqs.weight"
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""How Llama 3.1 and later stretch their positions; a file has the outcome only, a factor a column."""

OTHER = "give the publisher's own folder or hub id instead"


def complete(config: Any, file: GgufFile) -> None:
    """Put into ``config`` all that the ``file`` says of its model.

    Raises:
        ModelNotFoundError: it says something that is not carried over.
        CheckpointError: its tensors have other sizes than it says.
    """
    prefix = file.architecture + "."
    said = {k.removeprefix(prefix): v for k, v in file.metadata.items() if k.startswith(prefix)}
    for key in SAYS_NOTHING:
        said.pop(key, None)
    if said.get("rope.scaling.type") == "none":
        said = {k: v for k, v in said.items() if not k.startswith("rope.scaling.")}
    rotated, base = said.pop("rope.dimension_count", None), said.pop("rope.freq_base", None)
    for key, value in said.items():
        names = [n for n in ATTRIBUTES.get(key, ()) if hasattr(config, n)]
        if not names or not _is_size(value):
            raise ModelNotFoundError(
                f"{file.path}: {prefix}{key} is {value!r:.60}, which is not carried over", OTHER
            )
        setattr(config, names[0], value)
    columns = said.get("attention.key_length") or config.hidden_size // config.num_attention_heads
    if hasattr(config, "head_dim"):
        config.head_dim = columns
    if rotated not in (None, columns):
        raise ModelNotFoundError(
            f"{file.path}: positions turn {rotated!r:.60} of the {columns} columns of a head"
            f" ({prefix}rope.dimension_count), which is not carried over",
            OTHER,
        )
    _refuse_other_sizes(config, file, columns)
    if base is not None:
        if not _is_size(base):
            raise ModelNotFoundError(f"{file.path}: {prefix}rope.freq_base is {base!r:.60}", OTHER)
        config.rope_parameters["rope_theta"] = base
    _stretch(config, file, columns)


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _refuse_other_sizes(config: Any, file: GgufFile, columns: int) -> None:
    """A model of other sizes than its tensors would be built, however large, before it is refused."""
    shapes = {entry.name: entry.dimensions for entry in file.tensors}
    if len(shapes.get(TOKENS, ())) != 2:
        raise CheckpointError(
            f"{file.path} lacks the embeddings of its tokens ({TOKENS})", "copy the file again"
        )
    # The table may have more rows than the tokenizer has tokens: they fill it up to a round number.
    width, config.vocab_size = shapes[TOKENS]
    blocks = {m[1] for name in shapes if (m := re.match(r"blk\.(\d+)\.", name))}
    there = {n for dimensions in shapes.values() for n in dimensions}
    heads, shared = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    wrong = {
        "embedding_length": config.hidden_size != width and config.hidden_size,
        "block_count": config.num_hidden_layers != len(blocks) and config.num_hidden_layers,
        "attention.head_count": heads * columns not in there and heads,
        "attention.head_count_kv": (shared or heads) * columns not in there and shared,
        "feed_forward_length": inner not in there and inner,
        "context_length": PLACES in shapes
        and config.max_position_embeddings != shapes[PLACES][-1]
        and config.max_position_embeddings,
    }
    for key, value in wrong.items():
        if value is not False:
            raise CheckpointError(
                f"{file.path}: its metadata and its tensors disagree: {file.architecture}.{key} is"
                f" {value}, which no tensor bears out",
                "take another copy of the model, or the publisher's own folder",
            )


def _stretch(config: Any, file: GgufFile, columns: int) -> None:
    """The rule behind the factors by which a file slows the turning of each column, if it has them."""
    entry = next((e for e in file.tensors if e.name == ROTATION), None)
    if entry is None:
        return
    start = file.data_start + entry.offset
    found_C = np.zeros(0)
    if entry.kind == 0 and entry.dimensions == (columns // 2,):
        found_C = np.fromfile(file.path, dtype="<f4", count=columns // 2, offset=start)
    factor = float(found_C.max(initial=1.0))
    wanted_C = _factors(factor, config.rope_parameters["rope_theta"], columns)
    if found_C.shape != wanted_C.shape or not np.allclose(found_C, wanted_C, rtol=1e-3):
        raise ModelNotFoundError(
            f"{file.path}: its positions are stretched ({ROTATION}) in a way that is not carried over",
            OTHER,
        )
    if factor > 1:
        config.rope_parameters |= {"rope_type": "llama3", "factor": factor, **LLAMA3}


def _factors(factor: float, base: float, columns: int) -> FloatArray:
    """What Llama 3's rule divides the turning of each of C pairs of columns by, [C]."""
    length, low, high = (
        LLAMA3[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    waves_C = 2 * np.pi * base ** (np.arange(0, columns, 2) / columns)
    smooth_C = np.clip((length / waves_C - low) / (high - low), 0, 1)
    factors_C: FloatArray = 1 / ((1 - smooth_C) / factor + smooth_C)
    return factors_C
