"""A run folder is data: opening one runs nothing that lies in it or that it names, and asks no hub."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

from sasrecllm import SASRecLLM, plugins
from sasrecllm.checkpoint import read_json, write_json, write_text
from sasrecllm.errors import CheckpointError, ConfigError, ModelNotFoundError
from sasrecllm.manifest import MANIFEST, manifest_of
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import seal
from sasrecllm.serving.workers import COMMAND

EVIL = ("torch", "typing", "numpy", "polars", "yaml", "transformers", "typer", "safetensors")


@pytest.fixture
def copy(run, tmp_path):
    """A trained run that may be changed."""
    return shutil.copytree(run, tmp_path / "run")


def reseal(run, part="llm"):
    """What somebody who means harm does too: all manifests fit."""
    files = sorted(p for p in (run / part).rglob("*") if p.is_file() and p.name != MANIFEST)
    (run / part / MANIFEST).write_text(manifest_of(run / part, files))
    seal(RunFolder(run))


# ---------------------------------------------------------------- code beside the data


@pytest.fixture
def evil(copy, tmp_path):
    """A run with modules in it that would be found in place of the true ones."""
    for name in EVIL:
        ran = str(tmp_path / "ran")
        (copy / f"{name}.py").write_text(f"with open({ran!r}, 'a') as f:\n    f.write({name!r})")
    return copy


@pytest.mark.parametrize("command", [[*COMMAND, "."], [sys.executable, "-m", "sasrecllm", "doctor"]])
def test_a_command_given_inside_a_run_folder_runs_none_of_its_modules(evil, tmp_path, command):
    done = subprocess.run(
        command, cwd=evil, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and not (tmp_path / "ran").exists(), done.stderr
    assert "refused" not in done.stdout


def test_every_process_of_ours_is_started_without_the_current_folder():
    from pathlib import Path

    import sasrecllm

    started = 0
    for path in Path(sasrecllm.__file__).parent.rglob("*.py"):
        for rest in re.findall(r"sys\.executable, (.*)", path.read_text("utf-8")):
            assert rest.startswith('"-P", '), path
            started += 1
    assert started >= 2


# ---------------------------------------------------------------- code by name

PLUGIN = """from sasrecllm.encoders.sasrec import SASRec
with open({ran!r}, 'a') as f:
    f.write('x')
{more}"""


@pytest.fixture
def named(copy, tmp_path, monkeypatch):
    """A run that names an encoder of a module which is there and would run."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    (tmp_path / "modules").mkdir()
    text = PLUGIN.format(ran=str(tmp_path / "ran"), more="class Mine(SASRec):\n    pass\n")
    (tmp_path / "modules/somebodys.py").write_text(text)
    monkeypatch.delitem(sys.modules, "somebodys", raising=False)
    name_encoder(copy, "somebodys:Mine")
    return copy


def name_encoder(run, kind):
    text = (run / "config.yaml").read_text()
    write_text(run / "config.yaml", text.replace("kind: sasrec", f"kind: {kind}", 1))
    shutil.rmtree(run / "stages/5-fusion/scores")  # evaluation is not asked for below
    seal(RunFolder(run))


@pytest.mark.parametrize(
    "verb", [["recommend", "--liked", "m0003"], ["evaluate"], ["report"], ["serve", "--port", "0"]]
)
def test_a_plug_in_that_a_run_names_is_not_imported(named, tmp_path, cli, verb):
    said = cli(verb[0], named, *verb[1:], expect=2)
    assert "somebodys:Mine" in said and "--allow-plugin somebodys" in said
    assert not (tmp_path / "ran").exists()


def test_a_plug_in_that_is_allowed_by_name_is_used(named, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="allow-plugin somebodys"):
        SASRecLLM.from_pretrained(named, allow_plugins=["somebody", "somebodys.more", "else"])
    assert not (tmp_path / "ran").exists()
    assert SASRecLLM.from_pretrained(named, allow_plugins=["somebodys"]).recommend(["m0003"], k=2)
    monkeypatch.setenv(plugins.VARIABLE, "else, somebodys")
    assert SASRecLLM.from_pretrained(named)


def test_the_flag_is_what_the_refusal_says(named, cli):
    assert "m0" in cli("recommend", named, "--liked", "m0003", "-k", 2, "--allow-plugin", "somebodys")


