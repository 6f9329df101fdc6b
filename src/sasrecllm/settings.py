"""Every setting once: its default, what it may be, and what it means.

docs/settings.md is made from these sections, and the components (encoders, mapper, adapter, offline
language model, fusion) have the same defaults, so a notebook without a configuration builds what YAML
would.  Where settings come from, and how a wrong one is refused, is :mod:`sasrecllm.config`'s business.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.durations import seconds_of
from sasrecllm.names import refuse_folder_name


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Data(Section):
    """Where the interactions come from and how they become questions."""

    source: str = Field(
        "known-world",
        description="known-world, ml-1m, ml-100k, ml-latest-small, amazon-books, two-table, files or"
        " frames (those that sasrecllm.fit was given)",
    )
    path: str | None = Field(None, description="file, folder or archive of the source")
    items_path: str | None = Field(None, description="file with item ids and titles (source: files)")
    columns: dict[str, str | None] = Field(
        default_factory=dict,
        description="our column name -> name in your file; null leaves out a column of our name",
    )
    order: Literal["auto", "time", "file"] = Field(
        "auto",
        description="auto: by the order column, else by time, else as the file stands; time: by time,"
        " an order column breaks ties only; file: as the file stands, which breaks all other ties too",
    )
    repeats: Literal["auto", "keep", "first", "last", "refuse"] = Field(
        "auto",
        description="rows of one user, item and moment: keep all, the first or the last of the file, or"
        " refuse them; auto: last for ratings, else keep",
    )
    feedback: Literal["auto", "labels", "ratings", "implicit"] = Field(
        "auto",
        description="auto: labels where there is a label column, ratings likewise, else implicit",
    )
    threshold: float = Field(4.0, description="a rating of this or more is a like")
    split: str = Field("auto", description="auto, given, global-time, leave-one-out, collm or tallrec")
    split_args: dict[str, Any] = Field(
        default_factory=dict,
        description="global-time: valid and test as shares or UTC dates; given: last=true asks only"
        " about each user's last row of a split; leave-one-out: likes=true leaves out likes, and users"
        " with fewer than least only train",
    )
    seed: int | None = Field(
        None, ge=0, description="of the world, held-out shares and negatives; null: the run's seed"
    )
    negatives: int = Field(4, ge=1, description="implicit feedback: sampled negatives per positive")
    cold_items: float = Field(
        0.0, ge=0, le=0.5, description="share of the items that training and validation never see"
    )
    cold_users: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of the users who are never trained or validated on; their earlier rows"
        " are the history of their own test rows",
    )
    on_bad_rows: Literal["refuse", "quarantine"] = Field(
        "refuse", description="quarantine: set refused rows aside with their reasons, and go on"
    )
    words: dict[str, str] = Field(
        default_factory=dict, description="domain words of the prompt: item, items, consumed"
    )
    world: dict[str, Any] = Field(default_factory=dict, description="parameters of known-world")

    @field_validator("columns", mode="before")
    @classmethod
    def _flat(cls, columns: Any) -> Any:
        """``items: {item_id: ...}`` is another way to write ``items.item_id: ...``."""
        if not isinstance(columns, dict):
            return columns
        nested = columns.get("items")
        if isinstance(nested, dict):
            own = {f"items.{key}": value for key, value in nested.items()}
            columns = {key: value for key, value in columns.items() if key != "items"} | own
        # {user_id: 0} is the column "0".
        return {key: str(value) if type(value) is int else value for key, value in columns.items()}


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
    patience: int = Field(3, ge=0, description="validations without a better value; 0: no early stop")
    evals_per_epoch: int = Field(1, ge=1, description="validations of an epoch")
    save_every: int = Field(200, ge=0, description="steps between checkpoints; 0: at validations only")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="arithmetic; bf16: autocast")

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
    save_every: int = _other("save_every", 0)


class LoopSettings(Loop):
    """A training loop and its seed: the order of the rows, dropout and sampling follow from it."""

    seed: int = Field(0, ge=0, description="of every random draw")


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
    prior: Literal["none", "titles"] = Field("titles", description="titles: rare items borrow by words")
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
    folds: int = Field(4, ge=0, description="cross-fitted encoders for the LLM stages; 0 for none")
    args: dict[str, Any] = Field(default_factory=dict, description="arguments of a class of your own")
    loop: EncoderLoop = Field(EncoderLoop(), description="its training")


class Lora(Section):
    """LoRA through peft; the defaults are the paper's."""

    r: int = Field(8, ge=1, description="rank")
    alpha: int = Field(16, ge=1, description="scale: the update is multiplied by alpha / r")
    dropout: float = Field(0.05, ge=0, lt=1, description="on the adapter's input, in training")
    targets: list[str] | None = Field(None, description="module names; null: the family's own row")


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
    dtype: Literal["fp32", "bf16"] = Field("fp32", description="in which its weights are held")
    quantize: Literal["none", "nf4"] = Field("none", description="nf4: 4 bits, by bitsandbytes")
    lora: Lora = Field(Lora(), description="the adapter")
    offline: Offline = Field(Offline(), description="the model that is built where backbone is offline")
    text_prompt: str = Field(
        "auto",
        description="template name or path; auto: short-text for the model that the run builds,"
        " paper-text for a pretrained one",
    )
    soft_prompt: str = Field("auto", description="likewise; auto: short-soft or paper-soft")
    history: int = Field(10, ge=1, description="newest liked titles in the prompt")
    title_tokens: int = Field(48, ge=1, description="longest title in tokens; the rest is cut")
    max_tokens: int = Field(1024, ge=32, description="longest prompt; the oldest titles go first")
    score_batch: int = Field(128, ge=1, description="prompts scored at once")
    loop: Loop = Field(Loop(), description="training of the stages that answer questions")


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
        description="log-odds that the words of an item without a training row may add to its score, or"
        " take from it; null: no bound",
    )
    components: list[str] = Field(
        default_factory=lambda: ["llm", "encoder", "item quality", "user preference", "steady level"],
        description="summands: llm, encoder, and baselines by name",
    )


