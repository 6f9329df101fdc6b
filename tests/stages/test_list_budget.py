"""How many lists the language model is asked for: the served row first, no clock."""

from dataclasses import replace

from sasrecllm.runs.opening import reopen_run
from sasrecllm.runs.stored import stored_data
from sasrecllm.stages.list_budget import FEWEST_LISTS, ListsPerRow, lists_per_row, prompts_of
from sasrecllm.stages.strategies import planned


def hub_of(config):
    return config.model_copy(update={"llm": config.llm.model_copy(update={"backbone": "some/model"})})


def test_lists_take_a_tenth_of_the_prompts_and_the_served_row_goes_first(run):
    opened = reopen_run(run, quiet=True)
    config, dataset = opened.config, stored_data(opened.folder)

    def asked(fused=0, **changes):
        ranking = config.evaluation.ranking.model_copy(update=changes)
        evaluation = config.evaluation.model_copy(update={"ranking": ranking})
        changed = config.model_copy(update={"evaluation": evaluation})
        return lists_per_row(changed, dataset, planned(config), fused)

    assert asked(when="always") == ListsPerRow(1000, 1000)
    found = asked()
    assert found.earlier == 0 and FEWEST_LISTS <= found.served < 1000
    assert asked(rerank=1).earlier > 100  # two prompts a list: all rows have theirs
    # Fewer steps are less of a run, and lists are a tenth of that.
    loop = config.llm.loop.model_copy(update={"max_steps": 2})
    short = config.model_copy(update={"llm": config.llm.model_copy(update={"loop": loop})})
    asking = sum(s.kind.asks_language_model for s in planned(config).values())
    spared = asking * 3 * (len(dataset.rows("train")) - 2 * loop.batch_size)
    assert prompts_of(config, dataset, planned(config)) - spared == prompts_of(
        short, dataset, planned(short)
    )
    # A stage that only asks learns from no prompt.
    asks = {n: s for n, s in planned(config).items() if s.kind.asks_language_model}
    taught = prompts_of(config, dataset, asks)
    only_asked = {n: replace(s, train=()) for n, s in asks.items()}
    questions = len(asks) * sum(len(dataset.rows(split)) for split in ("valid", "test"))
    assert prompts_of(hub_of(config), dataset, only_asked) == questions < taught
    # Where the list fusion asks about 50 items of a list, it goes first, and more often for its price.
    assert asked(fused=50).earlier == 0 and asked(fused=50).served > found.served
    hub = hub_of(config)
    affordable = prompts_of(hub, dataset, planned(hub)) // 10 // dataset.n_items
    assert affordable < FEWEST_LISTS and lists_per_row(hub, dataset, planned(hub)) == ListsPerRow(0, 0)
