"""``budget``: what a run leaves out, shortens or enlarges to end near a given time.

A plain function of what everything would cost; who measures that is :mod:`.timing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sasrecllm.machine.durations import seconds_of
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.runs.channels import NEXT_ITEM
from sasrecllm.runs.choice import is_named, value_at
from sasrecllm.runs.language_model import is_own
from sasrecllm.settings import Config
from sasrecllm.stages.recipe import Rule
from sasrecllm.stages.strategies import QUICK, STRATEGIES, asks_language_model
from sasrecllm.stages.timing import RunTime, StageTime
from sasrecllm.stages.user_partition import uses_crossfit

FEWEST_STEPS = 60
"""Steps of a stage below which the language model learns nothing."""
FEWEST_DOCUMENTS = 2000
"""Documents below which the offline language model knows no words."""
LEAST_SHARE = 0.1
"""Share of the usual passes below which an encoder is left out."""
MOST_PASSES = 3
"""Passes of the language model over its rows, or over documents, at most."""
LITTLE = 0.3
"""Share of the usual training below which a smaller language model, or none, is the better choice."""
STEP, HISTORY_STEP = "llm.history_step", 5
"""Titles by which a prompt's window moves on where a pretrained model would else learn too little."""
FOLDS = 2
"""Cross-fitted encoders where more would cost too much."""
FOLDS_SHARE = 0.3
"""Of the time for the language model that cross-fitting may take before it does with fewer."""


class Size(NamedTuple):
    """A size of the offline language model.

    Args:
        cost: of reading, as a multiple of the default's.
    """

    width: int
    layers: int
    cost: float


SIZES = (Size(64, 2, 0.4), Size(128, 2, 1.0), Size(192, 3, 2.6), Size(256, 4, 5.3))
"""Operations of the blocks to the power of .8: small matrices are multiplied at a lower rate
(docs/performance.md, growth)."""
USUAL = 1
"""The place of the default among them."""


@dataclass(frozen=True)
class Asked:
    """What is to be fitted in.

    Args:
        left: seconds that are left of the budget.
        config: the settings with the run's recipe.
        named: the settings as they were named; what stands there is not touched.
    """

    left: float
    config: Config
    named: Config

    def free(self, key: str) -> bool:
        """Whether nobody named the dotted ``key``."""
        return not is_named(self.named, key)


def fit_in(config: Config, named: Config, spent: float, measure: Callable[..., RunTime]) -> list[Rule]:
    """What to choose so that the run ends near ``config.budget``; each with its reason.

    Args:
        config: the settings with the run's recipe.
        named: as they were named.
        spent: seconds that are gone already, without measuring.
        measure: what everything costs, with the language model (True) or without, and with further
            settings, by their dotted keys.
    """
    asked = Asked(seconds_of(config.budget) - spent, config, named)
    may_leave_out = asked.free("strategy")
    plain = measure(False)
    rest = asked.left - plain.seconds
    if not asks_language_model(config):
        return _without(asked, plain)
    if may_leave_out and rest < LEAST_SHARE * asked.left:
        why = f"all else takes about {readable_seconds(plain.seconds)}"
        return [_left_out(why), *_without(asked, plain)]
    full = measure(True)
    rules, least = _language(asked, full)
    open_ = not is_own(config) and config.llm.history_step == 1 and asked.free(STEP)
    if open_ and _trained(rules, full) < LITTLE:
        full_in_steps = measure(True, {STEP: HISTORY_STEP})
        in_steps, least_in_steps = _language(asked, full_in_steps)
        if in_steps is not None and _trained(in_steps, full_in_steps) > _trained(rules, full):
            why = "one user's questions begin alike, which is read once"
            rules, least = [Rule(why, {STEP: HISTORY_STEP}), *in_steps], least_in_steps
    if rules is not None:
        return rules
    if not may_leave_out:
        return [_too_small(least)]
    why = f"with it the run takes at least about {readable_seconds(least)}"
    return [_left_out(why), *_without(asked, plain)]


def _trained(rules: list[Rule] | None, full: RunTime) -> float:
    """Share of the usual training that ``rules`` leave to a pretrained model; 0 without one."""
    if rules is None:
        return 0.0
    steps = [rule.values["llm.loop.max_steps"] for rule in rules if "llm.loop.max_steps" in rule.values]
    return steps[0] / _usual_steps(full) if steps else 1.0


def _usual_steps(full: RunTime) -> int:
    """Of the shortest stage that teaches the language model; 0 where it is only asked."""
    return min((s.steps for s in full.stages.values() if s.asks and s.steps), default=0)


def _left_out(why: str) -> Rule:
    return Rule(f"no language model, {why}", {"strategy": "encoder-only"})


