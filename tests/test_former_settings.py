"""Names of earlier versions: refused with the new one where they are set, understood in older runs."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import read_json, write_json
from sasrecllm.config import load_config, parse_config, reread_config
from sasrecllm.errors import ConfigError
from sasrecllm.former_settings import NAME_LISTS, REMOVED, RENAMED, RENAMED_NAMES, translated
from sasrecllm.manifest import MANIFEST, manifest_of
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import seal, unseal
from sasrecllm.settings import Config
from sasrecllm.studies.plan import Range
from sasrecllm.studies.tune import refuse_other_search, tune, what_is_asked

TINY = Path(__file__).parent / "tiny.yaml"
OLD_KEYS = {
    "taste.words": ("item_features.words", 3),
    "taste.attributes": ("item_features.attributes", ["genres"]),
    "mapper.logit": ("mapper.encoder_logit", True),
    "mapper.absent": ("mapper.cold_item_dropout", 0.25),
    "mapper.fresh_users": ("mapper.llm_holdout_users", 0.5),
}


def at(values, key):
    for name in key.split("."):
        values = values[name]
    return values


def put(values, key, value):
    *path, last = key.split(".")
    for name in path:
        values = values.setdefault(name, {})
    values[last] = value


def older(config):
    """Settings as the first version would have written them."""
    values = config.model_dump()
    for old, new in RENAMED.items():
        section, _, last = new.rpartition(".")
        put(values, old, (at(values, section) if section else values).pop(last))
    for key in REMOVED:
        put(values, key, 1)
    back = {new: old for old, new in RENAMED_NAMES.items()}
    for key in NAME_LISTS:
        put(values, key, [back.get(name, name) for name in at(values, key)])
    return values


def test_the_tables_name_settings_that_are_and_none_that_were():
    now = Config().model_dump()
    for new in RENAMED.values():
        at(now, new)
    for old in (*RENAMED, *REMOVED):
        with pytest.raises(KeyError):
            at(now, old)
    assert {old.rpartition(".")[0] for old in RENAMED} == {
        n.rpartition(".")[0] for n in RENAMED.values()
    }


@pytest.mark.parametrize("old", OLD_KEYS)
def test_an_old_key_is_refused_with_the_new_one_in_file_override_and_environment(
    old, tmp_path, monkeypatch
):
    new, value = OLD_KEYS[old]
    path = tmp_path / "mine.yaml"
    values = {}
    put(values, old, value)
    path.write_text(yaml.safe_dump(values))
    says = f"{old} is called {new} now"
    with pytest.raises(ConfigError, match=r"mine\.yaml") as refused:
        load_config(path)
    assert says in str(refused.value) and refused.value.exit_code == 2
    with pytest.raises(ConfigError, match=f"override .{re.escape(old)}") as refused:
        load_config(None, [f"{old}={value}"])
    assert says in str(refused.value)
    variable = "SASRECLLM_" + old.upper().replace(".", "__")
    monkeypatch.setenv(variable, str(value))
    with pytest.raises(ConfigError, match=f"environment variable {variable}") as refused:
        load_config()
    assert says in str(refused.value)
    # What the refusal names instead works.
    monkeypatch.delenv(variable)
    named = re.search(r"in the environment (\w+)", str(refused.value))[1]
    monkeypatch.setenv(named, str(value))
    assert at(load_config().model_dump(), new) == value


@pytest.mark.parametrize("key", REMOVED)
def test_a_setting_that_is_gone_is_refused_with_the_reason(key):
    with pytest.raises(ConfigError, match="no setting any more, leave it out") as refused:
        load_config(None, [f"{key}=1"])
    assert key in str(refused.value) and REMOVED[key] in str(refused.value)


@pytest.mark.parametrize("key", NAME_LISTS)
def test_the_old_name_of_a_baseline_is_refused_with_the_new_one(key):
    with pytest.raises(ConfigError, match="'user taste' is called 'user preference' now"):
        load_config(None, [f"{key}=[item quality, user taste]"])


def test_the_old_name_of_a_task_is_refused_with_the_new_one_and_understood_in_older_runs():
    stages = [{"name": "a", "task": "prior", "train": ["encoder"]}]
    with pytest.raises(ConfigError, match="'prior' is called 'title_prior' now"):
        parse_config({"strategy": stages}, "x.yaml")
    new = parse_config(translated({"strategy": stages}), "x.yaml")
    assert new.strategy[0]["task"] == "title_prior" and new.strategy[0]["name"] == "a"
    assert translated({"strategy": "joint"}) == {"strategy": "joint"}


def test_everything_of_an_earlier_version_is_refused_at_once():
    with pytest.raises(ConfigError) as refused:
        parse_config(
            {"taste": {"words": 0}, "mapper": {"logit": True}, "fusion": {"ridge": 2}}, "x.yaml"
        )
    for part in ("taste.words", "mapper.logit", "fusion.ridge"):
        assert part in str(refused.value)


def test_odd_values_under_an_old_key_are_refused_by_it_too():
    for values in ({"taste": None}, {"taste": {}}, {"taste": [1]}):
        with pytest.raises(ConfigError, match="taste is called item_features now"):
            parse_config(values, "x.yaml")
    for values in ({"mapper": None}, {"mapper": [1]}, {"fusion": {"components": "user taste"}}):
        with pytest.raises(ConfigError, match="allowed: "):
            parse_config(values, "x.yaml")


def test_the_space_of_a_search_is_refused_by_the_new_name_too(tmp_path):
    with pytest.raises(ConfigError, match=r"taste\.words is called item_features\.words now"):
        tune(Config(), {"taste.words": Range(choices=[0, 9])}, tmp_path / "tuned", trials=1)


def test_settings_of_an_earlier_version_mean_what_they_meant(tmp_path):
    new = load_config(TINY, [f"{key}={value}" for key, value in OLD_KEYS.values()])
    old = older(new)
    kept = yaml.safe_dump(old)
    assert parse_config(translated(old), "x") == new and yaml.safe_dump(old) == kept
    path = tmp_path / "config.yaml"
    path.write_text(kept)
    assert reread_config(path) == new
    assert translated(new.model_dump()) == new.model_dump()


def test_a_search_of_an_earlier_version_goes_on(tmp_path):
    config, space = load_config(TINY), {"encoder.width": Range(choices=[8, 16])}
    asked = what_is_asked(config, space, "auc")
    old = {k: v for k, v in older(config).items() if k not in ("evaluation", "seed", "track")}
    write_json(tmp_path / "asked.json", {**asked, "config": old, "found": True})
    refuse_other_search(tmp_path, asked)
    write_json(tmp_path / "asked.json", {**asked, "config": {**old, "device": "cuda"}, "found": True})
    with pytest.raises(ConfigError, match="another search"):
        refuse_other_search(tmp_path, asked)


@pytest.fixture(scope="module")
def old_run(run, tmp_path_factory):
    """The tiny run as an earlier version would have left it: its names in settings and parts."""
    folder = tmp_path_factory.mktemp("old") / "tiny"
    shutil.copytree(run, folder)
    unseal(RunFolder(folder))
    values = older(reread_config(folder / "config.yaml"))
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for name in ("run.json", "results.json"):
        about = read_json(folder / name)
        write_json(folder / name, about | {"evaluation": values["evaluation"]})
    for path in folder.glob("stages/*/parts/*/part.json"):
        part = read_json(path)
        if path.parent.name == "mapper":
            part["config"]["logit"] = part["config"].pop("encoder_logit")
        if path.parent.name == "fusion":
            for key in ("components", "worded"):
                names = part["config"][key]
                part["config"][key] = [n.replace("preference", "taste") for n in names]
            assert "user taste" in part["config"]["worded"]
        write_json(path, part)
        files = sorted(p for p in path.parent.iterdir() if p.name != MANIFEST)
        (path.parent / MANIFEST).write_text(manifest_of(path.parent, files))
    seal(RunFolder(folder))
    return folder


def test_a_run_of_an_earlier_version_opens_and_says_the_same(run, old_run):
    old, new = (SASRecLLM.from_pretrained(folder, device="cpu") for folder in (old_run, run))
    user = new.catalog.user_ids[3]
    assert [r.to_dict() for r in old.recommend(user=user, k=5)] == [
        r.to_dict() for r in new.recommend(user=user, k=5)
    ]
    item = new.catalog.item_ids[2]
    assert old.explain(item, user=user).shares == new.explain(item, user=user).shares
    assert "user preference" in old.explain(item, user=user).shares


def test_a_run_of_an_earlier_version_is_finished_under_the_same_settings(old_run, cli, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(old_run, folder)
    said = cli("run", "--config", TINY, "--out", folder)
    assert "is finished already" in said


def test_a_run_of_before_chats_goes_on_asking_in_plain_words(tmp_path):
    for backbone, asked in (("some/instruct-model", "off"), ("offline", "auto")):
        values = Config().model_dump()
        values["llm"]["backbone"] = backbone
        values["llm"].pop("chat")
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        assert reread_config(tmp_path / "config.yaml").llm.chat == asked
    assert load_config(overrides=["llm.backbone=some/instruct-model"]).llm.chat == "auto"
    assert load_config(overrides=["llm.chat=off"]).llm.chat == "off"