class NextItem(Section):
    """The next-item encoder: the run's kind of encoder, trained on likes to say what is liked next."""

    seconds: float = Field(
        120,
        gt=0,
        description="what its training may cost: seconds of a core that does 10 billion operations in"
        " one, counted and not clocked, so that the number of steps depends on the data alone",
    )
    loop: NextItemLoop = Field(NextItemLoop(), description="its training")


CHANNELS = (
    "popularity",
    "recent popularity",
    "EASE",
    "fading EASE",
    "sequence rules",
    "sequence cosine",
    "ItemKNN",
    "Markov chain",
    "ALS",
    "title words",
    "repeats",
    "next-item encoder",
)
"""What can fill lists of its own (runs/channels.py)."""


class Lists(Section):
    """What orders the lists of ``recommend``: a fusion of channels (baselines/list_fusion.py)."""

    enabled: bool = Field(True, description="false: lists are ordered by P(like) alone")
    channels: list[str] = Field(
        default_factory=lambda: list(CHANNELS),
        description="what may fill lists; those that the data cannot have are left out",
    )
    best: int = Field(50, ge=1, description="items of every channel that compete for a validation like")
    ridge: float = Field(10.0, gt=0, description="penalty on the squared weights, in likes")
    likes: int = Field(
        2000, ge=1, description="validation likes that the weights are fitted on, at most"
    )
    explore: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="share of a list's places that items which nobody has liked yet have at least,"
        " where one stands among the first `best`: 0.1 is every tenth place, 0 only those they win",
    )
    rerank: bool = Field(
        True,
        description="weigh the run's own P(like) as one more channel, for the best of the others alone;"
        " a language model is asked within a tenth of the run's prompts",
    )
    next_item: NextItem = Field(NextItem(), description="the encoder among the channels")

    @field_validator("channels")
    @classmethod
    def _known(cls, channels: list[str]) -> list[str]:
        for name in channels:
            if name not in CHANNELS:
                raise ValueError(
                    f"there is no channel {name!r}; allowed: {', '.join(CHANNELS)}"
                    + did_you_mean(name, CHANNELS)
                )
        if not channels:
            raise ValueError("no channel is left; name popularity, or set lists.enabled: false")
        return list(dict.fromkeys(channels))


class ItemFeatures(Section):
    """What describes an item to the user regression and to the title prior (baselines/features.py)."""

    attributes: list[str] = Field(
        default_factory=list, description="columns of the items table, genres say; values split at |"
    )
    words: int = Field(256, ge=0, description="most frequent title words that count; 0 for none")
    vectors: str | None = Field(
        None,
        description="file with a vector of every item (data.md), for the title prior: of an encoder of"
        " sentences, say",
    )


