"""A run holds what it needs: its templates, absolute paths, the parts of other runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from sasrecllm.checkpoint import commit_folder, read_json, save_part
from sasrecllm.config import load_config, parse_config
from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.pipeline.prepare import check_settings, claim_folder
from sasrecllm.prompts.template import load_template
from sasrecllm.runs.absolute_paths import with_absolute_paths
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.loaded import keep_part
from sasrecllm.runs.opening import claim, open_run
from sasrecllm.runs.stored import stored_config
from sasrecllm.runs.templates import keep_templates, named_templates, stored_templates

TINY = Path(__file__).parents[1] / "tiny.yaml"
WORDS = "They liked {history|; |nothing}. Will they like {target}? Answer:"
OTHER = "Bad films: {history|; |nothing}. Is {target} as bad? Answer:"
TEXT_ONLY = ("strategy=text-only", "fusion.enabled=false", "evaluation.ablations=false")


def settings(**llm):
    return parse_config({"strategy": "text-only", "llm": llm}, "test")


@pytest.fixture(scope="module")
def place(tmp_path_factory, cli, run):
    """A folder with a finished run, whose template and language model were named by relative paths."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "mine.txt").write_text(WORDS)
    shutil.copytree(run / "llm", folder / "model")
    train(cli, folder)
    return folder


def train(cli, folder, expect=0):
    named = ("llm.backbone=model", "llm.text_prompt=mine.txt", *TEXT_ONLY)
    return cli("run", "--config", TINY, "--out", "out", *named, cwd=folder, expect=expect)


def scores(cli, folder, cwd=None):
    lines = json.loads(cli("recommend", folder, "--liked", "m0003", "-k", "4", "--json", cwd=cwd))
    return {line["item_id"]: line["score"] for line in next(iter(lines.values()))}


@pytest.fixture
def edited(place):
    """The template with other words, for one test."""
    (place / "mine.txt").write_text(OTHER)
    yield place
    (place / "mine.txt").write_text(WORDS)


def test_an_edited_or_lost_template_changes_no_answer_and_no_folder_to_ask_from_does(
    cli, place, edited, tmp_path
):
    other = scores(cli, place / "out")
    (place / "mine.txt").write_text(WORDS)
    assert scores(cli, place / "out") == other and len(other) == 4
    (place / "mine.txt").unlink()
    assert scores(cli, place / "out", cwd=tmp_path) == other
    assert scores(cli, "out", cwd=place) == other


def test_the_settings_name_absolute_paths(place):
    c = stored_config(RunFolder(place / "out")).llm
    assert c.backbone == str(place / "model") and c.text_prompt == str(place / "mine.txt")
    assert c.soft_prompt == "short-soft", "a shipped template keeps its name"


def test_the_same_command_goes_on_and_an_edited_template_is_another_configuration(cli, place, edited):
    said = train(cli, place, expect=2)
    assert str(place / "mine.txt") in said and "out/prompts/text.txt" in said
    (place / "mine.txt").write_text(WORDS)
    assert "finished already" in train(cli, place)


def test_a_changed_copy_is_a_damaged_run(cli, place, tmp_path):
    mine = shutil.copytree(place / "out", tmp_path / "mine")
    copy = mine / "prompts" / "text.txt"
    copy.write_text(copy.read_text().replace("liked", "hated"))
    assert "prompts" in cli("recommend", mine, "--liked", "m0003", expect=5)
    shutil.rmtree(copy.parent)
    assert "prompts" in cli("recommend", mine, "--liked", "m0003", expect=5)


def test_copies_are_to_the_letter_and_lines_may_end_as_on_windows(tmp_path):
    template = tmp_path / "windows.txt"
    template.write_bytes(b"\xef\xbb\xbfLiked:\r\n{history}.\r\n{target}? Answer:\r\n")
    config = settings(text_prompt=str(template))
    keep_templates(RunFolder(tmp_path / "run"), config)
    assert (tmp_path / "run/prompts/text.txt").read_bytes() == template.read_bytes()[3:]
    found = stored_templates(RunFolder(tmp_path / "run"), config)["text"]
    assert found.segments[0].text == "Liked:\n" and found.cue == "? Answer:"


def test_a_pretrained_model_is_asked_in_the_papers_words_and_one_built_from_titles_in_few():
    built = named_templates(parse_config({}, "test"))
    assert built == {"text": "short-text", "soft": "short-soft"}
    asked = {"backbone": "owner/name", "text_prompt": "question-first-text"}
    names = named_templates(parse_config({"llm": asked}, "test"))
    assert names == {"text": "question-first-text", "soft": "paper-soft"}
    # Every candidate of a list reads the cue again.
    shorter, paper = (load_template(name).cue for name in (names["text"], "paper-text"))
    assert shorter == '". Answer:' and len(shorter) < len(paper)


def test_a_wrong_template_leaves_no_folder_behind_and_is_named_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'paper-text'"):
        check_settings(open_run(tmp_path / "run", settings(text_prompt="paper-txet"), "x", quiet=True))
    (tmp_path / "bad.txt").write_text("no slots at all")
    with pytest.raises(ConfigError, match=r"bad\.txt"):
        check_settings(open_run(tmp_path / "run", settings(text_prompt="bad.txt"), "x", quiet=True))
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_language_model_keeps_no_prompts(tmp_path):
    config = parse_config({"strategy": "encoder-only"}, "test")
    claim_folder(open_run(tmp_path / "run", config, "x", quiet=True))
    assert (tmp_path / "run" / "config.yaml").exists()
    assert not (tmp_path / "run" / "prompts").exists()


