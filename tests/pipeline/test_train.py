"""Stages are trained one after another, each in a span of the trace; what was begun with another
language model does not go on."""

import contextlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from sasrecllm.checkpoint import REQUIRES, SECONDS, read_json, write_json
from sasrecllm.config import load_config
from sasrecllm.errors import CheckpointError
from sasrecllm.llm.loading import build_llama, save_backbone
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.machine import trace
from sasrecllm.manifest import MANIFEST, manifest_of
from sasrecllm.pipeline import train
from sasrecllm.pipeline.run import train_all
from sasrecllm.runs.opening import run_at_work
from sasrecllm.training import loop

TINY = Path(__file__).parents[1] / "tiny.yaml"


def test_each_stage_that_is_trained_is_one_span(monkeypatch, tmp_path):
    opened, trained = [], []

    @contextlib.contextmanager
    def span(name, caller=None, **attributes):
        opened.append((name, caller, attributes))
        yield

    stages = {n: SimpleNamespace(name=n, kind=SimpleNamespace(name="llm")) for n in ("done", "text")}
    (tmp_path / "done").touch()
    places = [(SimpleNamespace(about=tmp_path / n), stage) for n, stage in stages.items()]
    run = SimpleNamespace(
        name="demo",
        progress=SimpleNamespace(line=lambda _: None),
        folder=SimpleNamespace(of_stages=lambda _: places),
    )
    prior = SimpleNamespace(encoder=SimpleNamespace(prior="none"))
    monkeypatch.setattr(trace, "span", span)
    monkeypatch.setattr(train, "_bring_in", lambda *_: None)
    monkeypatch.setattr(train, "_train", lambda _, stage, __: trained.append(stage.name))
    train.train_stages(SimpleNamespace(run=run, stages=stages, config=prior))
    assert trained == ["text"]
    assert opened == [("stage text", None, {"task": "llm", "run": "demo"})]


@pytest.fixture
def models(tmp_path):
    """Two language models of one shape, and the place from which a run takes its own."""
    tokenizer = train_tokenizer(["Liked: nothing yet. Next: Like it? Answer: Yes No"] * 3, 320)
    for seed, name in enumerate("ab"):
        built = build_llama(tokenizer, width=16, layers=1, heads=2, positions=512, seed=seed)
        save_backbone(built, tmp_path / name)
    return SimpleNamespace(a=tmp_path / "a", b=tmp_path / "b", used=tmp_path / "used")


def placed(models, which):
    shutil.rmtree(models.used, ignore_errors=True)
    shutil.copytree(which, models.used)


def trained(models, out, **options):
    """The stage of words alone, four steps of it, with a checkpoint after each."""
    chosen = ["strategy=text-only", "fusion.enabled=false", "lists.enabled=false"]
    chosen += [f"llm.backbone={models.used}", "llm.dtype=fp32", "llm.max_tokens=256"]
    chosen += ["llm.loop.max_steps=4", "llm.loop.save_every=1"]
    with run_at_work(out, load_config(TINY, chosen), "x", quiet=True, **options) as run:
        train_all(run, ("valid",))


@pytest.fixture
def half_way(models, tmp_path, monkeypatch):
    """A run that was stopped in its stage, after a checkpoint."""
    placed(models, models.a)
    with monkeypatch.context() as patched:
        after = loop._Fit._after_step

        def stopped(self, due):
            after(self, due)
            raise KeyboardInterrupt

        patched.setattr(loop._Fit, "_after_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(models, tmp_path / "run")
    return tmp_path / "run"


def test_a_stage_begun_with_another_language_model_does_not_go_on(models, half_way):
    placed(models, models.b)
    checkpoints = half_way / "stages" / "1-text" / "checkpoints"
    noted = (checkpoints / REQUIRES).read_text()
    with pytest.raises(CheckpointError, match=r"1-text: .* another backbone") as refused:
        trained(models, half_way)
    assert refused.value.exit_code == 5 and "--force" in refused.value.remedy
    assert (checkpoints / REQUIRES).read_text() == noted and list(checkpoints.glob("step-*"))
    placed(models, models.a)
    (newest,) = checkpoints.glob("step-*")
    write_json(newest / SECONDS, {"seconds": 5000.0})
    files = sorted(path for path in newest.iterdir() if path.name != MANIFEST)
    (newest / MANIFEST).write_text(manifest_of(newest, files))
    trained(models, half_way)
    about = read_json(half_way / "stages" / "1-text" / "stage.json")
    assert about["seconds"] >= 5000, "of both sittings"
    assert about["result"]["steps"] == 4 and "resumed at step 1/4" in (half_way / "log.txt").read_text()


def test_with_force_it_is_trained_anew(models, half_way):
    placed(models, models.b)
    trained(models, half_way, force=True)
    assert "resumed" not in (half_way / "log.txt").read_text()
    assert (half_way / "stages" / "1-text" / "stage.json").is_file()
