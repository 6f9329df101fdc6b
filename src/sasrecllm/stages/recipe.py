"""The recipe that a run's own data asks for: rules for settings that nobody named (docs/recipes.md).

A rule looks at the prepared data and at the settings, never at a clock, so the same data gets the same
recipe on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sasrecllm.baselines.features import ItemFeatures
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.runs.choice import is_named, with_choice
from sasrecllm.runs.language_model import is_own
from sasrecllm.settings import Config
from sasrecllm.stages.strategies import PRIOR, asks_language_model, planned
from sasrecllm.types import values_in

EVERY_LAYER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Linear layers of the model that a run builds."""
MOST_ITEMS = 20_000
"""Up to which a like is compared with the whole catalogue; beyond, with drawn items."""
ROWS = 6_000_000
"""Rows that the encoder's training reads at most: 30 passes over 200,000."""
PROMPTS = 100_000
"""Prompts that a training stage of the language model reads at most."""
MOST_VALUES, MOST_COLUMNS = 600, 3
"""Values of all attributes together, and attributes, that may describe items without being named."""
ITEMS_OF_A_VALUE = 6
"""Items for each of its values, at least."""
MOST_VALUES_BY_YEAR = 100
"""Values of the first, where it is multiplied with the year of the title."""


class Rule(NamedTuple):
    """What is chosen, and why.

    Args:
        why: in words.
        values: dotted key -> value.
    """

    why: str
    values: dict[str, Any]


def recipe(config: Config, data: Dataset) -> list[Rule]:
    """The rules that this data and these settings call for; a later one goes before an earlier.

    Args:
        config: the settings, with what the machine asks for.
    """
    rules = [_of_feedback(config, data), _own_language_model(config), _of_soft_tokens(config)]
    so_far = with_choice(config, values_of(rule for rule in rules if rule is not None))
    rules += [_of_size(so_far, data), _of_attributes(data.catalog), _of_prior(config, data.catalog)]
    rules.append(_quick(data) if config.quick else None)
    return [rule for rule in rules if rule is not None and rule.values]


def values_of(rules: Iterable[Rule]) -> dict[str, Any]:
    """Dotted key -> value of all ``rules``; the later of two counts."""
    return {key: value for rule in rules for key, value in rule.values.items()}


def _of_feedback(config: Config, data: Dataset) -> Rule | None:
    """Likes alone: which item is taken next, among the catalogue.  Means of labels say nothing then."""
    if not data.implicit:
        return None
    full = data.n_items <= MOST_ITEMS and config.encoder.item_updates != "touched"
    values: dict[str, Any] = {
        "encoder.loss": "softmax" if full else "sampled-softmax",
        "encoder.negatives": 256,
        "encoder.loop.epochs": 20,
        "encoder.loop.batch_size": 64,
        "encoder.loop.lr": 0.002,
        "encoder.loop.patience": 5,
        "fusion.components": ["llm", "encoder", "popularity"],
    }
    return Rule("every row is a like", values)


def _own_language_model(config: Config) -> Rule | None:
    """What a model of a million parameters learns by, which knows nothing before."""
    if not is_own(config) or not asks_language_model(config):
        return None
    loop = {
        "epochs": 1, "batch_size": 64, "lr": 0.001, "warmup_steps": 50, "evals_per_epoch": 3,
        "patience": 2,
    }  # fmt: skip
    values: dict[str, Any] = {f"llm.loop.{key}": value for key, value in loop.items()}
    values |= {"llm.lora.r": 16, "llm.lora.alpha": 32, "llm.lora.targets": EVERY_LAYER}
    values |= {"llm.offline.answers_loop.evals_per_epoch": 3}
    return Rule("the language model is built here", values)


def _of_soft_tokens(config: Config) -> Rule | None:
    """What an item's slot reads beside the vector: what two vectors in two places do not say.

    Not where a pretrained model learns from a live encoder alone, which knows its training rows by
    heart: there the logit was worth less than nothing (docs/results/smollm2.md).
    """
    stages = planned(config).values()
    soft = [s for s in stages if s.kind.asks_language_model and s.prompt == "soft"]
    if not soft or not (is_own(config) or any(s.reads_crossfit for s in soft)):
        return None
    return Rule("a stage has soft tokens", {"mapper.encoder_logit": True})


def _of_size(config: Config, data: Dataset) -> Rule | None:
    """Fewer passes and steps, where usual ones over so many rows would take days."""
    rows = len(data.rows("train"))
    prompts = rows * (1 + data.negatives if data.implicit else 1)
    values = {}
    if rows * config.encoder.loop.epochs > ROWS:
        values["encoder.loop.epochs"] = max(1, ROWS // rows)
    if prompts > PROMPTS:
        values["llm.loop.max_steps"] = PROMPTS // config.llm.loop.batch_size
    return Rule(f"{rows:,} training rows", values)


def _of_attributes(catalog: Catalog) -> Rule | None:
    names = list(described_by(catalog))
    return Rule("the items have such columns", {"item_features.attributes": names}) if names else None


def _of_prior(config: Config, catalog: Catalog) -> Rule | None:
    """No title prior where no stage would apply it, or items have no words or columns to share."""
    none = {"encoder.prior": "none"}
    if not any(s.kind is PRIOR.kind for s in planned(config).values()):
        return Rule("no stage applies a title prior", none)
    named = is_named(config, "item_features.attributes")
    chosen = config.item_features.attributes if named else described_by(catalog)
    columns = {name: catalog.attributes[name] for name in chosen if name in catalog.attributes}
    features = ItemFeatures.fit(catalog.titles, columns, words=config.item_features.words)
    if config.item_features.vectors is not None:
        return None
    if features.words or features.years.size or any(features.attributes.values()):
        return None
    return Rule("no two items share a word of their titles", none)


def described_by(catalog: Catalog) -> Iterator[str]:
    """Attributes that tell kinds of items: few values, each shared; the fewest values first.

    Values with digits in them are dates and numbers, which say no kind.
    """
    years = ItemFeatures.fit(catalog.titles, {}, words=0).years
    found = []
    for name, column in catalog.attributes.items():
        rows = [set(values_in(text)) for text in column]
        counts = Counter(value for row in rows for value in row)
        shared = {value for value, count in counts.items() if count > 1}
        covered = np.mean([bool(row & shared) for row in rows])
        numbers = sum(any(sign.isdigit() for sign in value) for value in shared) > len(shared) / 2
        if 2 <= len(shared) <= len(rows) // ITEMS_OF_A_VALUE and covered >= 0.5 and not numbers:
            found.append((len(shared), name))
    found.sort()
    if found and years.size and found[0][0] > MOST_VALUES_BY_YEAR:
        return
    total = 0
    for values, name in found[:MOST_COLUMNS]:
        total += values
        if total > MOST_VALUES:
            return
        yield name


def _quick(data: Dataset) -> Rule:
    """What can be said of P(like) without a network (the stages: :func:`.strategies.all_stages`)."""
    values: dict[str, Any] = {"evaluation.ablations": False}
    if data.implicit:
        values["fusion.components"] = ["popularity", "ItemKNN", "Markov chain"]
    return Rule("a quick run", values)