class Ranking(Section):
    """Lists of one liked test item against others (docs/protocol.md)."""

    when: Literal["auto", "always", "never"] = Field(
        "auto",
        description="auto: the whole catalogue, by the language model in a tenth of the run's time, and"
        " drawn others where the feedback is implicit; always: all of them; never: no lists",
    )
    users: int = Field(
        1000,
        ge=1,
        description="at most so many seeded lists of the whole catalogue, of as many users as possible",
    )
    negatives: int = Field(100, ge=0, description="fixed seeded others per list; 0: no such lists")
    rerank: int = Field(
        100, ge=0, description="the encoder's best so many are reranked by each later row; 0: none"
    )


class Recommend(Section):
    """What may be recommended."""

    seen: Literal["auto", "exclude", "allow"] = Field(
        "auto",
        description="items that the user has met before; auto: allow where at least a fifth of the"
        " training rows are on such items (music, groceries), else exclude",
    )


class Evaluation(Section):
    """How results are measured."""

    resamples: int = Field(1000, ge=100, description="user-bootstrap resamples")
    metrics: list[str] = Field(default_factory=list, description="more, as package.module:function")
    ablations: bool = Field(True, description="score the last row with one thing taken away, too")
    ranking: Ranking = Field(Ranking(), description="lists over drawn others and the whole catalogue")
    baselines: list[str] = Field(
        default_factory=list,
        description="rows beside the trivial: ItemKNN say, or package.module:Class",
    )


class Config(Section):
    """A complete run."""

    name: str = Field("", description="of the run, in its report; without one its folder's name")
    budget: str = Field(
        "",
        description="what the run may take on this machine, 90s, 15m or 1h30m say; to end near it, it"
        " chooses what nobody named (docs/recipes.md); empty: as long as it takes",
    )
    quick: bool = Field(
        False,
        description="no language model and one small encoder: lists in a minute; the same run without"
        " it goes on from there",
    )
    chosen: dict[str, Any] = Field(
        default_factory=dict,
        description="written by the run: what it chose for what nobody named (docs/recipes.md)",
    )
    seed: int = Field(0, ge=0, description="of every random draw")
    device: str = Field("auto", description="auto, cpu or cuda")
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch's own choice")
    track: Literal["none", "tensorboard", "mlflow", "wandb"] = Field(
        "none", description="who else hears of losses, validations and the table; may change in a run"
    )
    data: Data = Field(Data(), description="the log and the items")
    encoder: Encoder = Field(Encoder(), description="the collaborative encoder")
    llm: LLM = Field(LLM(), description="the language model")
    mapper: Mapper = Field(Mapper(), description="from encoder vectors to soft tokens")
    strategy: str | list[dict[str, Any]] = Field(
        "hierarchical-freezing",
        description="dual-stage, hierarchical-freezing, plug-and-play, encoder-only, text-only,"
        " mapper-only, joint, no-network, or a list of stages (docs/extending.md)",
    )
    item_features: ItemFeatures = Field(
        ItemFeatures(), description="what describes an item to the user regression and the title prior"
    )
    fusion: Fusion = Field(Fusion(), description="the sum of all scores")
    lists: Lists = Field(Lists(), description="what orders the lists of recommend")
    recommend: Recommend = Field(Recommend(), description="what may be recommended")
    evaluation: Evaluation = Field(Evaluation(), description="how results are measured")

    @field_validator("budget", mode="before")
    @classmethod
    def _is_a_duration(cls, budget: Any) -> Any:
        if budget != "":
            seconds_of(budget)
        return budget

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not name:
            return name
        try:
            refuse_folder_name("name", name)
        except ConfigError as error:
            raise ValueError(f"{error.what}; {error.remedy}") from None
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.encoder.width % self.encoder.heads:
            raise ValueError(
                f"encoder.width {self.encoder.width} is not a multiple of encoder.heads"
                f" {self.encoder.heads}"
            )
        named = isinstance(self.strategy, str)  # else its stages may have a prior of their own
        if self.item_features.vectors is not None and named and self.encoder.prior != "titles":
            raise ValueError(
                "item_features.vectors is for the title prior, but encoder.prior is"
                f" {self.encoder.prior}; set encoder.prior=titles, or leave the vectors out"
            )
        if self.encoder.item_updates == "touched" and self.encoder.loss == "softmax":
            raise ValueError(
                "encoder.item_updates is touched, but encoder.loss softmax touches every item;"
                " allowed with it: auto, all"
            )
        return self
