"""Strategies as data: a strategy is a tuple of stages, a stage says what learns, on what, from where.

Dual-stage training, hierarchical freezing and plug-and-play tuning are the paper's (arXiv
2507.05733); the schedules are ours where it is silent.  A user writes a strategy of his own in YAML
with the same fields.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from sasrecllm.config import explained
from sasrecllm.encoders.table import ENCODERS
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.runs.channels import NEXT_ITEM as NEXT_ITEM_CHANNEL
from sasrecllm.settings import Config
from sasrecllm.settings.loops import Loop
from sasrecllm.settings.section import Section
from sasrecllm.stages.fuse import Fuse
from sasrecllm.stages.kind import Stage, Stages
from sasrecllm.stages.kinds import KINDS, kind_of
from sasrecllm.stages.user_partition import uses_crossfit

__all__ = [
    "STRATEGIES",
    "Stage",
    "Stages",
    "all_stages",
    "asks_language_model",
    "planned",
    "stages_of",
]

ENCODE = Stage("encoder", KINDS["encode"], ("encoder",), row="{encoder}")
PRIOR = Stage("prior", KINDS["title_prior"], ("encoder",), row="{encoder} + title prior")
TEXT = Stage("text", KINDS["answer"], ("adapter",), prompt="text", row="text-only LLM{users}")
MAP = Stage("mapper", KINDS["answer"], ("mapper",), prompt="soft", row="SASRecLLM (mapper)")
JOINT = Stage(
    "joint",
    KINDS["answer"],
    ("encoder", "adapter", "mapper"),
    prompt="soft",
    vectors="encoder",
    row="SASRecLLM (joint)",
)
SOFT = Stage("soft", KINDS["answer"], ("adapter", "mapper"), prompt="soft", row="SASRecLLM")
FUSE = Stage("fusion", KINDS["fuse"], ("fusion",), row="SASRecLLM + fusion")
FUSE_BASELINES = Stage("fusion", KINDS["fuse"], ("fusion",), row="fusion without a network")
NEXT_ITEM = Stage("next_item", KINDS["next_item"], ("next_item",))
LISTS = Stage("lists", KINDS["fuse_lists"], ("list_fusion",))

QUICK = "no-network"
"""What a quick run trains before its lists, whatever the strategy of the whole run is."""
STRATEGIES: dict[str, tuple[Stage, ...]] = {
    # The paper's three.
    "dual-stage": (ENCODE, TEXT, JOINT),
    "hierarchical-freezing": (ENCODE, TEXT, MAP, SOFT),
    "plug-and-play": (ENCODE, TEXT, MAP),
    # Building stages.
    "encoder-only": (ENCODE,),
    "text-only": (TEXT,),
    "text-beside-encoder": (ENCODE, TEXT),
    "mapper-only": (ENCODE, MAP),
    "joint": (ENCODE, JOINT),
    QUICK: (FUSE_BASELINES,),
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
        encoder: the encoder's kind, after which the shipped encoder stage's row is named.
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
    if fusion and not any(isinstance(s.kind, Fuse) for s in stages):
        stages = (*stages, FUSE)
    kept = llm_holdout_users and uses_crossfit({s.name: s for s in stages})
    row = {
        "{encoder}": (ENCODERS[encoder].label if encoder in ENCODERS else "") or encoder,
        "{users}": f", {1 - llm_holdout_users:.0%} of the users" if kept else "",
    }
    stages = tuple(replace(s, row=_filled(s.row, row)) for s in stages)
    _refuse_alike(stages)
    return stages


def _refuse_alike(stages: tuple[Stage, ...]) -> None:
    names, with_row = [s.name for s in stages], [s for s in stages if s.kind.has_row]
    if not with_row:
        raise ConfigError(
            f"strategy: none of its stages ({', '.join(names) or 'it has none'}) ends with a row of the"
            " table",
            "add one that says P(like): a task of encode, answer or fuse",
        )
    for what, values in (("name", names), ("row", [s.row for s in with_row])):
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"strategy: two stages have the {what} {twice!r}; a run adds stages of its own, so its"
                f" {what}s are {', '.join(values)}",
                f"give each stage another {what}",
            )


def all_stages(config: Config) -> Stages:
    """Name -> stage of a run, in order: those that end with a row of the table, then those of lists.

    Raises:
        ConfigError: the strategy is wrong.
    """
    c = config.encoder
    stages = stages_of(
        QUICK if config.quick else config.strategy,
        config.fusion.enabled,
        c.kind,
        c.prior == "titles",
        config.mapper.llm_holdout_users,
    )
    if config.lists.enabled and not any(s.kind is LISTS.kind for s in stages):
        needed = NEXT_ITEM_CHANNEL in config.lists.channels
        trained = any(s.kind is NEXT_ITEM.kind for s in stages)
        stages += (NEXT_ITEM, LISTS) if needed and not trained else (LISTS,)
        _refuse_alike(stages)
    return {s.name: s for s in sorted(stages, key=lambda s: not s.kind.has_row)}


def planned(config: Config) -> Stages:
    """Name -> stage of those that end with a row of the table, in order.

    Raises:
        ConfigError: the strategy is wrong.
    """
    return {name: s for name, s in all_stages(config).items() if s.kind.has_row}


def asks_language_model(config: Config) -> bool:
    """Whether any stage of a run asks the language model; an encoder alone builds none."""
    return any(s.kind.asks_language_model for s in planned(config).values())


def _filled(row: str, values: dict[str, str]) -> str:
    for place, text in values.items():
        row = row.replace(place, text)
    return row


class _Spelt(Section):
    """A stage in YAML: the types of its fields, and of its loop those of every loop."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
    name: str
    task: str
    train: tuple[str, ...]
    prompt: str = "text"
    vectors: str = "crossfit"
    load: dict[str, str] = Field(default_factory=dict)
    loop: Loop = Loop()
    row: str = ""


def _spelt_out(number: int, given: dict[str, Any]) -> Stage:
    try:
        of = _Spelt.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            f"strategy: stage {number}: {explained(error, _Spelt)}", "correct the stage"
        ) from None
    kind = kind_of(of.task, of.name)
    return Stage(
        of.name, kind, of.train, of.prompt, of.vectors, of.load, given.get("loop") or {},
        of.row if "row" in given else of.name if kind.has_row else "",
    )  # fmt: skip