def test_paths_that_are_read_again_are_made_absolute_and_nothing_else_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "words.txt").write_text(WORDS)
    stage = {"name": "a", "task": "answer", "train": ["mapper"], "prompt": "soft"}
    values = {
        "llm": {"backbone": "~/model", "text_prompt": "words.txt", "soft_prompt": "paper-soft"},
        "strategy": [stage | {"load": {"encoder": "runs/other", "adapter": "~/runs/other"}}],
        "data": {"path": "log.csv"},
    }
    found = with_absolute_paths(parse_config(values, "test"))
    assert found.llm.backbone == str(tmp_path / "model")
    assert found.llm.text_prompt == str(tmp_path / "words.txt")
    assert found.llm.soft_prompt == "paper-soft" and found.data.path == "log.csv"
    load = found.strategy[0]["load"]
    assert load == {p: str(tmp_path / "runs" / "other") for p in ("encoder", "adapter")}
    assert with_absolute_paths(found) == found
    untouched = parse_config({"llm": {"backbone": "owner/name"}}, "test")
    assert with_absolute_paths(untouched) == untouched


def test_a_relative_path_from_elsewhere_is_another_model_and_old_runs_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    config = settings(backbone="model")
    opened = open_run(tmp_path / "run", config, "x", quiet=True)
    claim(opened)
    folder = opened.folder.path
    commit_folder(folder / "llm", lambda temporary: None)  # something was trained
    path = folder / "config.yaml"
    ours = path.read_text()
    path.write_text(ours.replace(str(tmp_path / "model"), "model"))
    open_run(folder, config, "x", quiet=True)
    path.write_text(ours)
    (tmp_path / "elsewhere" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"llm\.backbone"):
        open_run(folder, config, "x", quiet=True)


def test_where_nothing_was_trained_the_words_of_the_newest_settings_are_kept(tmp_path):
    template, folder = tmp_path / "mine.txt", tmp_path / "run"
    for words in (WORDS, OTHER):
        template.write_text(words)
        opened = open_run(folder, settings(text_prompt=str(template)), "x", quiet=True)
        check_settings(opened)
        claim_folder(opened)
        assert (folder / "prompts/text.txt").read_text() == words


def test_parts_of_another_run_are_copied_in_and_the_other_run_may_go(run, cli, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    stages = (
        "strategy=[{name: swapped, task: answer, train: [mapper], prompt: soft,"
        f" load: {{encoder: '{other}', adapter: '{other}'}}, row: swapped}}]"
    )
    mine = tmp_path / "mine"
    cli("run", "-q", "--config", TINY, "--out", mine, f"llm.backbone={run / 'llm'}", stages,
        "fusion.enabled=false", "evaluation.ablations=false")  # fmt: skip
    kept = {p.name for p in (mine / "stages/1-swapped/loaded").iterdir()}
    assert kept == {"encoder", "adapter", "fold-0", "fold-1"}
    before = scores(cli, mine)
    shutil.rmtree(other)
    assert scores(cli, mine) == before
    assert "swapped" in read_json(mine / "results.json")["rows"]
    weights = mine / "stages/1-swapped/loaded/adapter/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    cli("recommend", mine, "--liked", "m0003", expect=5)


def test_a_damaged_part_of_another_run_is_refused_before_anything_is_trained(run, tmp_path):
    other = shutil.copytree(run / "stages/2-text/parts/adapter", tmp_path / "adapter")
    (other / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="weights"):
        keep_part(RunFolder(tmp_path / "run").stage(1, "a"), "adapter", str(other))
    assert not (tmp_path / "run").exists()


MAPPER = "{name: mapper, task: answer, train: [mapper], prompt: soft, row: soft, %s}"
PRIOR = "{name: prior, task: title_prior, train: [encoder], row: prior, load: {encoder: %s}}"


def asked(folder, stages, *more):
    config = load_config(TINY, [f"strategy=[{stages}]", "fusion.enabled=false", *more])
    check_settings(open_run(folder, config, "x", quiet=True))


def test_a_loaded_encoder_without_fold_encoders_is_refused_where_a_stage_reads_them(tmp_path):
    alone, fitted = tmp_path / "alone/encoder", tmp_path / "fitted/encoder"
    for place in (alone, fitted, tmp_path / "fitted/fold-0"):
        save_part(place, {"a": torch.ones(1)}, {}, {})
    folder = tmp_path / "run"
    for stages in (
        MAPPER % f"load: {{encoder: '{alone}'}}",
        PRIOR % f"'{alone}'" + ", " + MAPPER % "vectors: crossfit",
    ):
        with pytest.raises(ConfigError, match=r"stage 'mapper'.*no fold encoders") as refusal:
            asked(folder, stages)
        assert str(alone) in refusal.value.what and "vectors to encoder" in refusal.value.remedy
    # What the refusal names as next steps, and what never needed fold encoders.
    asked(folder, MAPPER % f"load: {{encoder: '{fitted}'}}")
    asked(folder, MAPPER % f"load: {{encoder: '{alone}'}}, vectors: encoder")
    asked(folder, MAPPER % f"load: {{encoder: '{alone}'}}", "encoder.folds=0")
    asked(folder, PRIOR % f"'{alone}'")
    again = "{name: encoder, task: encode, train: [encoder], row: encoder}, "
    asked(folder, PRIOR % f"'{alone}'" + ", " + again + MAPPER % "vectors: crossfit")
    # A run that began with such an encoder goes on as it began.
    keep_part(RunFolder(folder).stage(1, "mapper"), "encoder", str(alone))
    asked(folder, MAPPER % f"load: {{encoder: '{alone}'}}")
