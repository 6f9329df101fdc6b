"""A budget is chosen for once, said in words, kept in the run's settings, and shown by a dry run."""

import shutil
from types import SimpleNamespace

import polars as pl
import pytest

from sasrecllm import fit
from sasrecllm.config import parse_config, reread_config
from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.llm.mapper import SHAPE
from sasrecllm.runs.choice import with_choice, with_values
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config
from sasrecllm.stages import settle
from sasrecllm.stages.timing import RunTime, StageTime, run_time

SMALL = {
    "encoder": {"width": 8, "blocks": 1, "length": 5},
    "lists.next_item.loop.epochs": 2,
    "evaluation.resamples": 100,
    "quiet": True,
}


@pytest.fixture(scope="module")
def items():
    titles = [f"{['Sea', 'War', 'Love'][n % 3]} tale {n}" for n in range(30)]
    return pl.DataFrame({"item_id": [f"i{n}" for n in range(30)], "title": titles})


def slow(tried, dataset, *, language=True):
    """A machine on which encoders take ten minutes, and nothing else much."""
    training = StageTime(step=1.0, steps=600)
    return RunTime({"encoder": training, "lists": StageTime(other=2.0)}, plain=3.0)


def never(*_, **__):
    raise AssertionError("chosen anew")


def test_the_choice_is_kept_and_a_second_start_does_not_choose_anew(log, items, tmp_path, monkeypatch):
    monkeypatch.setattr(settle, "run_time", slow)
    made = fit(log, items, out=tmp_path / "run", budget="4m", **SMALL)
    stored = reread_config(RunFolder(tmp_path / "run").config)
    assert stored.budget == "4m" and stored.strategy == "encoder-only"
    assert stored.chosen["strategy"] == "encoder-only" and stored.encoder.loop.epochs < 30
    assert stored.encoder.loop.epochs == stored.chosen["encoder.loop.epochs"]
    said = (tmp_path / "run/log.txt").read_text("utf-8")
    assert "budget 4m: no language model, all else takes about 10:0" in said
    monkeypatch.setattr(settle, "run_time", never)
    again = fit(log, items, out=tmp_path / "run", budget="4m", **SMALL)
    assert again.recommend(["i1"]) == made.recommend(["i1"])
    with pytest.raises(ConfigError, match="budget is '4m' there, '1h' here"):
        fit(log, items, out=tmp_path / "run", budget="1h", **SMALL)


def test_what_was_begun_goes_on_with_what_it_chose(log, items, tmp_path, monkeypatch):
    """Trained on one machine, judged on another: the faster one changes nothing."""
    monkeypatch.setattr(settle, "run_time", slow)
    fit(log, items, out=tmp_path / "run", budget="4m", **SMALL)
    folder = RunFolder(tmp_path / "run")
    before = folder.config.read_bytes()
    for path in (folder.manifest, folder.summary, folder.results):
        path.unlink()
    monkeypatch.setattr(settle, "run_time", never)
    fit(log, items, out=tmp_path / "run", budget="4m", **SMALL)
    assert folder.config.read_bytes() == before and folder.is_sealed()


def test_a_budget_is_no_matter_of_several_processes(log, items, tmp_path, monkeypatch):
    monkeypatch.setattr(settle, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="budget is '4m', under 2 processes"):
        fit(log, items, out=tmp_path / "run", budget="4m", **SMALL)


def test_a_dry_run_shows_the_choice_and_keeps_none(log, items, tmp_path, monkeypatch, cli):
    monkeypatch.setattr(settle, "run_time", slow)
    threads = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    log.write_csv(tmp_path / "log.csv")
    items.write_csv(tmp_path / "items.csv")
    said = cli(
        "run", "--dry-run", "--budget", "4m", "threads=3", "--out", tmp_path / "run",
        "data.source=files",
        f"data.path={tmp_path / 'log.csv'}", f"data.items_path={tmp_path / 'items.csv'}",
        "encoder.width=8", "encoder.length=5", "lists.next_item.loop.epochs=2",
    )  # fmt: skip
    assert threads == [3], "what is timed is what the run will compute with"
    assert "budget 4m: no language model" in said and "encoder.loop.epochs=" in said
    assert "evaluation: about" in said and "in all about" in said
    stored = reread_config(RunFolder(tmp_path / "run").config)
    assert not stored.chosen and stored.encoder.loop.epochs == 30


