"""The identity of a language model: every number of every tensor, and the files that describe it."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sasrecllm.errors import CheckpointError
from sasrecllm.manifest import file_digest

DESCRIPTION = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "tekken.json",
    "chat_template.jinja",
)
"""Files that change what the same weights answer: another rotary base, tokenizer or form of a chat."""

CHUNK = 1 << 18
"""Numbers that are looked at together: 1 MB, which stays in a core's cache."""


def weights_digest(causal: Any) -> str:
    """SHA-256 over names, shapes and values of all tensors, several tensors at a time.

    The same weights give the same digest in whatever type they are held: bf16 is told from fp32 by its
    values only, so a model saved in bf16 may be loaded in either.  Quantised weights are their own
    numbers, with the tables that they are read by.

    Raises:
        CheckpointError: a number is not finite; the tensor is named.
    """
    kept = {k: v for k, v in causal.config.to_dict().items() if k in ("model_type", "vocab_size")}
    summed = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    tensors = sorted(causal.state_dict().items())
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        for each in pool.map(_digest, *zip(*tensors, strict=True)):
            summed.update(each)
    return summed.hexdigest()


def model_digest(weights: str, folder: Path) -> str:
    """SHA-256 over the digest of the weights and the files of ``folder`` that say how they are read.

    The files' bytes and not what a library makes of them, which changes from version to version.
    """
    summed = hashlib.sha256(weights.encode())
    for name in DESCRIPTION:
        if (folder / name).is_file():
            summed.update(f"{name} {file_digest(folder / name)}".encode())
    return summed.hexdigest()


def _digest(name: str, tensor: Any) -> bytes:
    if not isinstance(tensor, Tensor):  # a note of a quantised layer
        return hashlib.sha256(f"{name}={tensor!r}".encode()).digest()
    summed = hashlib.sha256(f"{name}{tuple(tensor.shape)}".encode())
    if tensor.device.type == "meta":  # a model without its weights
        return summed.digest()
    for part in torch.split(tensor.detach().reshape(-1), CHUNK):
        values = part.float() if part.is_floating_point() else part
        # A sum that is finite has finite summands; only a sum that is not is looked at again.
        if not bool(values.sum().isfinite()) and not bool(values.isfinite().all()):
            raise CheckpointError(
                f"{name} of the language model holds numbers that are not finite",
                "its training diverged or its file is damaged: take another copy or another model",
            )
        summed.update(values.cpu().contiguous().view(torch.uint8).numpy().data)
    return summed.digest()
