"""The only door to transformers and peft: load, build, adapt and read a causal language model.

Both libraries are imported inside the functions, for peft alone takes seconds to import.

Legend: B prompts, T tokens, H hidden size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sasrecllm.errors import CheckpointError, ConfigError, MissingExtraError, ModelNotFoundError

LORA_TARGETS: dict[str, list[str]] = {
    "gpt2": ["c_attn"],
    "gpt_neox": ["query_key_value"],
    "bloom": ["query_key_value"],
    "falcon": ["query_key_value"],
    "phi3": ["qkv_proj"],
}
"""Families whose attention has other names than ``q_proj`` and ``v_proj`` (the paper's choice)."""

DEFAULT_TARGETS = ["q_proj", "v_proj"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Backbone(nn.Module):
    """A causal language model with its tokenizer, read at the last position only.

    Prompts are padded on the right; under causal attention no real token sees a pad, so no mask is
    needed and positions are right by construction.

    Args:
        causal: a Hugging Face causal language model.
        tokenizer: its tokenizer.
    """

    def __init__(self, causal: Any, tokenizer: Any) -> None:
        super().__init__()
        self.causal = causal
        self.tokenizer = tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.adapter_config: dict[str, Any] = {}
        self._adapted: Any = None
        self.digest = _digest(causal)

    @property
    def hidden_size(self) -> int:
        """H, the width of a token embedding."""
        return int(self.causal.get_input_embeddings().weight.shape[1])

    @property
    def embedding_norm(self) -> float:
        """Mean norm of the input embeddings: the loudness that a soft token must have."""
        return float(self.causal.get_input_embeddings().weight.detach().float().norm(dim=1).mean())

    def embed(self, ids_BT: Tensor) -> Tensor:
        """Token embeddings, shape [B, T, H]."""
        embedded: Tensor = self.causal.get_input_embeddings()(ids_BT)
        return embedded

    def hidden(self, embeds_BTH: Tensor) -> Tensor:
        """Hidden states after the last layer and norm, [B, T, H]; the head is never called."""
        states: Tensor = self.causal.base_model(
            inputs_embeds=embeds_BTH, use_cache=False
        ).last_hidden_state
        return states

    def hidden_last(self, embeds_BTH: Tensor, lengths_B: Tensor) -> Tensor:
        """Hidden state of each prompt's last real token, [B, H]."""
        states_BTH = self.hidden(embeds_BTH)
        rows = torch.arange(len(lengths_B), device=states_BTH.device)
        return states_BTH[rows, lengths_B - 1]

    def answer_logits(self, hidden_BH: Tensor, yes_id: int, no_id: int) -> Tensor:
        """logit(Yes) − logit(No), [B], from these two rows of the head alone."""
        head = self.causal.get_output_embeddings()
        rows = [yes_id, no_id]
        both_B2 = hidden_BH @ head.weight[rows].to(hidden_BH.dtype).T
        if getattr(head, "bias", None) is not None:
            both_B2 = both_B2 + head.bias[rows]
        # Some families bend or scale their logits after the head, and say so in the configuration.
        config = self.causal.config
        both_B2 = both_B2 * (getattr(config, "logit_scale", None) or 1.0)
        both_B2 = both_B2 / (getattr(config, "logits_scaling", None) or 1.0)
        if cap := getattr(config, "final_logit_softcapping", None):
            both_B2 = cap * torch.tanh(both_B2 / cap)
        logits: Tensor = both_B2[:, 0] - both_B2[:, 1]
        return logits

    # The adapter ---------------------------------------------------------------------------------

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """The LoRA matrices."""
        return (p for n, p in self.named_parameters() if "lora_" in n)

    def adapter_mode(self, training: bool) -> None:
        """Train or freeze LoRA's own dropout; the base model stays in evaluation mode."""
        self.eval()
        for name, module in self.named_modules():
            if "lora_dropout" in name:
                module.train(training)

    def adapter_tensors(self) -> dict[str, Tensor]:
        """LoRA matrices under peft's own names."""
        from peft import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(self._adapter()))

    def load_adapter(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Copy an adapter in, strictly.

        Raises:
            CheckpointError: another rank, other targets, missing or unexpected tensors or shapes.
        """
        from peft import set_peft_model_state_dict

        for key in ("r", "alpha", "targets"):
            if config.get(key) != self.adapter_config.get(key):
                raise CheckpointError(
                    f"the adapter was trained with LoRA {key} = {config.get(key)!r}, this run has"
                    f" {self.adapter_config.get(key)!r}",
                    f"set llm.lora.{key} to the adapter's value, or train the adapter again",
                )
        mine = self.adapter_tensors()
        wrong = sorted(
            k for k in mine.keys() | tensors.keys()
            if k not in mine or k not in tensors or mine[k].shape != tensors[k].shape
        )  # fmt: skip
        if wrong:
            raise CheckpointError(
                f"the adapter does not fit this language model: {wrong[0]} is missing, unexpected or"
                f" of another shape ({len(wrong)} tensors differ)",
                "use the language model that the adapter was trained on, or train it again",
            )
        set_peft_model_state_dict(self._adapter(), dict(tensors))

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The base model alone, inside a ``with`` block."""
        learning = [p.requires_grad for p in self.adapter_parameters()]
        try:
            with self._adapter().disable_adapter():
                yield
        finally:  # peft thaws the adapter when it switches it on again
            for parameter, was in zip(self.adapter_parameters(), learning, strict=True):
                parameter.requires_grad_(was)

    def _adapter(self) -> Any:
        if self._adapted is None:
            raise ConfigError("this language model has no adapter", "call add_lora first")
        return self._adapted[0]


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
    _refuse_unreachable(name_or_path)
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # the run has its own

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
) -> Backbone:
    """A small Llama with random weights, the same for the same seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
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
    backbone.causal.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def add_lora(
    backbone: Backbone,
    *,
    r: int = 8,
    alpha: int = 16,
    dropout: float = 0.05,
    targets: list[str] | None = None,
    seed: int = 0,
) -> None:
    """Add LoRA in place; it starts as the identity.  Hu et al., 2021; defaults are the paper's.

    Raises:
        ConfigError: no module of the model has one of the ``targets`` names.
    """
    from peft import LoraConfig, get_peft_model

    family = backbone.causal.config.model_type
    chosen = targets or LORA_TARGETS.get(family, DEFAULT_TARGETS)
    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(backbone.causal, config)
        except ValueError as error:
            names = {
                n.rsplit(".", 1)[-1] for n, m in backbone.named_modules() if isinstance(m, nn.Linear)
            }
            raise ConfigError(
                f"llm.lora.targets is {chosen}, which the {family} model does not have; its linear"
                f" layers are {sorted(names)}",
                "set llm.lora.targets to some of these",
            ) from error
    # In a list, so that nn.Module does not register the same weights a second time.
    backbone._adapted = [adapted]
    backbone.adapter_config = {
        "r": r, "alpha": alpha, "dropout": dropout, "targets": sorted(chosen)
    }  # fmt: skip
    backbone.requires_grad_(False)


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


def _refuse_unreachable(name_or_path: str) -> None:
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


def _digest(causal: Any) -> str:
    """Identity of the base weights: names, shapes and the ends of every tensor; cheap at any size."""
    summed = hashlib.sha256()
    kept = {k: v for k, v in causal.config.to_dict().items() if k in ("model_type", "vocab_size")}
    summed.update(json.dumps(kept, sort_keys=True).encode())
    for name, tensor in sorted(causal.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        if flat.device.type != "meta":
            ends = torch.cat([flat[:32], flat[-32:]]).float().cpu()
            summed.update(ends.numpy().tobytes())
        summed.update(f"{name}{tuple(tensor.shape)}".encode())
    return summed.hexdigest()
