"""What is trained for P(like): encoder, language model, mapper, fusion; and features of items."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sasrecllm.settings.loops import AnswersLoop, EncoderLoop, Loop, TitlesLoop
from sasrecllm.settings.section import Section


class Encoder(Section):
    """The collaborative encoder and how it is trained."""

    kind: str = Field("sasrec", description="sasrec, gru4rec, mf, ncf, or package.module:Class")
    width: int = Field(64, ge=1, description="size of user and item vectors")
    blocks: int = Field(2, ge=1, description="attention blocks, or recurrent layers")
    heads: int = Field(1, ge=1, description="attention heads; width is a multiple of it")
    length: int = Field(25, ge=1, description="newest history entries that are read")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of activations dropped in training")
    likes_only: bool = Field(True, description="false: dislikes are read too, with their feedback")
    item_bias: bool = Field(True, description="a learnt popularity of each item in the logit")
    user_bias: bool = Field(False, description="a learnt level of each user in the logit")
    prior: Literal["none", "titles"] = Field(
        "titles",
        description="titles: vectors of rare items are drawn to those of items with like words",
    )
    loss: str = Field(
        "bce",
        description="bce learns likes against dislikes of the log; softmax, sampled-softmax and gbce"
        " learn the next like against the catalogue or sampled items; or package.module:LOSS",
    )
    negatives: int = Field(64, ge=1, description="sampled items of sampled-softmax and gbce")
    item_updates: Literal["auto", "all", "touched"] = Field(
        "auto",
        description="touched: a step moves the items of its batch alone; auto: touched from 100,000"
        " items on, in one process and without a full softmax",
    )
    folds: int = Field(
        4, ge=0, description="cross-fitted encoders for the LLM stages, two at least; 0 for none"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="arguments of a class of your own")
    loop: EncoderLoop = Field(EncoderLoop(), description="its training")

    @field_validator("folds")
    @classmethod
    def _others_are_left(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("is 1: of a single fold no user is left to train on; 0 for none, or 2")
        return folds


class Lora(Section):
    """LoRA through peft; the defaults are the paper's."""

    r: int = Field(8, ge=0, description="rank; 0: no adapter, all weights of the model learn")
    alpha: int = Field(16, ge=1, description="scale: the update is multiplied by alpha / r")
    dropout: float = Field(0.05, ge=0, lt=1, description="on the adapter's input, in training")
    targets: list[str] | None = Field(
        None, description="module names, or [all-linear]; null: the family's own row"
    )


