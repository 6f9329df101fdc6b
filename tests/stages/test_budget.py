"""A budget decides by what everything costs; the costs here are made up, so no test meets a clock."""

from dataclasses import replace

import pytest

from sasrecllm.config import load_config
from sasrecllm.machine.durations import seconds_of
from sasrecllm.runs.choice import with_choice
from sasrecllm.stages.budget import FEWEST_STEPS, SIZES, fit_in
from sasrecllm.stages.strategies import asks_language_model
from sasrecllm.stages.timing import RunTime, StageTime

ENCODER = StageTime(step=0.02, steps=2000, validation=0.2, validations=30, copies=5)  # 46 s each
NEXT_ITEM = StageTime(step=0.03, steps=1000, validation=0.1, validations=60)  # 36 s
LISTS = StageTime(other=8.0)
ASKING = StageTime(step=0.25, steps=500, validation=4.0, validations=3, asks=True)  # 137 s each
FULL = RunTime(
    {"encoder": ENCODER, "text": ASKING, "mapper": ASKING, "soft": ASKING, "next_item": NEXT_ITEM}
    | {"lists": LISTS},
    document=0.015, documents=13_000, prompt=0.002, prompts=12_000, ablated=10_000, plain=20.0,
)  # fmt: skip
PLAIN = replace(
    FULL,
    stages={n: replace(s, copies=1) for n, s in FULL.stages.items() if not s.asks},
    document=0.0, documents=0, prompts=0, ablated=0,
)  # fmt: skip


def times(factor=1.0):
    """What a machine that is ``factor`` times slower takes."""

    def slower(time):
        stages = {
            name: replace(
                s, step=s.step * factor, validation=s.validation * factor, other=s.other * factor
            )
            for name, s in time.stages.items()
        }
        return replace(
            time, stages=stages, document=time.document * factor, prompt=time.prompt * factor,
            plain=time.plain * factor,
        )  # fmt: skip

    return lambda language: slower(FULL if language else PLAIN)


def decided(budget, *words, measure=None, spent=0.0):
    named = load_config(None, [f"budget={budget}", *words])
    rules = fit_in(named, named, spent, measure or times())
    chosen = {}
    for rule in rules:
        chosen |= rule.values
    return with_choice(named, chosen), " / ".join(rule.why for rule in rules)


def cost(config):
    """Seconds of the made-up run under the settings that were chosen."""
    size = {(s.width, s.layers): s.cost for s in SIZES}[
        config.llm.offline.width, config.llm.offline.layers
    ]
    language = asks_language_model(config)
    if not language:
        share = config.lists.next_item.seconds / 120
        networks = PLAIN.stages["encoder"].once + PLAIN.stages["next_item"].once
        return LISTS.other + PLAIN.plain + share * networks
    prompts = FULL.prompts + FULL.ablated * config.evaluation.ablations
    steps = min(config.llm.loop.max_steps or 10**9, ASKING.steps * config.llm.loop.epochs // 3)
    asking = 3 * (steps * ASKING.step + ASKING.validation * ASKING.validations)
    documents = config.llm.offline.documents * config.llm.offline.titles_loop.epochs
    others = (1 + config.encoder.folds) * ENCODER.once + NEXT_ITEM.seconds + LISTS.other
    return others + FULL.plain + size * (asking + documents * FULL.document + prompts * FULL.prompt)


@pytest.mark.parametrize("budget", ["2m", "5m", "8m", "10m", "12m", "15m", "20m", "30m", "1h", "2h"])
def test_the_run_ends_near_the_budget_and_not_far_behind(budget):
    config, said = decided(budget)
    assert cost(config) <= 1.02 * seconds_of(budget), said


def test_more_time_is_a_better_run():
    found = [decided(budget)[0] for budget in ("2m", "5m", "10m", "45m", "3h")]
    assert [asks_language_model(c) for c in found] == [False, True, True, True, True]
    assert [c.llm.offline.width for c in found[1:]] == [64, 128, 192, 256]
    assert [c.evaluation.ablations for c in found[1:]] == [False, True, True, True]
    documents = [c.llm.offline.documents * c.llm.offline.titles_loop.epochs for c in found[1:]]
    assert min(documents) >= 2000 and documents[-1] > 13_000


def test_a_slower_machine_gets_a_smaller_run():
    fast, _ = decided("15m")
    slow, said = decided("15m", measure=times(8.0))
    assert asks_language_model(fast) and not asks_language_model(slow)
    assert slow.strategy == "encoder-only" and "no language model" in said


def test_what_is_gone_already_counts():
    assert asks_language_model(decided("10m")[0])
    assert not asks_language_model(decided("10m", spent=500.0)[0])


def test_little_time_shortens_the_encoders_and_less_leaves_them_out():
    short, said = decided("1m")
    assert 1 <= short.encoder.loop.epochs < 30 and short.lists.next_item.seconds < 120
    assert 1 <= short.lists.next_item.loop.epochs < 60
    assert "of the usual training of the encoders" in said
    none, said = decided("30s")
    assert none.strategy == "no-network" and "next-item encoder" not in none.lists.channels
    assert "no encoder" in said
    least, said = decided("10s")
    assert "too small for this data" in said and least.evaluation.ranking.users < 1000


def test_where_the_language_model_cannot_fit_it_is_not_even_tried():
    asked = []

    def measure(language):
        asked.append(language)
        return times()(language)

    config, said = decided("1m", measure=measure)
    assert asked == [False] and not asks_language_model(config) and "all else takes" in said


def test_few_steps_teach_a_language_model_nothing_so_it_gets_none():
    """Never a training of a few steps, whatever the budget."""
    for minutes in range(1, 30):
        config, _ = decided(f"{minutes}m")
        if asks_language_model(config):
            assert (config.llm.loop.max_steps or FEWEST_STEPS) >= FEWEST_STEPS
            assert config.llm.offline.documents >= 2000


def test_what_is_named_is_not_touched():
    words = ("strategy=hierarchical-freezing", "llm.offline.width=128", "encoder.folds=4")
    config, said = decided("2m", *words)
    assert config.strategy == "hierarchical-freezing" and config.encoder.folds == 4
    assert config.llm.offline.width == 128 and "too small for this data" in said
    assert decided("5m", "evaluation.ablations=true")[0].evaluation.ablations
    alone, _ = decided("20m", "strategy=encoder-only")
    assert alone.strategy == "encoder-only" and alone.encoder.loop.epochs == 30


def test_a_pretrained_model_keeps_its_size():
    measure = times()

    def pretrained(language):
        return replace(measure(language), document=0.0, documents=0)

    config, _ = decided("2h", "llm.backbone=some/model", measure=pretrained)
    assert (config.llm.offline.width, config.llm.loop.epochs) == (128, 9)
    short, _ = decided("8m", "llm.backbone=some/model", measure=pretrained)
    assert 0 < short.llm.loop.max_steps < ASKING.steps
