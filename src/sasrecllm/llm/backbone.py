"""A causal language model that is read at one position, and its LoRA adapter: the only door to peft.

peft is imported inside the functions, for it alone takes seconds to import.

Legend: B prompts, T tokens, H hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.llm.blocks import ATTENTION, blocks_recomputed, continued, lora_by_one_step
from sasrecllm.llm.digest import weights_digest
from sasrecllm.llm.targets import is_transposed, linear_layers, lora_targets
from sasrecllm.ops.draws import RowDropout
from sasrecllm.ops.last_block import at_positions
from sasrecllm.types import IntArray

SHAPE = ("r", "alpha", "targets")
"""Settings of LoRA that an adapter must share with the model that loads it."""
WHOLE = {"r": 0, "alpha": None, "targets": None}
"""What stands for an adapter's sizes where there is none and all weights learn."""

LAST_BLOCK = ("llama", "qwen2", "gpt_neox")
"""Families whose last block runs at one position alone (``ops.last_block``): those tested so."""
ATTENTIONS = ("sdpa", "eager", ATTENTION)
"""Ways to attend that it can be run by."""


class Backbone(nn.Module):
    """A causal language model with its tokenizer, read at the last position only.

    Prompts are padded on the right; under causal attention no real token sees a pad, so no mask is
    needed and positions are right by construction.

    Args:
        causal: a Hugging Face causal language model.
        tokenizer: its tokenizer.

    Raises:
        CheckpointError: a weight is not finite.
    """

    def __init__(self, causal: Any, tokenizer: Any) -> None:
        super().__init__()
        self.causal = causal
        self.tokenizer = tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.recomputes = False
        self.adapter_config: dict[str, Any] = {}
        self._adapted: Any = None
        self.digest = weights_digest(causal)

    @property
    def hidden_size(self) -> int:
        """H, the width of a token embedding."""
        return int(self.causal.get_input_embeddings().weight.shape[1])

    @property
    def embedding_norm(self) -> float:
        """Mean norm of the words as :meth:`embed` gives them: the loudness that a soft token must have.

        Some families (Gemma's) multiply the rows of their table on the way out, all by one number.  It
        is seen on some words, for the whole table as it comes out would be a second one in memory.
        """
        table_VH = self.causal.get_input_embeddings().weight.detach()
        ids_T = probe_ids(self, 64)
        with torch.no_grad():
            pair = (self.embed(ids_T[None])[0], table_VH[ids_T])
            given, stored = (float(rows_TH.float().norm(dim=1).sum()) for rows_TH in pair)
        # Where nothing is multiplied the quotient is 1 to the last bit.
        return float(table_VH.float().norm(dim=1).mean()) * (given / stored)

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
        states_BH, _ = self._at(lengths_B - 1, inputs_embeds=embeds_BTH, use_cache=False)
        return states_BH

    def read(self, embeds_BTH: Tensor) -> Any:
        """Keys and values of the beginnings of prompts, for :meth:`hidden_after`."""
        first_B = torch.zeros(len(embeds_BTH), dtype=torch.int64, device=embeds_BTH.device)
        return self._at(first_B, inputs_embeds=embeds_BTH, use_cache=True)[1]

    def hidden_after(
        self,
        cache: Any,
        embeds_CTH: Tensor,
        lengths_C: IntArray,
        owners_C: IntArray,
        shares_C: IntArray | None = None,
    ) -> Tensor:
        """Hidden state of each continuation's last real token, [C, H].

        Args:
            cache: what :meth:`read` gave; it stays as it was.
            embeds_CTH: continuations, padded on the right.
            owners_C: the beginning that each continues.
            shares_C: after how many of its tokens, where not after all (:attr:`reads_nested`).
        """
        where = {} if shares_C is None else _places(cache, embeds_CTH, shares_C)
        mine = copy.copy(cache)
        owners = torch.from_numpy(owners_C).to(embeds_CTH.device)
        mine.layers = [continued(layer, owners) for layer in cache.layers]
        last_C = torch.from_numpy(lengths_C).to(embeds_CTH.device) - 1
        states_CH, _ = self._at(
            last_C, inputs_embeds=embeds_CTH, past_key_values=mine, use_cache=True, **where
        )
        return states_CH

    def _at(self, at_B: Tensor, **inputs: Any) -> tuple[Tensor, Any]:
        """Hidden states at one position of each prompt, [B, H], and the keys and values."""
        config = self.causal.config
        supported = config.model_type in LAST_BLOCK and config._attn_implementation in ATTENTIONS
        with at_positions(self.causal, at_B) if supported else nullcontext():
            out = self.causal.base_model(**inputs)
        states: Tensor = out.last_hidden_state
        cache = getattr(out, "past_key_values", None)  # a recurrent model has none
        if states.shape[1] == 1:
            return states[:, 0], cache
        return states[torch.arange(len(at_B), device=at_B.device), at_B], cache

    def recompute_blocks(self) -> None:
        """From now on training keeps the input of each block alone, and computes the rest again."""
        self.recomputes = True
        blocks_recomputed(self.causal.base_model)

    @cached_property
    def reads_prefixes(self) -> bool:
        """Whether :meth:`read` and :meth:`hidden_after` give what :meth:`hidden_last` gives.

        Tried once on a short text: recurrent and some mixed families keep no keys and values that
        several continuations could share.  Their prompts are read whole, one by one.
        """
        return self._continues(np.array([8, 8]))

    @cached_property
    def reads_nested(self) -> bool:
        """Whether a continuation may begin before the end of what was read.

        Not where a layer keeps the keys of a window alone: it counts places, and some are skipped.
        """
        return self.reads_prefixes and self._continues(np.array([8, 5]))

    def _continues(self, shares_2: IntArray) -> bool:
        """Whether two continuations of one text, after so many of its 8 tokens, are read right."""
        ids_T = probe_ids(self, 12)
        were = [(module, module.training) for module in self.modules()]
        self.eval()  # dropout would draw random numbers, and training counts on their order
        first, second = (int(share) for share in shares_2)
        try:
            with torch.no_grad():
                turned_T = torch.cat([ids_T[:second], ids_T[8:].flip(0), ids_T[second:8]])
                both_2TH = self.embed(torch.stack([ids_T, turned_T]))
                ends = torch.tensor([first + 4, second + 3], device=ids_T.device)
                whole_2H = self.hidden_last(both_2TH, ends)
                cache = self.read(both_2TH[:1, :8])
                rests = [both_2TH[0, first : first + 4], both_2TH[1, second : second + 4]]
                owners_2, whole = np.zeros(2, dtype=np.int64), bool((shares_2 == 8).all())
                if not whole and any(type(one).__name__ != "DynamicLayer" for one in cache.layers):
                    return False
                after_2H = self.hidden_after(
                    cache, torch.stack(rests), np.array([4, 3]), owners_2, None if whole else shares_2
                )
            return bool(relative(after_2H, whole_2H) <= closeness(self))
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        finally:
            for module, was in were:
                module.training = was

    def answer_logits(self, hidden_BH: Tensor, yes_id: int, no_id: int) -> Tensor:
        """logit(Yes) − logit(No), [B], from these two rows of the head alone."""
        head = self.causal.get_output_embeddings()
        rows = [yes_id, no_id]
        # In single precision: half of it would round logits of 20 to tenths, and users' scores to ties.
        with torch.autocast(hidden_BH.device.type, enabled=False):
            both_B2 = hidden_BH.float() @ head.weight[rows].float().T
            if getattr(head, "bias", None) is not None:
                both_B2 = both_B2 + head.bias[rows].float()
        # Some families bend or scale their logits after the head, and say so in the configuration.
        config = self.causal.config.get_text_config()
        both_B2 = both_B2 * (getattr(config, "logit_scale", None) or 1.0)
        both_B2 = both_B2 / (getattr(config, "logits_scaling", None) or 1.0)
        if cap := getattr(config, "final_logit_softcapping", None):
            both_B2 = cap * torch.tanh(both_B2 / cap)
        logits: Tensor = both_B2[:, 0] - both_B2[:, 1]
        return logits

    # The adapter ---------------------------------------------------------------------------------

    @property
    def learns_whole(self) -> bool:
        """Whether all of its weights learn, in place of an adapter."""
        return self.adapter_config == WHOLE

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """The LoRA matrices, or all weights where these learn."""
        if self.learns_whole:
            return iter(self.causal.parameters())
        return (p for n, p in self.named_parameters() if "lora_" in n)

    def adapter_mode(self, training: bool) -> None:
        """Train or freeze LoRA's own dropout; the base model stays in evaluation mode."""
        self.eval()
        for name, module in self.named_modules():
            if "lora_dropout" in name:
                module.train(training)

    def adapter_tensors(self) -> dict[str, Tensor]:
        """LoRA matrices under peft's own names, or all weights where these learn."""
        if self.learns_whole:
            return {name: p.detach() for name, p in self.causal.named_parameters()}
        from peft import get_peft_model_state_dict

        # The embeddings are never trained; "auto" would ask the hub whether they might have been.
        return dict(get_peft_model_state_dict(self._adapter(), save_embedding_layers=False))

    def load_adapter(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Copy an adapter in, strictly.

        Raises:
            CheckpointError: another rank, other targets, missing or unexpected tensors or shapes.
        """
        for key in SHAPE:
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
        if self.learns_whole:
            self.causal.load_state_dict(
                tensors, strict=False
            )  # buffers and tied heads are no parameters
            return
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self._adapter(), dict(tensors))

    def save_adapter(self, folder: Path, base: str) -> None:
        """Write the adapter as peft does.

        Args:
            base: folder or hub id of the language model that it belongs to.
        """
        adapted = self._adapter()
        adapted.peft_config["default"].base_model_name_or_path = base
        adapted.save_pretrained(folder, save_embedding_layers=False)

    def merge_adapter(self) -> None:
        """Add the adapter to the weights that it adapts, for good."""
        if self.learns_whole:
            return
        self.causal = self._adapter().merge_and_unload()
        self._adapted = None

    def _adapter(self) -> Any:
        if self._adapted is None:
            raise ConfigError("this language model has no adapter", "call add_lora first")
        return self._adapted[0]


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
        ConfigError: one of the ``targets`` is no linear layer of the model, or is its head.
    """
    from peft import LoraConfig, get_peft_model

    family = backbone.causal.config.model_type
    chosen = lora_targets(backbone.causal, targets)
    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen, task_type="CAUSAL_LM",
        fan_in_fan_out=is_transposed(backbone.causal, chosen),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(backbone.causal, config)
        except (ImportError, TypeError, ValueError) as error:  # a layer that peft cannot adapt
            raise ConfigError(
                f"llm.lora.targets is {chosen}, which peft cannot adapt in a {family} model:"
                f" {' '.join(str(error).split())}",
                f"set llm.lora.targets to others of {', '.join(linear_layers(backbone.causal))}",
            ) from error
    for module in adapted.modules():
        for name, inner in getattr(module, "lora_dropout", {}).items():
            if isinstance(inner, nn.Dropout):  # else there is none
                module.lora_dropout[name] = RowDropout(inner.p)
    lora_by_one_step(backbone.causal)
    # In a list, so that nn.Module does not register the same weights a second time.
    backbone._adapted = [adapted]
    backbone.adapter_config = {
        "r": r, "alpha": alpha, "dropout": dropout, "targets": sorted(chosen)
    }  # fmt: skip
    backbone.requires_grad_(False)


def learn_whole(backbone: Backbone) -> None:
    """Let all weights learn in place: what a run calls its adapter is then the whole model.

    Raises:
        ConfigError: they are not in fp32, which alone has room for small steps.
    """
    wrong = {str(p.dtype).removeprefix("torch.") for p in backbone.causal.parameters()} - {"float32"}
    if wrong:
        raise ConfigError(
            f"llm.lora.r is 0, so all weights learn, but they are held in {', '.join(sorted(wrong))},"
            " where small steps are rounded away",
            "set llm.dtype=fp32 llm.quantize=none (and llm.loop.precision=bf16 for speed), or a rank",
        )
    backbone.adapter_config = dict(WHOLE)
    backbone.requires_grad_(False)


def _places(cache: Any, embeds_CTH: Tensor, shares_C: IntArray) -> dict[str, Tensor]:
    """Which keys continuations see that begin after ``shares_C`` tokens, and their own places."""
    (C, T, _), device = embeds_CTH.shape, embeds_CTH.device
    shares_C1 = torch.from_numpy(shares_C).to(device)[:, None]
    seen_CP = torch.arange(cache.get_seq_length(), device=device) < shares_C1
    own_CT = torch.ones(C, T, dtype=torch.bool, device=device)
    places_CT = shares_C1 + torch.arange(T, device=device)
    return {"attention_mask": torch.cat([seen_CP, own_CT], 1).long(), "position_ids": places_CT}


def probe_ids(backbone: Backbone, count: int) -> Tensor:
    """``count`` different token ids, spread over the vocabulary, for trying a model out, [count]."""
    table = backbone.causal.get_input_embeddings().weight
    return torch.linspace(0, len(table) - 1, count, device=table.device).long()


def relative(got: Tensor, wanted: Tensor) -> float:
    """How far ``got`` is from ``wanted``, as a share of the latter's length."""
    return float((got - wanted).float().norm() / wanted.float().norm())


def closeness(backbone: Backbone) -> float:
    """What two ways to the same hidden state may differ by: rounding, and nothing that counts."""
    table = backbone.causal.get_input_embeddings().weight
    return 1e-3 if table.dtype == torch.float32 else 5e-2
