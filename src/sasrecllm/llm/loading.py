"""Language models from a hub, from a folder, or from nothing: the only door to transformers.

transformers is imported inside the functions, so that importing this module is cheap.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sasrecllm.errors import MissingExtraError
from sasrecllm.llm.backbone import LAST_BLOCK, Backbone
from sasrecllm.llm.blocks import ATTENTION, attention, let_gradients_through, norms_by_one_step
from sasrecllm.llm.digest import model_digest
from sasrecllm.llm.naming import backbone_path, refuse_adapter, refuse_unreachable
from sasrecllm.llm.refusals import (
    quantisation,
    reading,
    refuse_other_weights,
    refuse_own_code,
    refuse_unfit,
)
from sasrecllm.machine.memory import keep_few_kernels

POSITIONS = 4
"""Positions of an offline language model for each token of ``llm.offline.positions``: its prompts may
grow longer than the documents that it was built on."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    }
}
"""``llm.quantize`` -> the arguments of transformers' ``BitsAndBytesConfig``."""


def load_backbone(
    name_or_path: str, *, dtype: str = "fp32", quantize: str | None = None, device: str = "cpu"
) -> Backbone:
    """Any Hugging Face causal language model, by hub id or local folder; safetensors only.

    Args:
        quantize: ``nf4`` for 4-bit weights with double quantisation and bf16 compute (QLoRA).

    Raises:
        ModelNotFoundError: no such folder, a hub id that is neither cached nor reachable, or not a
            causal language model.
        EnvironmentRefusal: a package that the model needs is missing or too old.
        ConfigError: ``quantize`` for weights that are quantised already.
        CheckpointError: weights that are damaged, or that lack a tensor of the model.
    """
    keep_few_kernels()
    name = backbone_path(name_or_path)
    refuse_unreachable(name)
    _quiet()
    with reading("config.json", name):
        about = _described(name)
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    refuse_unfit(name, about, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, quantize)

    options: dict[str, Any] = {
        "dtype": DTYPES[dtype],
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are in the loading info, with their names
    }
    if quantize == "nf4":
        options["quantization_config"] = _nf4()
    if placed := bool(quantize or quantisation(about)):  # quantised weights cannot be moved later
        options["device_map"] = {"": device}
    tokenizer = load_tokenizer(name)
    with reading("weights", name, about), _silence():
        causal, info = AutoModelForCausalLM.from_pretrained(name, **options)
    refuse_other_weights(name, info, causal.state_dict())
    refuse_adapter(name, bool(getattr(causal, "_hf_peft_config_loaded", False)))
    let_gradients_through(causal)
    with reading("weights", name, about):
        backbone = Backbone(causal, tokenizer).requires_grad_(False).eval()
        backbone.digest = model_digest(backbone.digest, _folder_of(name))
    if placed:
        return backbone
    if device == "cpu" and dtype == "bf16" and causal.config.model_type in LAST_BLOCK:
        _compute_by_one_step(causal)
    return backbone.to(device)


def _compute_by_one_step(causal: Any) -> None:
    """Attention and norms as :mod:`sasrecllm.llm.blocks` has them."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    norms_by_one_step(causal)
    if causal.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, partial(attention, sdpa_attention_forward))
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        causal.set_attn_implementation(ATTENTION)


def _folder_of(name: str) -> Path:
    """The folder that a loaded model came from: the given one, or the hub's snapshot in the cache."""
    from transformers.utils import cached_file

    return Path(cached_file(name, "config.json", local_files_only=True)).parent


def width_of(name: str) -> int:
    """Hidden size of a language model, by its config.json alone.

    Raises:
        ModelNotFoundError: it has none that can be read.
    """
    import transformers

    refuse_unreachable(name)
    with reading("config.json", name):
        config = transformers.AutoConfig.for_model(**_described(name))
        return int(config.get_text_config().hidden_size)


