"""The default is the good recipe: what recipes say beyond it stands in one table, with its reason."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sasrecllm.config import load_config
from sasrecllm.runs.choice import is_named, value_at, with_choice
from sasrecllm.settings import Config, Section
from sasrecllm.stages.recipe import recipe
from sasrecllm.studies.plan import Cell, load_plan, settings_of

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
OF_THE_RUN = ("data", "name", "seed", "device", "threads", "chosen")
"""Which data, which machine: no recipe."""
ROW = re.compile(r"^\| `([\w.]+)` \| ([\w, -]+) \| (.+) \|$", re.MULTILINE)


def of_study(name, dataset, row):
    plan = load_plan(CONFIGS / f"studies/{name}.yaml", [])
    return settings_of(plan, Cell(dataset, row, 0), CONFIGS / "studies", Path("out"))


def recipes():
    """Name -> settings and whether their data has likes alone."""
    found = {name: [(load_config(CONFIGS / f"{name}.yaml"), False)] for name in ("demo", "ml-1m")}
    found["paper"] = [(load_config(CONFIGS / "paper/ml-1m.yaml"), False)]
    found["llm"] = [(load_config(path), False) for path in sorted((CONFIGS / "llm").glob("*.yaml"))]
    found["data-sets"] = [
        (of_study("data-sets", name, "the system"), name in ("lastfm", "amazon-office", "goodreads"))
        for name in ("ml-100k", "lastfm", "amazon-office", "goodreads")
    ]
    found["full-ranking"] = [(of_study("full-ranking", "lastfm", "SASRec, full softmax"), True)]
    return found


def some_data(implicit):
    """As much of a data set as the rules look at: MovieLens' sizes, one column of kinds."""
    catalog = SimpleNamespace(
        titles=["Same words (1999)"] * 60, attributes={"genres": ["a|b", "b"] * 30}
    )
    return SimpleNamespace(
        implicit=implicit, n_items=3000, negatives=4, rows=lambda _: np.arange(30_000), catalog=catalog
    )


def default_for(config, implicit):
    """What a run of such data chooses where nothing but the language model is named."""
    plain = Config(llm={"backbone": config.llm.backbone})
    chosen = {}
    for rule in recipe(plain, some_data(implicit)):
        chosen |= rule.values
    return with_choice(plain, chosen)


def leaves(section, path=""):
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def differences(config, implicit):
    default = default_for(config, implicit)
    return {
        key
        for key in leaves(config)
        if key.split(".")[0] not in OF_THE_RUN
        and is_named(config, key)
        and value_at(config, key) != value_at(default, key)
    }


@pytest.fixture(scope="module")
def table():
    """Setting -> recipes that differ in it, and the reason."""
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    rows = ROW.findall(text[text.index("## What recipes say beyond") :])
    assert len({key for key, _, _ in rows}) == len(rows) > 20
    return {key: (set(names.split(", ")), why.strip()) for key, names, why in rows}


@pytest.mark.parametrize("name", ["demo", "ml-1m", "paper", "llm", "data-sets", "full-ranking"])
def test_a_recipe_differs_from_the_default_where_the_table_says_so_and_nowhere_else(name, table):
    found = set().union(*(differences(*one) for one in recipes()[name]))
    said = {key for key, (names, _) in table.items() if name in names}
    assert found == said, f"not in docs/recipes.md: {found - said}; no difference: {said - found}"


def test_every_difference_has_a_reason(table):
    assert all(len(why.split()) >= 1 and why != "" for _, why in table.values())


def test_a_changed_recipe_is_found():
    """The comparison can fail: one number more, and it says so."""
    config = load_config(CONFIGS / "demo.yaml", ["fusion.pairwise=0.7"])
    assert "fusion.pairwise" in differences(config, False)
