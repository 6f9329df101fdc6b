"""A budget decides by what everything costs; the costs here are made up, so no test meets a clock."""

from dataclasses import replace
from functools import partial

import pytest

from sasrecllm.config import load_config
from sasrecllm.machine.durations import seconds_of
from sasrecllm.runs.choice import with_choice
from sasrecllm.stages.budget import FEWEST_STEPS, SIZES, STEP, fit_in
from sasrecllm.stages.strategies import STRATEGIES, asks_language_model
from sasrecllm.stages.timing import RunTime, StageTime

ENCODER = StageTime(step=0.02, steps=2000, validation=0.2, validations=30, copies=5)  # 46 s each
NEXT_ITEM = StageTime(step=0.03, steps=1000, validation=0.1, validations=60)  # 36 s
LISTS = StageTime(other=8.0)
ASKING = StageTime(
    step=0.25, steps=500, validation=4.0, validated=2_000, validations=3, asks=True
)  # 137 s each
FULL = RunTime(
    {"encoder": ENCODER, "text": ASKING, "mapper": ASKING, "soft": ASKING, "next_item": NEXT_ITEM}
    | {"lists": LISTS},
    document=0.015, documents=13_000, rows=4_000, ablated=10_000, plain=20.0,
)  # fmt: skip
PLAIN = replace(
    FULL,
    stages={n: replace(s, copies=1) for n, s in FULL.stages.items() if not s.asks},
    document=0.0, documents=0, rows=0, ablated=0,
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
        return replace(time, stages=stages, document=time.document * factor, plain=time.plain * factor)

    return lambda language, values=None: slower(FULL if language else PLAIN)


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
    prompts = 3 * FULL.rows + FULL.ablated * config.evaluation.ablations
    steps = min(config.llm.loop.max_steps or 10**9, ASKING.steps * config.llm.loop.epochs // 3)
    asking = 3 * (steps * ASKING.step + ASKING.validation * ASKING.validations)
    documents = config.llm.offline.documents * config.llm.offline.titles_loop.epochs
    others = (1 + config.encoder.folds) * ENCODER.once + NEXT_ITEM.seconds + LISTS.other
    return others + FULL.plain + size * (asking + documents * FULL.document + prompts * ASKING.row)


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


HUB = "llm.backbone=some/model"


def pretrained(factor=1.0, drawn=40_000):
    """A pretrained model's times: no documents, prompts that cost, a log of likes."""

    def measure(language, values=None):
        found = times(factor)(language)
        asking = replace(
            ASKING, step=2.0 * factor, validation=20.0 * factor, validated=400, validations=4
        )
        stages = {n: asking if s.asks else s for n, s in found.stages.items()}
        return replace(
            found, stages=stages, document=0.0, documents=0, listed=0.02 * factor * language,
            served=3_000 * language, drawn=drawn * language,
        )  # fmt: skip

    return measure


def pretrained_cost(config, factor=1.0, measure=None):
    """Seconds of that run under the settings that were chosen."""
    full, kept = (measure or pretrained(factor))(True), STRATEGIES[config.strategy]
    asking = [s for s in kept if s.name in ("text", "mapper", "soft")]
    encoder, soft = full.stages["encoder"], len(asking) > 1
    others = (1 + config.encoder.folds * soft) * encoder.once + full.stages["next_item"].seconds
    others += full.stages["lists"].seconds + full.plain
    if not asking:
        return others
    steps = min(config.llm.loop.max_steps or 10**9, ASKING.steps * config.llm.loop.epochs // 3)
    stage = full.stages["text"]
    drawn = full.drawn * bool(config.evaluation.ranking.negatives)
    lists = full.listed * (full.served + full.earned * steps / ASKING.steps + drawn)
    prompts = stage.row * (full.rows * len(asking) + full.ablated * config.evaluation.ablations)
    learning = len(asking) * (steps * stage.step + 4 * stage.validation)
    return others + learning + prompts + lists * len(asking) / 3


def test_a_pretrained_model_keeps_its_size():
    config, _ = decided("10h", HUB, measure=pretrained())
    assert (config.llm.offline.width, config.llm.loop.epochs) == (128, 9)
    short, _ = decided("50m", HUB, measure=pretrained())
    assert 0 < short.llm.loop.max_steps < ASKING.steps


def test_rows_that_a_stage_reads_cost_what_its_own_prompts_cost():
    """Text prompts of one history share it; soft prompts, whose slot comes first, cost more."""

    def measure(language, values=None):
        full = pretrained()(language)
        dear = {
            n: replace(s, validation=400.0) for n, s in full.stages.items() if n in ("mapper", "soft")
        }
        return replace(full, stages=full.stages | dear)

    config, said = decided("20m", HUB, measure=measure)
    assert config.strategy == "text-beside-encoder", said
    assert 0.9 * 1200 <= pretrained_cost(config) <= 1.02 * 1200, said


def test_lists_that_longer_training_earns_do_not_leave_a_short_one_out():
    """Lists may take a tenth of the run: of a run that learns little they take little."""

    def measure(language, values=None):
        return replace(pretrained()(language), earned=400_000 * language)

    config, said = decided("40m", HUB, measure=measure)
    assert config.strategy == "text-beside-encoder" and config.llm.loop.max_steps > 0, said
    assert 0.9 * 2400 <= pretrained_cost(config, measure=measure) <= 1.02 * 2400, said


def test_a_pretrained_model_gives_up_judging_first_then_its_soft_stages_then_itself():
    """What is given up for less time is never had back for less still."""
    found = []
    for minutes in range(260, 0, -4):
        config, said = decided(f"{minutes}m", HUB, measure=pretrained())
        assert pretrained_cost(config) <= 1.02 * 60 * minutes, said
        ranking = config.evaluation.ranking
        found.append((config.strategy, config.evaluation.ablations, ranking.negatives > 0))
    order = list(dict.fromkeys(found))
    assert order[:4] == [
        ("hierarchical-freezing", True, True),
        ("hierarchical-freezing", False, True),
        ("hierarchical-freezing", False, False),
        ("plug-and-play", False, False),
    ]
    assert order[4] == ("text-beside-encoder", False, False) and order[5][0] == "encoder-only"
    assert all(strategy in ("encoder-only", "no-network") for strategy, *_ in order[5:])


def test_what_a_pretrained_model_goes_without_is_said_and_what_is_named_stays():
    config, said = decided("20m", HUB, measure=pretrained())
    assert config.strategy == "text-beside-encoder"
    for words in ("no ablations", "no lists among drawn items", "words beside the encoder"):
        assert words in said
    assert (config.llm.loop.max_steps or FEWEST_STEPS) >= FEWEST_STEPS
    kept = ("strategy=hierarchical-freezing", "evaluation.ranking.negatives=100")
    config, said = decided("10m", HUB, *kept, measure=pretrained())
    assert (config.strategy, config.evaluation.ranking.negatives) == ("hierarchical-freezing", 100)
    assert "too small for this data" in said
    _, said = decided("20m", HUB, measure=pretrained(drawn=0))
    assert "no ablations" in said and "drawn" not in said, "a log with dislikes has no such lists"
    # A strategy of one's own has no soft stage that could be left out by name.
    own = "strategy=[{name: words, task: answer, train: [adapter]}]"
    assert "words beside" not in decided("20m", HUB, own, measure=pretrained())[1]


ZERO = StageTime(validation=0.05, asks=True)


@pytest.mark.parametrize("budget", ["10h", "12m", "4m"])
def test_a_model_that_is_only_asked_has_no_training_to_shorten(budget):
    """Zero-shot: no steps; and beside stages that learn it does not say how few steps are too few."""
    own = "strategy=[{name: zero, task: answer, train: []}]"
    rows = {n: s for n, s in PLAIN.stages.items() if n != "encoder"}
    only = replace(PLAIN, stages=rows | {"zero": ZERO}, rows=4_000)
    without = replace(PLAIN, stages=rows)
    config, said = decided(
        budget, HUB, own, measure=lambda language, values=None: only if language else without
    )
    assert config.llm.loop.max_steps == load_config(None, [HUB]).llm.loop.max_steps
    assert "usual training" not in said
    assert ("too small for this data" in said) == (budget == "4m")


def test_a_stage_that_learns_nothing_does_not_keep_the_others_whole():
    def measure(language, values=None):
        found = pretrained()(language)
        return replace(found, stages=found.stages | ({"zero": ZERO} if language else {}))

    own = (
        "strategy=[{name: zero, task: answer, train: []}, {name: text, task: answer, train: [adapter]}]"
    )
    config, said = decided("60m", HUB, own, measure=measure)
    assert 60 <= config.llm.loop.max_steps < ASKING.steps, said


def test_a_window_moves_on_in_steps_where_a_pretrained_model_would_learn_too_little_otherwise():
    """It costs a little quality, and a prompt the less the more it shares with its user's others."""
    asked = []

    def measure(language, values=None, factor=0.5):
        asked.append(values or {})
        return pretrained(factor if values else 1.0)(language)

    roomy, said = decided("60m", HUB, measure=measure)
    assert roomy.llm.history_step == 1 and asked == [{}, {}] and "begin alike" not in said
    for budget in ("6m", "9m"):  # none would fit; too little would be learnt
        asked.clear()
        tight, said = decided(budget, HUB, measure=measure)
        assert tight.llm.history_step == 5 and "begin alike" in said and asked == [{}, {}, {STEP: 5}]
        assert tight.strategy == "text-beside-encoder"
    plain, _ = decided("9m", HUB, "llm.history_step=1", measure=measure)
    assert plain.llm.history_step == 1 and plain.llm.loop.max_steps < tight.llm.loop.max_steps
    dearer, _ = decided("9m", HUB, measure=partial(measure, factor=1.2))
    assert dearer == decided("9m", HUB, measure=pretrained())[0], "where little is shared"
    assert not asks_language_model(decided("3m", HUB, measure=measure)[0])


def test_the_model_that_a_run_builds_gives_up_neither_its_stages_nor_its_lists():
    for minutes in range(2, 30):
        config, _ = decided(f"{minutes}m")
        if asks_language_model(config):
            assert config.strategy == "hierarchical-freezing"
            assert config.evaluation.ranking.negatives == 100
