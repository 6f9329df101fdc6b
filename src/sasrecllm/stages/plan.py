"""Strategies as data: a strategy is a tuple of stages, a stage says what learns, on what, from where.

Dual-stage training, hierarchical freezing and plug-and-play tuning are the paper's (arXiv
2507.05733); the schedules are ours where it is silent.  A user writes a strategy of his own in YAML
with the same fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.names import refuse_folder_name

PARTS = ("encoder", "adapter", "mapper", "fusion")
"""What can be trained, loaded and swapped on its own."""

LEARNABLE = {
    "encode": ({"encoder"},),
    "prior": ({"encoder"},),
    "answer": (
        {"adapter"},
        {"mapper"},
        {"adapter", "mapper"},
        {"encoder", "mapper"},
        {"encoder", "adapter", "mapper"},
    ),
    "fuse": ({"fusion"},),
}


def _one_of(stage: Stage, key: str, got: str, allowed: Any) -> None:
    if got not in allowed:
        raise ConfigError(
            f"stage {stage.name!r}: {key} is {got!r}; allowed: {', '.join(allowed)}"
            + did_you_mean(got, allowed),
            "use one of these",
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training.

    Args:
        name: also the name of its folder and, as ``row``, of its line in the results table.
        task: ``encode`` (the encoder on its own task), ``prior`` (its item vectors shrunk to what
            their titles say), ``answer`` (Yes/No by the LLM), ``fuse``
            (a calibrated sum of the logits, fitted on the validation split).
        train: the parts that learn; every other part is frozen, bit for bit, and in eval mode.
        prompt: ``text`` (no slots) or ``soft`` (user and item slots), for ``answer`` stages.
        vectors: ``crossfit`` (soft tokens of training rows come from encoders that never saw their
            user) or ``encoder`` (the live encoder; needed where the encoder learns).
        load: part -> run folder it is taken from, for plug-and-play; absent parts come from the
            stages before, or start fresh where none trained them.
        loop: settings of the training loop that differ from the configuration's.
        row: name of the table's row that this stage's model gets.
    """

    name: str
    task: str
    train: tuple[str, ...]
    prompt: str = "text"
    vectors: str = "crossfit"
    load: Mapping[str, str] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    row: str = ""

    def __post_init__(self) -> None:
        refuse_folder_name("the name of a stage", str(self.name))
        _one_of(self, "task", self.task, LEARNABLE)
        _one_of(self, "prompt", self.prompt, ("text", "soft"))
        _one_of(self, "vectors", self.vectors, ("crossfit", "encoder"))
        for part in (*self.train, *self.load):
            _one_of(self, "train/load", part, PARTS)
        if set(self.train) not in LEARNABLE[self.task]:
            allowed = "; ".join("[" + ", ".join(sorted(s)) + "]" for s in LEARNABLE[self.task])
            raise ConfigError(
                f"stage {self.name!r}: train is {list(self.train)} for task {self.task!r};"
                f" allowed: {allowed}",
                "change the stage's train or its task",
            )
        if "mapper" in self.train and self.prompt != "soft":
            raise ConfigError(
                f"stage {self.name!r}: train has mapper but prompt is 'text', which has no slots",
                "set the stage's prompt to soft",
            )
        if "encoder" in self.train and self.task == "answer" and self.vectors != "encoder":
            raise ConfigError(
                f"stage {self.name!r}: the encoder learns, but vectors is {self.vectors!r}",
                "set the stage's vectors to encoder",
            )


ENCODE = Stage("encoder", "encode", ("encoder",), row="SASRec")
PRIOR = Stage("prior", "prior", ("encoder",), row="SASRec + title prior")
TEXT = Stage("text", "answer", ("adapter",), prompt="text", row="text-only LLM")
MAP = Stage("mapper", "answer", ("mapper",), prompt="soft", row="SASRecLLM (mapper)")
JOINT = Stage(
    "joint",
    "answer",
    ("encoder", "adapter", "mapper"),
    prompt="soft",
    vectors="encoder",
    row="SASRecLLM (joint)",
)
SOFT = Stage("soft", "answer", ("adapter", "mapper"), prompt="soft", row="SASRecLLM")
FUSE = Stage("fusion", "fuse", ("fusion",), row="SASRecLLM + fusion")