def test_what_an_allowed_plug_in_raises_while_it_answers_is_a_refusal(named, tmp_path, cli):
    path = tmp_path / "modules/somebodys.py"
    broken = "    def states(self, *batch):\n        raise LookupError('not today')\n"
    path.write_text(path.read_text() + broken)
    said = cli("recommend", named, "--liked", "m0003", "-k", 2, "--allow-plugin", "somebodys", expect=2)
    assert "the plug-in somebodys failed: LookupError: not today" in said and str(path) in said


def test_a_module_of_ours_that_is_no_encoder_is_refused(named):
    for kind in ("sasrecllm.machine.environment:subprocess", "sasrecllm.runs.opening:open_run"):
        text = (named / "config.yaml").read_text()
        write_text(named / "config.yaml", re.sub("kind: s.*", f"kind: {kind}", text, count=1))
        seal(RunFolder(named))
        with pytest.raises(ConfigError, match="no SequentialEncoder"):
            SASRecLLM.from_pretrained(named)


@pytest.mark.parametrize("key", ["auto_map", "_attn_implementation"])
def test_a_language_model_of_a_run_that_names_code_is_refused(copy, key):
    about = read_json(copy / "llm/config.json")
    write_json(copy / "llm/config.json", about | {key: "somebody/code"})
    reseal(copy)
    with pytest.raises(CheckpointError, match=key):
        SASRecLLM.from_pretrained(copy)


# ---------------------------------------------------------------- the hub


def test_opening_a_run_asks_no_hub(copy, monkeypatch):
    """A run whose language model is known by a hub id, with no such model in the cache."""
    from huggingface_hub import constants

    asked = []

    def connect(*arguments, **_):
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    text = (copy / "config.yaml").read_text()
    write_text(copy / "config.yaml", text.replace("backbone: offline", "backbone: nobody/no-model"))
    seal(RunFolder(copy))
    with pytest.raises(ModelNotFoundError, match="nobody/no-model") as refused:
        SASRecLLM.from_pretrained(copy)
    assert refused.value.exit_code == 4 and not asked
    assert not constants.HF_HUB_OFFLINE and "HF_HUB_OFFLINE" not in os.environ


def test_a_language_model_in_the_cache_is_opened_without_a_hub(copy, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit, model = "1" * 40, tmp_path / "cache/models--me--mine"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(commit)
    shutil.copytree(copy / "llm", model / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def connect(*_, **__):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    before = SASRecLLM.from_pretrained(copy).recommend(["m0003"], k=3)
    text = (copy / "config.yaml").read_text()
    write_text(copy / "config.yaml", text.replace("backbone: offline", "backbone: me/mine"))
    seal(RunFolder(copy))
    assert SASRecLLM.from_pretrained(copy).recommend(["m0003"], k=3) == before


# ---------------------------------------------------------------- links and names


@pytest.mark.parametrize("name", ["report.html", "results.md", "log.txt", "plots", "results.json.tmp"])
@pytest.mark.parametrize("verb", ["report", "evaluate"])
def test_nothing_is_written_through_a_link_in_a_run_folder(copy, tmp_path, cli, name, verb):
    victim = tmp_path / "victim"
    if name == "plots":
        victim.mkdir()
        shutil.rmtree(copy / name)
    else:
        victim.write_text("mine")
        (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(victim)
    assert "symbolic link" in cli(verb, copy, expect=5)
    assert list(victim.iterdir()) == [] if victim.is_dir() else victim.read_text() == "mine"


def test_a_run_does_not_go_on_through_a_link(tmp_path, cli):
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_text("mine")
    (out / "config.yaml").symlink_to(victim)
    assert "symbolic link" in cli("run", "--out", out, expect=5)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["../../x", "/tmp", "a/b", "a\\b", "..", ".", " ", "a\0b", "a\nb", "x" * 101, "C:x"]
)
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name, cli):
    from sasrecllm.config import parse_config
    from sasrecllm.stages.strategies import stages_of

    with pytest.raises(ConfigError, match="name") as refused:
        parse_config({"name": name}, "here")
    assert "cannot be the name of a folder" in str(refused.value) and refused.value.exit_code == 2
    with pytest.raises(ConfigError, match="cannot be the name of a folder"):
        stages_of([{"name": name, "task": "encode", "train": ["encoder"]}], False)


def test_ordinary_names_stay(cli):
    from sasrecllm.config import parse_config

    for name in ("demo", "ML-1M, seed 0", "été", "映画", "a.b_c-d", "x" * 100):
        assert parse_config({"name": name}, "here").name == name
