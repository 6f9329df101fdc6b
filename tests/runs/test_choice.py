"""What nobody named may be chosen; what was chosen once stays, and what is named is never touched."""

import pytest

from sasrecllm.checkpoint import commit_folder
from sasrecllm.config import load_config, reread_config
from sasrecllm.errors import ConfigError
from sasrecllm.runs.choice import as_chosen, is_named, with_choice
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import claim, open_run, refuse_changed, write_settings

CHOICE = {"encoder.loop.epochs": 12, "llm.loop.max_steps": 300, "evaluation.ranking.users": 200}


def trained(place, config, chosen):
    """A folder in which something was trained with ``chosen`` for what ``config`` leaves open."""
    run = open_run(place, with_choice(config, chosen), "x", quiet=True)
    claim(run)
    commit_folder(place / "stages/1-encoder/parts/encoder", lambda _: None)
    return RunFolder(place)


def test_a_setting_is_named_by_a_file_or_a_word_alone(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("encoder: {loop: {lr: 0.01}}\n")
    monkeypatch.setenv("SASRECLLM_LISTS__RIDGE", "3")
    config = load_config(tmp_path / "a.yaml", ["llm.lora.r=4"])
    named = ("encoder", "encoder.loop.lr", "lists.ridge", "llm.lora.r")
    assert all(is_named(config, key) for key in named)
    assert not any(is_named(config, k) for k in ("encoder.loop.epochs", "llm.lora.alpha", "seed"))


def test_a_choice_fills_gaps_only_and_is_listed():
    config = with_choice(load_config(None, ["encoder.loop.epochs=3", "encoder.loop.lr=0.1"]), CHOICE)
    assert (config.encoder.loop.epochs, config.encoder.loop.lr) == (3, 0.1)
    assert config.llm.loop.max_steps == 300 and config.evaluation.ranking.users == 200
    assert set(config.chosen) == set(CHOICE) - {"encoder.loop.epochs"}
    assert config.encoder.loop.patience == 4, "who names one setting of a loop keeps the rest"


def test_a_choice_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="epochs"):
        with_choice(load_config(), {"encoder.loop.epochs": 0})


def test_a_run_that_goes_on_takes_what_it_chose(tmp_path):
    asked = load_config(None, ["budget=15m"])
    folder = trained(tmp_path / "run", asked, CHOICE)
    stored = reread_config(folder.config)
    assert stored.chosen == CHOICE and stored.encoder.loop.epochs == 12
    again = open_run(folder.path, asked, "x", quiet=True).config
    assert again.model_dump() == stored.model_dump()
    write_settings(open_run(folder.path, asked, "x", quiet=True))
    assert reread_config(folder.config) == stored


def test_another_budget_and_another_value_are_refused_with_both(tmp_path):
    folder = trained(tmp_path / "run", load_config(None, ["budget=15m"]), CHOICE)
    for words, said in (
        (["budget=30m"], "budget is '15m' there, '30m' here"),
        ([], "budget is '15m' there, '' here"),
        (["budget=15m", "encoder.loop.epochs=5"], "encoder.loop.epochs is 12 there, 5 here"),
        (["budget=15m", "quick=true"], "quick is False there, True here"),
    ):
        with pytest.raises(ConfigError) as refused:
            refuse_changed(folder, load_config(None, words))
        assert said in str(refused.value)
    refuse_changed(folder, load_config(None, ["budget=15m", "encoder.loop.epochs=12"]))


def test_a_folder_without_training_chooses_anew(tmp_path):
    asked = load_config(None, ["budget=15m"])
    claim(open_run(tmp_path / "run", with_choice(asked, CHOICE), "x", quiet=True))
    assert as_chosen(RunFolder(tmp_path / "run"), asked) == asked


def test_the_whole_run_may_go_on_from_a_quick_one_but_not_with_other_settings(tmp_path):
    quick = load_config(None, ["quick=true", "seed=3"])
    folder = trained(tmp_path / "run", quick, {"evaluation.ablations": False, "encoder.length": 50})
    before = folder.config.read_bytes()
    refuse_changed(folder, load_config(None, ["seed=3"]))
    refuse_changed(folder, load_config(None, ["seed=3", "encoder.length=30", "budget=2h"]))
    with pytest.raises(ConfigError, match="seed is 3 there, 4 here"):
        refuse_changed(folder, load_config(None, ["seed=4"]))
    claim(open_run(folder.path, load_config(None, ["seed=3"]), "x", quiet=True))
    assert folder.config.read_bytes() == before, "it is the quick run's until its stages are moved"