STRATEGIES: dict[str, tuple[Stage, ...]] = {
    # The paper's three.
    "dual-stage": (ENCODE, TEXT, JOINT),
    "hierarchical-freezing": (ENCODE, TEXT, MAP, SOFT),
    "plug-and-play": (ENCODE, TEXT, MAP),
    # Building stages.
    "encoder-only": (ENCODE,),
    "text-only": (TEXT,),
    "mapper-only": (ENCODE, MAP),
    "joint": (ENCODE, JOINT),
}


def stages_of(
    strategy: str | list[dict[str, Any]],
    fusion: bool,
    encoder: str = "sasrec",
    prior: bool = False,
    llm_holdout_users: float = 0.0,
) -> tuple[Stage, ...]:
    """The stages of a strategy given by name or spelt out, with the fusion stage where it is on.

    Args:
        encoder: the encoder's kind; the shipped encoder stage's row is named after another one.
        prior: a prior stage follows the shipped encoder stage.
        llm_holdout_users: share of the training users that text-only stages leave to soft ones; the
            row of the shipped text-only stage then says how many it had.

    Raises:
        ConfigError: an unknown name, field or value; two stages of one name.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise ConfigError(
                f"strategy is {strategy!r}; allowed: {', '.join(STRATEGIES)}, or a list of stages"
                + did_you_mean(strategy, STRATEGIES),
                "choose one of these names",
            )
        stages = STRATEGIES[strategy]
    else:
        stages = tuple(_spelt_out(number, fields) for number, fields in enumerate(strategy, 1))
    if prior:
        stages = tuple(s for stage in stages for s in ((stage, PRIOR) if stage == ENCODE else (stage,)))
    if encoder != "sasrec":
        stages = tuple(
            replace(s, row=s.row.replace(ENCODE.row, encoder)) if s in (ENCODE, PRIOR) else s
            for s in stages
        )
    if llm_holdout_users and uses_crossfit(stages):
        row = f"{TEXT.row}, {1 - llm_holdout_users:.0%} of the users"
        stages = tuple(replace(s, row=row) if s == TEXT else s for s in stages)
    if fusion and not any(s.task == "fuse" for s in stages):
        stages = (*stages, FUSE)
    names = [s.name for s in stages]
    rows = [s.row for s in stages]
    if not names or len(set(names)) < len(names) or len(set(rows)) < len(rows):
        raise ConfigError(
            f"strategy has stages {names}", "give at least one stage, each its own name and row"
        )
    return stages


def uses_crossfit(stages: Iterable[Stage]) -> bool:
    """Whether a stage has cross-fitted soft tokens; only there users kept from the words are of use."""
    return any(s.task == "answer" and s.prompt == "soft" and s.vectors == "crossfit" for s in stages)


def last_prompt(stages: Iterable[Stage]) -> str:
    """Prompt of the last answer stage: what a fusion's language model is asked."""
    prompts = [s.prompt for s in stages if s.task == "answer"]
    return prompts[-1] if prompts else "text"


def _spelt_out(number: int, fields: dict[str, Any]) -> Stage:
    known = Stage.__dataclass_fields__
    for key in fields:
        if key not in known:
            raise ConfigError(
                f"strategy: stage {number} has the field {key!r}; allowed: {', '.join(known)}"
                + did_you_mean(key, known),
                "rename or remove the field",
            )
    missing = {"name", "task", "train"} - set(fields)
    if missing:
        raise ConfigError(
            f"strategy: stage {number} lacks {', '.join(sorted(missing))}", "add the fields"
        )
    values = dict(fields) | {"train": tuple(fields["train"])}
    return Stage(**({"row": fields["name"]} | values))