def _too_small(cost: float) -> Rule:
    said = f"too small for this data: the run takes about {readable_seconds(cost)}"
    return Rule(f"{said}, and nothing more can be left out", {})


# Without a language model ---------------------------------------------------------------------------


def _without(asked: Asked, plain: RunTime) -> list[Rule]:
    """The encoders in what is left beside channels and judging; none where that is too little."""
    networks = {n: replace(s, copies=min(1, s.copies)) for n, s in plain.stages.items() if s.steps}
    training = sum(stage.once for stage in networks.values())
    fixed = plain.judging + sum(stage.other for stage in plain.stages.values())
    total = fixed + training
    if total <= asked.left:
        return [_ends(total)]
    share = (asked.left - fixed) / training if training else 0.0
    if share >= LEAST_SHARE:
        values = _shortened(asked.config, share)
        return [Rule(f"{share:.0%} of the usual training of the encoders fits", values)]
    values = {}
    if asked.free("strategy"):
        values["strategy"] = QUICK
    if asked.free("lists.channels"):
        values["lists.channels"] = [name for name in asked.config.lists.channels if name != NEXT_ITEM]
    rules = [Rule(f"no encoder, whose training takes about {readable_seconds(training)}", values)]
    if fixed > asked.left:
        users = max(100, int(asked.config.evaluation.ranking.users * asked.left / fixed))
        rules.append(Rule("fewer lists are judged", {"evaluation.ranking.users": users}))
        rules.append(_too_small(fixed))
    return rules


def _shortened(config: Config, share: float) -> dict[str, Any]:
    encoder, lists = config.encoder.loop, config.lists.next_item
    return {
        "encoder.loop.epochs": max(1, round(share * encoder.epochs)),
        # Whichever of the two ends its training.
        "lists.next_item.loop.epochs": max(1, round(share * lists.loop.epochs)),
        "lists.next_item.seconds": round(share * lists.seconds, 1),
    }


def _ends(seconds: float) -> Rule:
    return Rule(f"the run takes about {readable_seconds(seconds)}", {})


# With a language model ------------------------------------------------------------------------------


class Lever(NamedTuple):
    """What a run with a language model can do without.

    Args:
        was: the values of ``key`` that are given up for ``value``.
        own: whether the language model that a run builds does without it too; its stages are cheap.
    """

    key: str
    was: tuple[Any, ...]
    value: Any
    why: str
    own: bool = False


DRAWN, CHECKED = "evaluation.ranking.negatives", "llm.loop.evals_per_epoch"
LEVERS = (
    Lever("evaluation.ablations", (True,), False, "no ablations", own=True),
    Lever(DRAWN, (), 0, "no lists among drawn items, by any row"),
    Lever("strategy", ("hierarchical-freezing",), "plug-and-play", "one soft stage"),
    Lever("strategy", ("plug-and-play",), "text-beside-encoder", "words beside the encoder, fused"),
    Lever(CHECKED, (), 1, "one validation a pass"),
)
"""In the order in which they are given up, each with those before it."""


class Way(NamedTuple):
    """A size, what is given up, and how much of the usual training makes it worth while."""

    size: Size
    given_up: tuple[Lever, ...]
    least: float

    @property
    def values(self) -> dict[str, Any]:
        """Settings of what is given up."""
        return {lever.key: lever.value for lever in self.given_up}


def _ways(asked: Asked, full: RunTime) -> list[Way]:
    """The best first: a larger model only where its usual training fits."""
    keys = ("llm.offline.width", "llm.offline.layers", "llm.offline.heads", "llm.backbone")
    usual, own = SIZES[USUAL], is_own(asked.config)
    given_up = _levers(asked, full, own)
    if not own:
        ways = [Way(usual, given_up[:count], LITTLE) for count in range(len(given_up) + 1)]
        return [*ways, Way(usual, given_up, 0.0)]
    if not all(map(asked.free, keys)):
        return [Way(usual, (), LITTLE), Way(usual, given_up, 0.0)]
    larger = [Way(size, (), 1.0) for size in reversed(SIZES[USUAL + 1 :])]
    small = SIZES[0]
    return [*larger, Way(usual, (), LITTLE), Way(small, (), LITTLE), Way(small, given_up, 0.0)]


def _levers(asked: Asked, full: RunTime, own: bool) -> tuple[Lever, ...]:
    """Those that change anything here and that nobody's settings forbid."""
    found: list[Lever] = []
    for lever in LEVERS:
        now = {taken.key: taken.value for taken in found}.get(
            lever.key, value_at(asked.config, lever.key)
        )
        open_ = now in lever.was if lever.was else now != lever.value
        open_ &= lever.key != DRAWN or full.drawn > 0
        if asked.free(lever.key) and open_ and (lever.own or not own):
            found.append(lever)
    return tuple(found)