class Offline(Section):
    """The small language model that is built where no pretrained one can be had."""

    vocabulary: int = Field(2000, ge=300, description="tokens of its byte-level BPE tokenizer")
    width: int = Field(128, ge=8, description="hidden size")
    layers: int = Field(2, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads")
    positions: int = Field(512, ge=32, description="longest prompt it can read, in tokens")
    documents: int = Field(13000, ge=20, description="documents of each of the two phases")
    history: int = Field(10, ge=1, description="titles in one document's history")
    answered: int = Field(8, ge=1, description="answered targets in a document of the second phase")
    titles_loop: TitlesLoop = Field(
        TitlesLoop(), description="training on liked titles, the first phase"
    )
    answers_loop: AnswersLoop = Field(
        AnswersLoop(), description="training on answered questions, the second phase"
    )


class LLM(Section):
    """The language model, its adapter and its prompts."""

    backbone: str = Field(
        "offline",
        description="offline, a hub id, a local folder, a .gguf file, PACKAGE:PATH of one inside an"
        " installed package, or package.module:function that returns a folder",
    )
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "fp32",
        description="number format of its weights; auto: bf16 if this machine multiplies faster in it,"
        " which a run tries once; fp32 for the model that it builds and where all weights learn",
    )
    quantize: Literal["none", "nf4"] = Field("none", description="nf4: 4 bits, by bitsandbytes")
    lora: Lora = Field(Lora(), description="the adapter")
    checkpointing: bool = Field(
        False,
        description="training keeps the input of each block alone and computes the rest again: less"
        " memory, more time",
    )
    offline: Offline = Field(Offline(), description="the model that is built where backbone is offline")
    text_prompt: str = Field(
        "auto",
        description="template name or path; auto: short-text for the model that the run builds,"
        " paper-text for a pretrained one; question-first-text: fewer tokens a candidate",
    )
    soft_prompt: str = Field("auto", description="likewise; auto: short-soft or paper-soft")
    chat: Literal["auto", "off"] = Field(
        "auto",
        description="auto: the prompt is a user's message in the model's chat template, if it has one",
    )
    history: int = Field(10, ge=1, description="newest liked titles in the prompt")
    history_step: int = Field(
        1,
        ge=1,
        description="titles by which that window moves on: of 5 it holds up to 4 more, and questions of"
        " one user begin alike, which is then read once; where the prompt lists {events}, a window is"
        " one example of loop.batch_size, with every question that stands in it",
    )
    title_tokens: int = Field(48, ge=1, description="longest title in tokens; the rest is cut")
    max_tokens: int = Field(1024, ge=32, description="longest prompt; the oldest titles go first")
    score_batch: int = Field(128, ge=1, description="prompts scored at once")
    validation_users: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the validation users whose questions choose the best state of an answer"
        " stage; what is measured of it is measured on all",
    )
    loop: Loop = Field(Loop(), description="training of the stages that answer questions")

    @model_validator(mode="after")
    def _auto_is_no_name(self) -> LLM:
        """Who asks for ``dtype: auto`` leaves it to the run, as who names none of its choices does."""
        if self.dtype == "auto":
            self.model_fields_set.discard("dtype")
        return self

    @field_validator("chat", mode="before")
    @classmethod
    def _off_is_a_word(cls, chat: Any) -> Any:
        return "off" if chat is False else chat  # YAML reads the bare word so


class Mapper(Section):
    """Encoder vectors to soft tokens."""

    kind: Literal["mlp", "linear"] = Field("mlp", description="mlp: linear, ReLU, linear (the paper's)")
    tokens: int = Field(1, ge=1, description="soft tokens per slot")
    hidden: int = Field(320, ge=1, description="width of the mlp's middle layer")
    encoder_logit: bool = Field(
        False,
        description="the item's slot reads the encoder's logit of user and item too, not only a vector",
    )
    cold_item_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training targets that are shown as an item without training rows is",
    )
    llm_holdout_users: float = Field(
        0.0,
        ge=0,
        le=0.8,
        description="share of the training users kept from the offline language model and text stages;"
        " stages with cross-fitted soft tokens then learn from these users alone",
    )
    new_items: Literal["vector", "no slot"] = Field(
        "vector", description="an item without a training row: the encoder's vector for it, or no slot"
    )


class Fusion(Section):
    """Calibrated sum of the logits of the LLM, the encoder and the bias terms."""

    enabled: bool = Field(True, description="end the strategy with a fusion of all scores")
    pairwise: float = Field(0.3, ge=0, description="weight of the within-user ranking loss")
    new_item_words: float | None = Field(
        1.5,
        gt=0,
        description="most that the words of an item without a training row may add to its score, or"
        " take from it, in log-odds; null: no bound",
    )
    components: list[str] = Field(
        default_factory=lambda: ["llm", "encoder", "item quality", "user preference", "steady level"],
        description="summands: llm, encoder, and baselines by name",
    )


READ_TITLES = "backbone"
"""What ``item_features.vectors`` may be beside the name of a file."""


class ItemFeatures(Section):
    """What describes an item to the user regression and to the title prior (baselines/features.py)."""

    attributes: list[str] = Field(
        default_factory=list,
        description="columns of the items table, for example genres; values split at |",
    )
    words: int = Field(256, ge=0, description="most frequent title words that count; 0 for none")
    vectors: str | None = Field(
        None,
        description="for the title prior and for lists: file with a vector of every item (data.md), for"
        " example of an encoder of sentences; or backbone: llm.backbone, a pretrained one, reads the"
        " titles",
    )

    @property
    def file(self) -> str | None:
        """The file that vectors come from, if any."""
        return None if self.vectors == READ_TITLES else self.vectors