def quantised_by(name: str) -> str:
    """How a language model's weights are quantised, by its config.json alone; empty where they are not.

    Raises:
        ModelNotFoundError: it has none that can be read.
    """
    refuse_unreachable(name)
    with reading("config.json", name):
        return quantisation(_described(name))


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a language model, by hub id or local folder.

    Raises:
        ModelNotFoundError: there is none, or it needs code of its own.
        EnvironmentRefusal: it needs a package, or a newer one.
    """
    import transformers
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    with reading("tokenizer", name), _silence():
        words = get_tokenizer_config(name)
        kind = words.get("tokenizer_class") or ""
        if "auto_map" in words and not hasattr(transformers, kind):
            refuse_own_code(name, f"tokenizer_class {kind!r}")
        return transformers.AutoTokenizer.from_pretrained(name)


def build_llama(
    tokenizer: Any,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    positions: int = 512,
    seed: int = 0,
    vocabulary: int | None = None,
) -> Backbone:
    """A small Llama with random weights, the same for the same seed.

    Args:
        vocabulary: rows of the embedding table, where it is to be larger than the tokenizer's.
    """
    from transformers import LlamaForCausalLM

    config = _llama_config(
        vocabulary or len(tokenizer),
        width,
        layers,
        heads,
        positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Backbone(LlamaForCausalLM(config), tokenizer)


def llama_shape(vocabulary: int, width: int, layers: int, heads: int, positions: int) -> Any:
    """What :func:`build_llama` would build for ``llm.offline``, without weights."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(_llama_config(vocabulary, width, layers, heads, positions * POSITIONS))


def _llama_config(
    vocabulary: int, width: int, layers: int, heads: int, positions: int, **more: Any
) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        # transformers initialises by .02, right for widths in the thousands: a narrow model would
        # spend its first epochs with attention that is uniform to three digits.
        initializer_range=width**-0.5,
        **more,
    )


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


def gguf_description(folder: Path, file: str) -> tuple[Any, Any]:
    """What transformers makes of a GGUF file's metadata: the model's configuration, and the tokenizer.

    Args:
        folder: holds the ``file`` and nothing else that transformers might read.
    """
    from transformers import AutoConfig, AutoTokenizer

    with _silence():
        config = AutoConfig.from_pretrained(folder, gguf_file=file)
        return config, AutoTokenizer.from_pretrained(folder, gguf_file=file)


def gguf_splits() -> frozenset[str]:
    """Rules for cutting text (``tokenizer.ggml.pre``) that transformers knows by name.

    Raises:
        ImportError: an old transformers, which names none.
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return frozenset(GGUF_PRE_TOKENIZER_SPLITS)


def gguf_model(
    folder: Path, file: str, config: Any, dtype: str, report: Callable[[str, int, int], None]
) -> tuple[Any, Mapping[str, Any], frozenset[str]]:
    """A GGUF file's causal language model, de-quantised: model, loading info, tensors it takes by name.

    Args:
        folder: as for :func:`gguf_description`, which gives the ``config``.
        report: is told what is done, how many tensors of it, and of how many.
    """
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers import modeling_gguf_pytorch_utils as reader

    def steps(tensors: Any, **_: Any) -> Iterator[Any]:
        report("tensors", 0, len(tensors))
        for done, tensor in enumerate(tensors, 1):
            yield tensor
            report("tensors", done, len(tensors))

    _quiet()
    bar, reader.tqdm = reader.tqdm, steps  # whose bar would be drawn on a quiet terminal too
    try:
        with _silence():
            causal, info = AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=file,
                config=config,
                dtype=DTYPES[dtype],
                # Else the model counts as quantised for ever, and cannot be saved.
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
            kind = reader.TENSOR_PROCESSORS.get(causal.config.model_type, reader.TensorProcessor)
            names = reader.get_gguf_hf_weights_map(causal, kind(config=causal.config.to_dict()))
    finally:
        reader.tqdm = bar
    return causal, info, frozenset(names)


def _nf4() -> Any:
    try:
        import bitsandbytes  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError("llm.quantize is nf4, which needs bitsandbytes", "quant") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**QUANTIZATIONS["nf4"])


def _described(name: str) -> dict[str, Any]:
    """What config.json says; the model's own code is never asked for, let alone run."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    about, _ = transformers.PretrainedConfig.get_config_dict(name)
    if not isinstance(about, dict):
        raise ValueError(f"it holds a {type(about).__name__}, not keys and values")
    kind = about.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if "auto_map" in about:
            refuse_own_code(name, f"model_type {kind!r}")
        raise ValueError(
            f"model_type is {kind!r}, which transformers {transformers.__version__} does not know"
        )
    CONFIG_MAPPING[kind].from_dict(about)  # which checks every value
    return dict(about)


def _quiet() -> None:
    """No bars and no notices of libraries between the lines of the run's own progress."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings of transformers: what they warn of is refused here, or is of no account."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