def _language(asked: Asked, full: RunTime) -> tuple[list[Rule] | None, float]:
    """The best way that fits, or None; and what the least one takes, in seconds."""
    steps = _usual_steps(full)
    fewest = FEWEST_STEPS / steps if steps else 0.0
    if full.documents:
        fewest = max(fewest, FEWEST_DOCUMENTS / full.documents)
    needed = 0.0
    for way in _ways(asked, full):
        base, rules = _beside(asked, full, way)
        judging, usual = _asking(asked.config, full, way)
        fixed = base + judging
        needed = fixed + max(way.least, min(1.0, fewest)) * usual
        if needed <= asked.left and not usual:  # a model that is only asked
            return [*rules, *_said_of(way), _ends(fixed)], needed
        if needed <= asked.left:
            share = (asked.left - fixed) / usual
            values = _training(asked.config, steps, share)
            if way.size != SIZES[USUAL]:
                values |= {"llm.offline.width": way.size.width, "llm.offline.layers": way.size.layers}
            rules += _said_of(way)
            passes = min(float(MOST_PASSES), max(share, 1.0) // 1 if share >= 1 else share)
            why = f"{passes:.0%} of the usual training of the language model fits"
            return [*rules, Rule(why, values), _ends(fixed + passes * usual)], needed
    return None, needed


def _said_of(way: Way) -> list[Rule]:
    return [Rule(lever.why, {lever.key: lever.value}) for lever in way.given_up]


def _asking(config: Config, full: RunTime, way: Way) -> tuple[float, float]:
    """Seconds of the stages that ask the language model: validating and judging; the usual training."""
    asking = [s for s in _kept(full, way) if s.asks]
    often = config.llm.loop.evals_per_epoch if CHECKED in way.values else 1
    checked = sum(s.validation * max(1, s.validations // often) for s in asking)
    drawn = 0 if way.values.get(DRAWN) == 0 else full.drawn
    listed = full.listed * len(asking) / sum(s.asks for s in full.stages.values())
    judging = _judging(full, config, way, asking) + listed * (full.served + drawn)
    training = full.document * full.documents + sum(s.step * s.steps for s in asking)
    return way.size.cost * (judging + checked), way.size.cost * (training + listed * full.earned)


def _kept(full: RunTime, way: Way) -> list[StageTime]:
    """The stages that are left; without a soft one no encoder is cross-fitted."""
    strategy = STRATEGIES.get(way.values.get("strategy", ""))
    if strategy is None:
        return list(full.stages.values())
    stages = {stage.name: stage for stage in strategy}
    found = [s for name, s in full.stages.items() if name in stages or not s.asks]
    return found if uses_crossfit(stages) else [replace(s, copies=min(1, s.copies)) for s in found]


def _judging(full: RunTime, config: Config, way: Way, asking: list[StageTime]) -> float:
    """Seconds of the rows that ``asking`` read for the table, for ablations and for what is shown."""
    wanted = bool(way.values.get("evaluation.ablations", config.evaluation.ablations))
    more = full.ablated * wanted + full.shown
    return full.rows * sum(stage.row for stage in asking) + more * asking[-1].row


def _beside(asked: Asked, full: RunTime, way: Way) -> tuple[float, list[Rule]]:
    """Seconds of all that asks no language model, with fewer cross-fitted encoders where they cost."""
    others = [s for s in _kept(full, way) if not s.asks]
    seconds = full.plain + sum(s.seconds for s in others)
    folds = asked.config.encoder.folds
    extra = sum((s.copies - 1) * s.once for s in others if s.copies > 1)
    small = extra <= FOLDS_SHARE * (asked.left - seconds + extra)
    if small or folds <= FOLDS or not asked.free("encoder.folds"):
        return seconds, []
    rule = Rule("fewer cross-fitted encoders", {"encoder.folds": FOLDS})
    return seconds - extra * (folds - FOLDS) / folds, [rule]


def _training(config: Config, steps: int, share: float) -> dict[str, Any]:
    """Settings for ``share`` of the usual training."""
    own, offline = is_own(config), config.llm.offline
    if share >= 1:
        passes = int(min(share, MOST_PASSES))
        if passes == 1:
            return {}
        values: dict[str, Any] = {"llm.loop.epochs": passes * config.llm.loop.epochs}
        loops = {"titles_loop": offline.titles_loop, "answers_loop": offline.answers_loop}
        if own:
            values |= {f"llm.offline.{n}.epochs": passes * loop.epochs for n, loop in loops.items()}
        if config.llm.loop.max_steps:
            values["llm.loop.max_steps"] = passes * config.llm.loop.max_steps
        return values
    values = {"llm.loop.max_steps": max(1, int(share * steps))} if steps else {}
    return values | ({"llm.offline.documents": int(share * offline.documents)} if own else {})
