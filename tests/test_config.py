"""Typos and impossible values are refused at once, by name."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.config import judged_by, load_config, reread_config
from sasrecllm.errors import ConfigError
from sasrecllm.names import ENV_PREFIX
from sasrecllm.settings import Config


def leaves(model, path=()):
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name)


KEYS = sorted(".".join(p) for p in leaves(Config))


def test_file_environment_and_override_in_that_order(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\nencoder: {width: 32, length: 9}\n")
    monkeypatch.setenv("SASRECLLM_ENCODER__WIDTH", "48")
    monkeypatch.setenv("SASRECLLM_ENCODER__LENGTH", "11")
    config = load_config(path, ["encoder.width=16"])
    assert (config.seed, config.encoder.width, config.encoder.length) == (1, 16, 11)
    assert reread_config(path).encoder.length == 9


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("encoder.wdth=3", "did you mean 'width'"),
        ("encodr.width=3", "did you mean 'encoder'"),
        ("encoder.width=abc", "encoder.width is 'abc'"),
        ("encoder.width=-1", "encoder.width is -1"),
        ("encoder.heads=3", "not a multiple of encoder.heads"),
        ("llm.dtype=fp8", "llm.dtype is 'fp8'"),
        ("seed", "has no '='"),
    ],
)
def test_refusals_name_key_value_and_remedy(override, says):
    with pytest.raises(ConfigError) as refused:
        load_config(None, [override])
    assert says in str(refused.value) and "\n  -> " in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("later", ["data.columns={user_id: who}", "data.columns=null", "data={}"])
def test_a_setting_that_a_later_one_would_take_back_is_refused(later):
    """Else the rating would be ignored, and nobody would notice."""
    named = "data.columns.rating=played_seconds"
    with pytest.raises(ConfigError, match="replaces all of data") as refused:
        load_config(None, [named, "seed=1", later])
    assert refused.value.remedy == f"write {named!r} after it, or into it"
    both = load_config(None, ["data.columns={user_id: who}", named]).data.columns
    assert both == {"user_id": "who", "rating": "played_seconds"}
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2, "one that is said again is meant"


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(broken)
    broken.write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list"):
        load_config(broken)


@settings(max_examples=300)
@given(key=st.sampled_from(KEYS), place=st.integers(0, 30), letter=st.sampled_from("aeiox_1"))
def test_a_typo_in_any_key_is_refused_with_the_nearest_name(key, place, letter):
    *path, last = key.split(".")
    typo = last[: place % (len(last) + 1)] + letter + last[place % (len(last) + 1) :]
    wrong = ".".join([*path, typo])
    if wrong in KEYS:
        return
    with pytest.raises(ConfigError) as refused:
        load_config(None, [f"{wrong}=1"])
    assert typo in str(refused.value)


def test_a_typo_gets_the_right_hint_nine_times_in_ten():
    right = total = 0
    for key in KEYS:
        *path, last = key.split(".")
        for at in range(len(last)):
            typo = last[:at] + last[at + 1 :]
            if not typo or ".".join([*path, typo]) in KEYS:
                continue
            total += 1
            with pytest.raises(ConfigError) as refused:
                load_config(None, [f"{'.'.join([*path, typo])}=1"])
            right += f"did you mean {last!r}" in str(refused.value)
    assert total > 300 and right / total >= 0.9


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\n"
        + "".join(f"{n}: &{n} [*{m}, *{m}]\n" for m, n in pairwise("abcdefghijklmnopqrstuvw")),
        "a: &a [*a]",
        "a: " + "[" * 5_000,
    ],
    ids=["aliases of aliases", "an alias of itself", "deep"],
)
def test_settings_that_unfold_without_end_are_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_config(tmp_path / "x.yaml")


def test_a_date_is_text_and_can_be_stored(tmp_path):
    path = tmp_path / "dates.yaml"
    path.write_text("name: 2024-05-01\ndata: {split_args: {test: 2024-05-01 12:00:00}}\n")
    config = load_config(path, ["data.split_args.valid=2024-04-01"])
    assert config.name == "2024-05-01"
    assert config.data.split_args == {"valid": "2024-04-01", "test": "2024-05-01 12:00:00"}
    json.dumps(config.model_dump())


@pytest.mark.parametrize(
    "name", ["0", "007", "2020", "on", "@timestamp", "#plays", "a: b", "2024-05-01"]
)
def test_the_name_of_a_column_is_what_is_written(name):
    for written in (name, f"'{name}'"):
        columns = load_config(None, [f"data.columns.rating={written}"]).data.columns
        assert columns == {"rating": name}


@pytest.mark.parametrize("written", ["null", "~", ""])
def test_a_column_is_left_out(written):
    assert load_config(None, [f"data.columns.rating={written}"]).data.columns == {"rating": None}
    columns = load_config(None, ["data.columns={user_id: 0, items: {item_id: 1}}"]).data.columns
    assert columns == {"user_id": "0", "items.item_id": "1"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1\nseed: 2\n", r"the key 'seed' stands twice[\s\S]*line 2"),
        ("encoder: {width: 16}\nencoder: {heads: 1}\n", "the key 'encoder' stands twice"),
        ("data:\n  split_args: {test: 0.1, valid: 0.2, test: 0.3}\n", "the key 'test' stands twice"),
        ("seed: !!int abc\n", "cannot be read: invalid literal"),
        ("seed: !!int ''\n", "cannot be read"),
        ("quick: !!bool maybe\n", "cannot be read"),
        (f"seed: {'9' * 5000}\n", "cannot be read: Exceeds the limit"),
        ("name: no\n", "name is False: allowed: text; .* in quotes"),
        ("name: 2024\n", "name is 2024: allowed: text"),
        ("data: {columns: {rating: off}}\n", "data.columns.rating is False: allowed: text"),
        ("encoder: [width]\n", "encoder is .*: allowed: keys and values"),
        ("evaluation: {baselines: EASE}\n", "evaluation.baselines is 'EASE': allowed: a list"),
        ("strategy: no\n", "strategy: allowed: a name, or a list of stages"),
        ("data: {threshold: .nan}\n", "data.threshold is nan: .*finite"),
        ("encoder: {loop: {lr: .inf}}\n", "encoder.loop.lr is inf: .*finite"),
        (f"seed: {2**53 + 1}\n", "less than or equal to"),
        ("threads: 100000\n", "less than or equal to"),
        ("device: cdua\n", "device is 'cdua': allowed: auto, cpu, cuda, cuda:N"),
    ],
)
def test_what_yaml_reads_otherwise_than_it_was_meant_is_told(tmp_path, text, says):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as refusal:
        load_config(path)
    assert str(path) in refusal.value.what


def test_a_key_that_a_merged_section_has_too_is_no_repetition(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("encoder: &e {width: 16, heads: 1}\nmapper: {hidden: 8}\n")
    assert load_config(path).encoder.width == 16
    path.write_text("data: {world: &w {users: 50, items: 60}, split_args: {<<: *w, users: 70}}\n")
    assert load_config(path).data.split_args == {"users": 70, "items": 60}


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "!!int ''", "9" * 5000, "[" * 5000])
def test_a_value_that_is_no_yaml_is_refused_wherever_it_is_given(monkeypatch, text):
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(None, [f"data.world={text}"])
    monkeypatch.setenv("SASRECLLM_DATA__WORLD", text)
    with pytest.raises(ConfigError, match=r"SASRECLLM_DATA__WORLD.*is not YAML"):
        load_config()


@pytest.mark.parametrize("key", ["", ".", "seed.", "data..path", ".seed"])
def test_a_key_without_a_name_is_refused(key):
    with pytest.raises(ConfigError, match="names no setting"):
        load_config(None, [f"{key}=3"])


def test_a_refusal_names_where_a_setting_came_from(tmp_path, monkeypatch):
    """A file is not blamed for what stands in the environment or on the command line."""
    path = tmp_path / "c.yaml"
    path.write_text("encoder: {lenght: 3}\n")
    monkeypatch.setenv("SASRECLLM_SEED", "first")
    monkeypatch.setenv(f"{ENV_PREFIX}ENCODER_WIDTH", "3")
    with pytest.raises(ConfigError) as refusal:
        load_config(path, ["encoder.loop={epochs: x}", "threads=many"])
    said = refusal.value.what
    for origin, what in (
        (f"{path}", "unknown key encoder.lenght"),
        ("environment variable SASRECLLM_SEED", "seed is 'first'"),
        (f"environment variable {ENV_PREFIX}ENCODER_WIDTH", "unknown key encoder_width"),
        ("override 'encoder.loop={epochs: x}'", "encoder.loop.epochs is 'x'"),
        ("override 'threads=many'", "threads is 'many'"),
    ):
        assert f"{origin}: {what}" in said
    with pytest.raises(ConfigError, match=r"override 'evaluation\.resamples=few': evaluation"):
        judged_by(Config(), ["evaluation.resamples=few"])


def test_a_file_that_is_no_text_is_told(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes("name: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8") as refusal:
        load_config(path)
    assert "UTF-8" in refusal.value.remedy
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
