"""A pretrained language model's two stages on a CPU against peft and the Hugging Face Trainer.

The model has the shape of SmolLM2-135M and random weights, which take as long as trained ones.  Both
sides train the same rows, with optimiser: ours through the public loop, theirs in random order, padded,
with the whole vocabulary at every position.  Of the number formats that the Trainer offers the one that
is fastest here is taken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import reference_way
from benchmarks.bench import language
from benchmarks.bench.measure import Finding, compare, largest_gap, measured, within
from benchmarks.bench.random_prompts import BATCH, WIDTH, Prompts, batch_of, prompts
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.loading import load_backbone, save_backbone, width_of
from sasrecllm.llm.mapper import build_mapper
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.llm.prefix import score_candidates
from sasrecllm.machine.arithmetic import bf16_is_faster
from sasrecllm.settings import LoopSettings
from sasrecllm.stages.settle import TOKENS_ON_A_CPU
from sasrecllm.training.batches import POOL, plan_epoch
from sasrecllm.training.loop import fit
from sasrecllm.training.task import Metrics, Task
from sasrecllm.types import FloatArray, IntArray

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "smollm2": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip
LORA: Mapping[str, Any] = {
    "r": 16, "alpha": 32, "dropout": 0.05,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip
FORMATS = (("fp32", False), ("fp32", True), ("bf16", True))
"""Of the weights, and whether the Trainer's own bf16 (autocast) is on."""
STAGES = (("text stage", {"adapter"}, False, 4.0), ("mapper stage", {"mapper"}, True, 6.0))
STEPS = 6
"""Of a process whose memory is measured."""
LIST_SECONDS = 1.2
"""What 100 candidates may take by the clock."""


class Rows(Task):
    """The prompts ``rows`` as a task of the public loop."""

    name, monitor, n_validation = "rows", "none", 0

    def __init__(self, model: SoftTokenLLM, p: Prompts, rows: IntArray, parts: set[str]) -> None:
        super().__init__()
        self.model, self.prompts, self.rows, self.parts = model, p, rows, parts
        self.lengths, self.prefix_ids = (
            p.lengths[rows],
            np.unique(p.histories[rows], return_inverse=True)[1],
        )
        self.weights = np.ones(len(rows))
        model.learn(parts)

    def learn(self) -> None:
        """The parts that learn in training mode."""
        self.model.training_mode(self.parts)

    def forward(self, examples: IntArray) -> Tensor:
        """Summed loss."""
        return language.loss_ours(self.model, self.prompts, self.rows[examples], "mapper" in self.parts)

    def validation_scores(self, positions: IntArray) -> FloatArray:
        """None is asked."""
        return np.zeros(len(positions))

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        """None is asked."""
        return {"none": None}


class Rival(nn.Module):
    """The same prompts the usual way, as the Trainer wants a model."""

    def __init__(self, model: SoftTokenLLM, p: Prompts, parts: set[str]) -> None:
        super().__init__()
        self.model, self.prompts, self.soft = model, p, "mapper" in parts
        model.learn(parts)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """BCE on the two answer logits at the last position, of logits at all."""
        at = rows.numpy()
        batch = batch_of(self.prompts, at, self.soft)
        vectors = (self.prompts.user[at], self.prompts.item[at]) if self.soft else (None, None)
        scores = reference_way.logits(self.model, batch, *vectors)[1]
        loss = F.binary_cross_entropy_with_logits(scores.float(), self.prompts.label[at])
        return {"loss": loss}


def bench(size: str, pairs: int) -> list[Finding]:
    """Both stages, and a list of 100 candidates."""
    shape = SHAPES[size]
    p = prompts(20 * POOL * BATCH, shape["vocab_size"])
    plan = plan_epoch(p.lengths, BATCH, 0, 0, p.histories)
    rows = np.concatenate(language.spread(plan, p.lengths, 2))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        save(folder, shape)
        dtype = "bf16" if bf16_is_faster(shape["hidden_size"]) else "fp32"
        for stage, parts, soft, goal in STAGES:
            mine = loaded(folder, dtype)
            gap = gradient_gap(mine, by_the_library(loaded(folder, "fp32")), p, rows[:4], parts, soft)
            ours = partial(train, mine, p, rows, parts)
            theirs, their_format = _fastest(folder, p, rows, parts)
            found.append(
                compare(f"{stage}, shape {size}, {len(rows)} rows, ours in {dtype}",
                        f"peft + Trainer, {their_format}", ours, theirs, pairs=pairs, difference=gap,
                        allowed=0.05, goal=goal)
            )  # fmt: skip
        found.append(_list(mine, size, dtype))
    return found