def test_the_time_of_a_run_counts_every_stage_and_the_evaluation(run, tmp_path):
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_config, stored_data

    config, data = stored_config(RunFolder(run)), stored_data(RunFolder(run))
    opened = open_run(tmp_path / "run", config, "x", quiet=True)
    full = run_time(opened, data)
    names = ["encoder", "text", "mapper", "soft", "fusion", "next_item", "lists"]
    assert list(full.stages) == names
    assert [n for n, s in full.stages.items() if s.asks] == ["text", "mapper", "soft"]
    assert full.stages["encoder"].copies == 3 and full.stages["text"].copies == 1
    rows = len(data.rows("train"))
    assert full.stages["text"].steps == -(-rows // 64) and full.stages["text"].step > 0
    assert full.documents == config.llm.offline.documents and full.document > 0
    asked = len(data.rows("valid")) + len(data.rows("test"))
    assert full.rows >= asked and full.ablated == 5 * len(data.rows("test")) and full.shown > 0
    assert full.seconds > full.judging > full.plain > 0
    plain = run_time(opened, data, language=False)
    assert not any(s.asks for s in plain.stages.values()) and not plain.rows + plain.documents
    assert not (tmp_path / "run").exists(), "all of it is thrown away"


def test_a_share_of_the_validation_users_shortens_validations_and_nothing_else(run, tmp_path):
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_config, stored_data

    config, data = stored_config(RunFolder(run)), stored_data(RunFolder(run))
    llm = config.llm.model_copy(update={"validation_users": 0.25})
    opened = open_run(tmp_path / "run", config.model_copy(update={"llm": llm}), "x", quiet=True)
    found = run_time(opened, data)
    users = data.users[data.rows("valid")]
    for name in ("text", "mapper", "soft"):
        assert 0 < found.stages[name].validated < len(users) / 2
    assert found.stages["encoder"].validated == len(users), "its validations are cheap"
    assert found.rows >= len(users) + len(data.rows("test")), "measured on all"


def test_the_time_of_a_run_with_a_model_from_a_folder_heeds_max_steps(run, tmp_path):
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_config, stored_data

    config, data = stored_config(RunFolder(run)), stored_data(RunFolder(run))
    named = {"llm.backbone": str(run / "llm"), "llm.loop.max_steps": 2, "llm.loop.evals_per_epoch": 5}
    found = run_time(open_run(tmp_path / "run", with_values(config, named), "x", quiet=True), data)
    assert [n for n, s in found.stages.items() if s.asks] == ["text", "mapper", "soft"]
    for name in ("text", "mapper", "soft"):
        stage = found.stages[name]
        assert stage.steps == 2 and stage.validations == 2 and stage.step > 0
    assert not found.documents and min(s.row for s in found.stages.values() if s.asks) > 0


def test_a_stage_that_learns_nothing_takes_the_time_of_its_questions(run, tmp_path):
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_config, stored_data

    config, data = stored_config(RunFolder(run)), stored_data(RunFolder(run))
    asked = {"name": "zero-shot", "task": "answer", "train": [], "row": "zero-shot"}
    named = {"llm.backbone": str(run / "llm"), "fusion.enabled": False, "strategy": [asked]}
    found = run_time(open_run(tmp_path / "run", with_values(config, named), "x", quiet=True), data)
    stage = found.stages["zero-shot"]
    assert stage.asks and stage.row > 0 and not stage.seconds
    assert found.judging >= found.rows * stage.row > 0


def test_lists_that_a_pretrained_model_orders_are_counted_too(run, tmp_path):
    """Every row that asks it, the fused one too, is asked about every item of every list."""
    from sasrecllm.data.candidates import longest_lists, servable_likes
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_config, stored_data
    from sasrecllm.stages.list_budget import prompt_budget
    from sasrecllm.stages.strategies import planned

    config, data = stored_config(RunFolder(run)), stored_data(RunFolder(run))

    def found(**named):
        changed = with_values(config, {f"evaluation.ranking.{k}": v for k, v in named.items()})
        return run_time(open_run(tmp_path / "run", changed, "x", quiet=True), data)

    always, auto = found(when="always"), found(when="auto")
    lists, others = len(servable_likes(data, "test")), longest_lists(data, "test", 100)
    assert always.drawn == 4 * lists * (1 + others) > 0 and auto.drawn == 0
    assert always.listed > 0 and always.served >= prompt_budget(config, data, planned(config))
    assert found(when="always", negatives=0).drawn == 0
    never = found(when="never")
    assert (never.served, never.drawn) == (0, 0)
    assert always.seconds > always.listed * always.drawn


PARTS = {
    "llm.loop.micro_tokens": settle.TOKENS_ON_A_CPU,
    "llm.loop.batch_size": 64,
    **settle.ON_A_CPU,
}
"""How a pretrained model is trained on a CPU, where nobody names anything else."""
ALL = {"r": 0}


@pytest.mark.parametrize(
    ("llm", "chosen"),
    [
        ({"dtype": "auto", "backbone": "wide"}, {"llm.dtype": "bf16"} | PARTS),
        ({"dtype": "auto", "backbone": "narrow"}, {"llm.dtype": "fp32"} | PARTS),
        ({"dtype": "auto", "backbone": "wide", "lora": ALL}, {"llm.dtype": "fp32"} | PARTS),
        ({"dtype": "auto"}, {"llm.dtype": "fp32"}),
        ({"dtype": "bf16", "backbone": "narrow"}, PARTS),
        ({"backbone": "wide"}, {"llm.dtype": "bf16"} | PARTS),
        ({"backbone": "wide", "dtype": "fp32"}, PARTS),
        ({}, {}),
    ],
)
def test_a_pretrained_model_is_held_and_trained_as_this_machine_does_it_best(monkeypatch, llm, chosen):
    from sasrecllm.runs import language_model

    monkeypatch.setattr(language_model, "located", lambda name: name)
    monkeypatch.setattr(language_model, "width_of", {"wide": 576, "narrow": 64}.__getitem__)
    monkeypatch.setattr(language_model, "bf16_is_faster", lambda width, device: width > 100)
    config = parse_config({"llm": llm, "device": "cpu"}, "test")

    def of_machine(**data):
        rules = settle._of_machine(config, SimpleNamespace(**data))
        return {key: value for rule in rules for key, value in rule.values.items()}

    found = of_machine(implicit=False, negatives=4)
    assert found == chosen
    settled = with_choice(config, found)
    assert settled.llm.dtype == chosen.get("llm.dtype", llm.get("dtype", "fp32"))
    named_r = {"llm.lora.r"} if llm.get("lora") else set()
    assert settled.chosen.keys() == chosen.keys() - named_r, "kept: the run goes on with it anywhere"
    likes = of_machine(implicit=True, negatives=4)
    if chosen and "backbone" in llm:  # whole handfuls of a like and what is drawn beside it
        assert likes["llm.loop.batch_size"] == 40 and likes["llm.loop.micro_tokens"] == 4096
    named = parse_config({"llm": llm | {"loop": {"micro_tokens": 0}}, "device": "cpu"}, "test")
    assert with_choice(named, found).llm.loop.micro_tokens == 0, "named: as many as there are"


def test_a_loaded_adapter_brings_its_shape_where_nobody_names_one(run, tmp_path):
    from sasrecllm.pipeline.preflight import check_language_model
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_data

    def opened(**lora):
        stage = {"name": "text", "task": "answer", "train": [], "load": {"adapter": str(run)}}
        llm = {"backbone": str(run / "llm"), "text_prompt": "short-text", "max_tokens": 128}
        values = {"llm": llm | ({"lora": lora} if lora else {}), "strategy": [stage]}
        return open_run(tmp_path / "run", parse_config(values, "test"), "x", quiet=True)

    (tmp_path / "run").mkdir()
    check_language_model(opened())
    lora = settle.choose(opened(), stored_data(RunFolder(run)), 0.0).llm.lora
    assert (lora.r, lora.alpha, lora.targets) == (2, 4, ["q_proj", "v_proj"])
    with pytest.raises(CheckpointError, match="LoRA r = 2, this run has 4"):
        check_language_model(opened(r=4))


@pytest.mark.parametrize("place", ["", "stages/*/parts/adapter"], ids=["of a run", "by its folder"])
@pytest.mark.parametrize("named", [{}, {"history": 7}], ids=["nothing named", "history named"])
def test_a_loaded_adapter_is_asked_as_it_was_taught(run, tmp_path, place, named):
    from sasrecllm.runs.opening import open_run
    from sasrecllm.runs.stored import stored_data

    source = sorted(run.glob(place))[-1] if place else run
    text = {"name": "text", "task": "answer", "train": [], "load": {"adapter": str(source)}}
    llm = {"backbone": str(run / "llm"), "text_prompt": "short-text", "max_tokens": 128, **named}
    (tmp_path / "run").mkdir()
    config = parse_config({"llm": llm, "strategy": [text]}, "test")
    opened = open_run(tmp_path / "run", config, "x", quiet=True)
    chosen = settle.choose(opened, stored_data(RunFolder(run)), 0.0)
    assert chosen.llm.history == named.get("history", 3) and chosen.llm.title_tokens == 16, "tiny.yaml"


def test_of_an_adapter_outside_a_run_its_shape_alone_is_known(run, tmp_path):
    from sasrecllm.runs.opening import open_run

    apart = tmp_path / "adapter"
    shutil.copytree(sorted(run.glob("stages/*/parts/adapter"))[-1], apart)
    text = {"name": "text", "task": "answer", "train": [], "load": {"adapter": str(apart)}}
    config = parse_config({"llm": {"backbone": str(run / "llm")}, "strategy": [text]}, "test")
    (tmp_path / "run").mkdir()
    opened = open_run(tmp_path / "run", config, "x", quiet=True)
    assert settle.loaded_settings(opened).keys() == {
        f"llm.lora.{key}" for key in ("r", "alpha", "targets")
    }


def test_a_loaded_encoder_names_no_class_to_import(run, tmp_path):
    from sasrecllm.runs.opening import open_run

    apart = tmp_path / "encoder"
    shutil.copytree(sorted(run.glob("stages/*/parts/encoder"))[-1], apart)
    text = (apart / "part.json").read_text()
    (apart / "part.json").write_text(text.replace('"sasrec"', '"somebodys:Mine"'))
    text = {"name": "text", "task": "answer", "train": [], "load": {"encoder": str(apart)}}
    config = parse_config({"llm": {"backbone": str(run / "llm")}, "strategy": [text]}, "test")
    (tmp_path / "run").mkdir()
    opened = open_run(tmp_path / "run", config, "x", quiet=True)
    found = settle.loaded_settings(opened)
    assert found["encoder.width"] == 16 and "encoder.kind" not in found


def test_a_loaded_mapper_and_encoder_bring_their_shapes_too(run, tmp_path):
    from sasrecllm.runs.opening import open_run

    load = {"encoder": str(run), "adapter": str(run), "mapper": str(run)}
    soft = {"name": "soft", "task": "answer", "train": [], "prompt": "soft", "load": load}
    values = {"llm": {"backbone": str(run / "llm")}, "strategy": [soft]}
    (tmp_path / "run").mkdir()
    opened = open_run(tmp_path / "run", parse_config(values, "test"), "x", quiet=True)
    made = stored_config(RunFolder(run)).mapper
    found = {k: v for k, v in settle.loaded_settings(opened).items() if k.startswith("mapper.")}
    assert found == {f"mapper.{key}": getattr(made, key) for key in SHAPE}
    encoder = stored_config(RunFolder(run)).encoder
    brought = settle.loaded_settings(opened)
    assert {key: brought[f"encoder.{key}"] for key in settle.ENCODER} == {
        key: getattr(encoder, key) for key in settle.ENCODER
    }
    assert found["mapper.hidden"] == 16 and found["mapper.encoder_logit"] is False, "as tiny.yaml says"
