"""Settings of the training loop, one group for everything that is trained by it."""

from __future__ import annotations

from copy import copy
from typing import Any, Literal

from pydantic import Field

from sasrecllm.settings.section import Section


class Loop(Section):
    """The training loop: AdamW, linear warm-up, cosine decay, early stopping on validation."""

    epochs: int = Field(3, ge=1, description="passes over the rows, each in another order")
    max_steps: int = Field(0, ge=0, description="steps at most; 0: the epochs decide")
    batch_size: int = Field(
        16, ge=1, description="examples of one optimiser step, over all processes and micro-batches"
    )
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    min_lr: float = Field(8e-5, ge=0, description="learning rate of the last step (cosine)")
    warmup_steps: int = Field(200, ge=0, description="steps to the peak rate; at most a fifth of all")
    weight_decay: float = Field(1e-3, ge=0, description="of AdamW, on matrices only")
    accumulate: int = Field(1, ge=1, description="micro-batches of a step, which need less memory")
    micro_tokens: int = Field(
        0, ge=0, description="largest micro-batch in tokens, padding included; 0: as accumulate has it"
    )
    patience: int = Field(3, ge=0, description="validations without a better value; 0: no early stop")
    evals_per_epoch: int = Field(1, ge=1, description="validations of an epoch")
    save_every: int = Field(200, ge=0, description="steps between checkpoints; 0: at validations only")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="arithmetic; bf16: autocast, on a CPU where no weights are bf16 already"
    )

    def seeded(self, seed: int) -> LoopSettings:
        """These settings with the seed of a run."""
        return LoopSettings(**self.model_dump(), seed=seed)


def _other(name: str, default: Any) -> Any:
    """A setting of the loop with another default; who names one setting of a loop keeps the rest."""
    field = copy(Loop.model_fields[name])
    field.default = default
    return field


class EncoderLoop(Loop):
    """The encoder's training loop."""

    epochs: int = _other("epochs", 30)
    warmup_steps: int = _other("warmup_steps", 50)
    patience: int = _other("patience", 4)
    save_every: int = _other("save_every", 0)


class TitlesLoop(Loop):
    """The offline language model's first training loop."""

    epochs: int = _other("epochs", 1)
    batch_size: int = _other("batch_size", 32)
    lr: float = _other("lr", 1.5e-3)
    warmup_steps: int = _other("warmup_steps", 40)
    patience: int = _other("patience", 0)


class AnswersLoop(TitlesLoop):
    """The offline language model's second training loop."""

    patience: int = _other("patience", 2)
    evals_per_epoch: int = _other("evals_per_epoch", 4)


class NextItemLoop(Loop):
    """The next-item encoder's training loop."""

    epochs: int = _other("epochs", 60)
    batch_size: int = _other("batch_size", 64)
    lr: float = _other("lr", 2e-3)
    min_lr: float = _other("min_lr", 2e-4)
    warmup_steps: int = _other("warmup_steps", 50)
    patience: int = _other("patience", 10)
    save_every: int = _other("save_every", 0)


class LoopSettings(Loop):
    """A training loop and its seed: the order of the rows, dropout and sampling follow from it."""

    seed: int = Field(0, ge=0, description="of every random draw")