def _list(model: SoftTokenLLM, size: str, dtype: str) -> Finding:
    took = min(measured(partial(rank, model)).wall for _ in range(4))
    return within(
        f"rerank 100 candidates, shape {size}", LIST_SECONDS, took, "s by the clock", f"in {dtype}"
    )


def rank(model: SoftTokenLLM) -> None:
    """Score 100 candidates of one history."""
    batch, user_1D, item_CD = language.listed(100)
    batch.ids_BT[:] %= model.backbone.causal.config.vocab_size
    score_candidates(model.eval(), batch, user_1D, item_CD)


def alone(folder: str, does: str) -> None:
    """What a process of the bench does with the model in ``folder``: ``train`` or ``list``."""
    model = loaded(folder, "bf16" if bf16_is_faster(width_of(folder)) else "fp32")
    if does == "list":
        return rank(model)
    p = prompts(64 * STEPS, model.backbone.causal.config.vocab_size)
    task = Rows(model, p, np.arange(64 * STEPS), {"adapter"})
    fit(task, LoopSettings(epochs=1, batch_size=64, patience=0, micro_tokens=TOKENS_ON_A_CPU))


def train(model: SoftTokenLLM, p: Prompts, rows: IntArray, parts: set[str]) -> None:
    """One pass over ``rows`` through the public loop."""
    fit(Rows(model, p, rows, parts), LoopSettings(epochs=1, batch_size=BATCH, patience=0))


def _fastest(
    folder: str, p: Prompts, rows: IntArray, parts: set[str]
) -> tuple[Callable[[], None], str]:
    """Their side in the number format that takes the fewest CPU seconds here, and its name."""
    ways = []
    dtype, autocast = FORMATS[0]  # what is imported and made at first counts for no format
    trained_by_trainer(Rival(loaded(folder, dtype), p, parts), rows[:BATCH], autocast)
    for dtype, autocast in FORMATS:
        model = by_the_library(loaded(folder, dtype))
        way = partial(trained_by_trainer, Rival(model, p, parts), rows, autocast)
        took = measured(partial(trained_by_trainer, Rival(model, p, parts), rows[:BATCH], autocast)).cpu
        ways.append((took, f"{dtype} weights{', bf16=True' if autocast else ''}", way))
    _, said, way = min(ways, key=lambda w: w[0])
    others = ", ".join(f"{name} {took:.1f} s" for took, name, _ in ways)
    return way, f"{said} (a batch: {others})"


def trained_by_trainer(model: Rival, rows: IntArray, bf16: bool) -> None:
    """One pass over ``rows`` in random order."""
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=BATCH, num_train_epochs=1, bf16=bf16,
            use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        data: Any = [{"rows": int(row)} for row in rows]
        Trainer(model, arguments, data_collator=_collated, train_dataset=data).train()


def _collated(chosen: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
    return {"rows": torch.tensor([one["rows"] for one in chosen])}


def gradient_gap(
    mine: SoftTokenLLM, plain: SoftTokenLLM, p: Prompts, rows: IntArray, parts: set[str], soft: bool
) -> float:
    """Largest difference of the gradients of some rows, without dropout, by the largest gradient."""
    found = []
    for model, loss in ((mine, language.loss_ours), (plain, reference_way.loss)):
        model.learn(parts)
        model.eval()
        loss(model, p, rows, soft).backward()
        found.append([q.grad.clone() for q in model.parameters() if q.grad is not None])
        model.zero_grad(set_to_none=True)
    scale = max(float(g.abs().max()) for g in found[1])
    return max(largest_gap(a, b) for a, b in zip(*found, strict=True)) / scale


def loaded(folder: str, dtype: str) -> SoftTokenLLM:
    """The model with LoRA as the package loads it, the same adapter in every format."""
    backbone = load_backbone(folder, dtype=dtype)
    add_lora(backbone, **LORA)
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.adapter_parameters():  # nothing would reach the rest from zeros
        parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    norm, wide = backbone.embedding_norm, backbone.hidden_size
    mapper = build_mapper("mlp", width=WIDTH, llm_width=wide, embedding_norm=norm)
    return SoftTokenLLM(backbone, mapper, 300, 301).eval()


def by_the_library(model: SoftTokenLLM) -> SoftTokenLLM:
    """The same with every layer's own ``forward``: transformers and peft as they come."""
    for module in model.backbone.modules():
        vars(module).pop("forward", None)
    model.backbone.causal.set_attn_implementation("sdpa")
    return model


def save(folder: str, shape: Mapping[str, Any]) -> None:
    """A model of this ``shape`` and of random weights, an ordinary folder in bf16 as SmolLM2 is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    causal = LlamaForCausalLM(LlamaConfig(**shape)).bfloat16()
    save_backbone(Backbone(causal, train_tokenizer(["Yes No"], 400)), Path(folder))
