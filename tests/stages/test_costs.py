"""What every row cost: everything that it needs, and nothing else."""

import pytest

from sasrecllm.checkpoint import write_json
from sasrecllm.config import parse_config
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.scores import save_scores
from sasrecllm.runs.system import System
from sasrecllm.stages.costs import costs, parameter_counts
from sasrecllm.stages.strategies import planned

PARAMETERS = {"encoder": 100, "adapter": 5, "mapper": 7, "language model without adapter": 1000}
SECONDS = {"encoder": 10.0, "prior": 1.0, "text": 20.0, "mapper": 40.0, "soft": 80.0, "fusion": 2.0}


@pytest.fixture
def found(tmp_path):
    """Each stage takes its own seconds, and a row a hundredth of a second in each of them."""
    folder = RunFolder(tmp_path)
    stages = planned(parse_config({"encoder": {"prior": "titles"}}, "test"))
    for place, stage in folder.of_stages(stages):
        place.path.mkdir(parents=True)
        about = {"seconds": SECONDS[stage.name], "seconds_per_row": 0.01, "row": stage.row}
        write_json(place.about, about | {"result": {"trained_parameters": 3}})
    write_json(folder.language_seconds, {"seconds": 300.0})
    about = {"row": "item mean", "rows_per_second": 5000.0}
    save_scores(folder.baseline(0, "item mean"), {}, about, "digest")
    return costs(folder, stages, PARAMETERS)


def test_the_encoder_costs_its_own_stages_and_no_language_model(found):
    assert found["SASRec"]["train_seconds"] == 10.0
    assert found["SASRec + title prior"]["train_seconds"] == 11.0
    assert found["SASRec"]["parameters"] == 100 and found["SASRec"]["rows_per_second"] == 100.0


def test_a_text_prompt_costs_the_language_model_and_its_own_stage(found):
    row = found["text-only LLM"]
    assert row["train_seconds"] == 320.0 and row["parameters"] == 1005
    assert row["rows_per_second"] == 100.0


def test_a_soft_prompt_costs_all_before_it_and_its_own_time_has_the_encoder_in_it(found):
    row = found["SASRecLLM"]
    assert row["train_seconds"] == 300.0 + 10 + 1 + 20 + 40 + 80 and row["parameters"] == 1112
    assert row["rows_per_second"] == 100.0


def test_a_sum_costs_everything_and_is_as_slow_as_its_models_together(found):
    row = found["SASRecLLM + fusion"]
    assert row["train_seconds"] == 300.0 + sum(SECONDS.values())
    assert row["rows_per_second"] == 50.0, "the encoder once, though two stages have it"
    assert row["trained_parameters"] == 3


def test_a_baseline_costs_nothing_but_its_rate(found):
    assert found["item mean"] == {
        "train_seconds": 0.0, "trained_parameters": 0, "parameters": 0, "rows_per_second": 5000.0
    }  # fmt: skip


def test_parameters_are_counted_for_each_part(run):
    system = System.load(RunFolder(run), "cpu")
    counts = parameter_counts(system)
    assert list(counts) == ["encoder", "adapter", "mapper", "language model without adapter"]
    assert all(count > 0 for count in counts.values())
    assert list(parameter_counts(system, llm=False)) == ["encoder"]
