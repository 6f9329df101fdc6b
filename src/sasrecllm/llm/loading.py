"""Language models from a hub, from a folder, or from nothing: the only door to transformers.

transformers is imported inside the functions, so that importing this module is cheap.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sasrecllm.errors import CheckpointError, MissingExtraError, ModelNotFoundError
from sasrecllm.llm.backbone import Backbone

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_backbone(
    name_or_path: str, *, dtype: str = "fp32", quantize: str | None = None, device: str = "cpu"
) -> Backbone:
    """Any Hugging Face causal language model, by hub id or local folder; safetensors only.

    Args:
        quantize: ``nf4`` for 4-bit weights with double quantisation and bf16 compute (QLoRA).

    Raises:
        ModelNotFoundError: no such folder, or a hub id that is neither cached nor reachable.
        MissingExtraError: ``quantize`` without bitsandbytes.
        CheckpointError: weights that are damaged, or that lack a tensor of the model.
    """
    refuse_unreachable(name_or_path)
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _quiet()
    options: dict[str, Any] = {
        "dtype": DTYPES[dtype],
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if quantize == "nf4":
        options["quantization_config"] = _nf4()
        options["device_map"] = {"": device}
    try:
        _refuse_own_code(name_or_path)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        causal, info = AutoModelForCausalLM.from_pretrained(name_or_path, **options)
    except SafetensorError as error:
        raise CheckpointError(
            f"the weights of llm.backbone {name_or_path!r} are damaged: {error}",
            "copy or download the *.safetensors files again",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"llm.backbone {name_or_path!r} cannot be loaded: {str(error).splitlines()[0]}",
            "give a hub id that is in the cache (HF_HOME), unset HF_HUB_OFFLINE where there is a"
            " network, or give a local folder with config.json, *.safetensors and a tokenizer",
        ) from error
    _refuse_random_weights(name_or_path, info)
    backbone = Backbone(causal, tokenizer).requires_grad_(False).eval()
    return backbone if quantize else backbone.to(device)


def build_llama(
    tokenizer: Any,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    positions: int = 512,
    dropout: float = 0.0,
    seed: int = 0,
    vocabulary: int | None = None,
) -> Backbone:
    """A small Llama with random weights, the same for the same seed.

    Args:
        vocabulary: rows of the embedding table, where it is to be larger than the tokenizer's.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        attention_dropout=dropout,
        tie_word_embeddings=True,
        # transformers initialises by .02, right for widths in the thousands: a narrow model would
        # spend its first epochs with attention that is uniform to three digits.
        initializer_range=width**-0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Backbone(LlamaForCausalLM(config), tokenizer)


def wrap_tokenizer(tokenizer: Any, bos: str, eos: str, pad: str) -> Any:
    """A trained ``tokenizers.Tokenizer`` as an ordinary fast tokenizer."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad
    )


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write model and tokenizer as an ordinary Hugging Face folder (before LoRA is added)."""
    _quiet()
    backbone.causal.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def _nf4() -> Any:
    try:
        import bitsandbytes  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError("llm.quantize is nf4, which needs bitsandbytes", "quant") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _refuse_random_weights(name_or_path: str, info: Mapping[str, Any]) -> None:
    """transformers fills a missing tensor with random numbers and only warns."""
    lost = sorted(map(str, {*info["missing_keys"], *info.get("mismatched_keys", ())}))
    if lost:
        raise CheckpointError(
            f"llm.backbone {name_or_path!r} lacks {len(lost)} tensors of its model, or has them in"
            f" another shape: {', '.join(lost[:3])}",
            "copy or download the whole model again",
        )


def _refuse_own_code(name_or_path: str) -> None:
    """transformers would ask on the terminal whether to run the repository's own code."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    model, _ = transformers.PretrainedConfig.get_config_dict(name_or_path)
    words = get_tokenizer_config(name_or_path)
    kind, tokenizer = model.get("model_type"), words.get("tokenizer_class") or ""
    foreign = "auto_map" in model and kind not in CONFIG_MAPPING
    if foreign or ("auto_map" in words and not hasattr(transformers, tokenizer)):
        raise ModelNotFoundError(
            f"llm.backbone {name_or_path!r} (model_type {kind!r}, tokenizer_class {tokenizer!r}) needs"
            " code of its own repository, which is never run",
            "choose a model that transformers itself supports",
        )


def refuse_unreachable(name_or_path: str) -> None:
    """Say at once what a missing folder or an unreachable hub would say after minutes of retries."""
    path = Path(name_or_path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(
                f"llm.backbone {name_or_path!r} is a folder without config.json",
                "give the folder that save_pretrained wrote",
            )
        return
    looks_like_path = path.is_absolute() or name_or_path.startswith(".") or name_or_path.count("/") > 1
    if looks_like_path:
        raise ModelNotFoundError(
            f"llm.backbone {name_or_path!r}: no such folder", "check the path, or give a hub id"
        )
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(name_or_path, "config.json"), str)
    if not cached and (os.environ.get("HF_HUB_OFFLINE") == "1" or not _hub_answers()):
        raise ModelNotFoundError(
            f"llm.backbone {name_or_path!r} is not in the cache (HF_HOME="
            f"{os.environ.get('HF_HOME', '~/.cache/huggingface')}) and the hub cannot be reached",
            "download it where there is a network (hf download), give a local folder, or set"
            " llm.backbone: offline",
        )


def _hub_answers(timeout: float = 5.0) -> bool:
    """Whether the hub's host takes a connection within seconds."""
    import socket
    from urllib.parse import urlsplit

    from huggingface_hub.constants import ENDPOINT

    host = urlsplit(ENDPOINT).hostname or ""
    try:
        with socket.create_connection((host, 443), timeout=timeout):
            return True
    except OSError:
        return False


def _quiet() -> None:
    """No bars and no notices of libraries between the lines of the run's own progress."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
