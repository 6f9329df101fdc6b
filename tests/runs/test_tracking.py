"""What follows a run: the numbers that the run folder has, and nothing that could end the run."""

import importlib.util
import json
import os
import sys
import threading
import time
from types import SimpleNamespace

import accelerate.tracking  # noqa: F401  (before the fakes: it looks for the real packages)
import pytest
import yaml

from sasrecllm.config import parse_config
from sasrecllm.machine.progress import Progress
from sasrecllm.runs import tracking
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import run_again, run_at_work

SMALL = {
    "strategy": "encoder-only",
    "name": "small",
    "device": "cpu",
    "data": {"world": {"users": 60, "items": 40, "rows": 10}},
    "encoder": {"width": 8, "folds": 2, "loop": {"epochs": 2, "batch_size": 8}},
    "fusion": {"enabled": False},
    "lists": {"enabled": False},
    "evaluation": {"resamples": 100, "ablations": False, "ranking": {"when": "never"}},
}


def settings(**more):
    return parse_config({**SMALL, **more}, "test")


def train(folder, force=False, **more):
    from sasrecllm.pipeline.run import run_all

    with run_at_work(folder, settings(**more), "sasrecllm run", quiet=True, force=force) as run:
        run_all(run)
    return RunFolder(folder)


@pytest.fixture(scope="session")
def untracked(once):
    return RunFolder(once("untracked", train))


def opened(folder, track, warned):
    """What follows a run folder in which nothing was trained yet."""
    folder.mkdir(exist_ok=True)
    progress = SimpleNamespace(warning=warned.append)
    return tracking.tracking_of(RunFolder(folder), settings(track=track), "small", progress)


def written(run):
    """(place, step) -> record of every metrics file of a run, fold encoders too."""
    found = {}
    for path in run.stages.rglob("metrics.jsonl"):
        place = str(path.parent.relative_to(run.stages))
        for line in path.read_text().splitlines():
            record = json.loads(line)
            step = record.pop("step")
            for name, value in tracking.numbers(place, record).items():
                found[name, step] = value
    return found


# -------------------------------------------------------------------------------- TensorBoard, really


def shown(folder):
    """(name, step) -> value of everything that TensorBoard reads in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {(name, e.step): e.value for name in events.Tags()["scalars"] for e in events.Scalars(name)}


@pytest.fixture(scope="session")
def tracked(once):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    return RunFolder(once("tracked", lambda folder: train(folder, track="tensorboard")))


def test_tensorboard_shows_what_the_run_folder_says_of_every_stage(tracked):
    seen, wanted = shown(tracked.tensorboard), written(tracked)
    places = {name.partition("/")[0] for name, _ in wanted}
    assert places == {"1-encoder"} and len(wanted) > 10
    assert {"1-encoder/loss", "1-encoder/valid/auc"} <= {name for name, _ in wanted}
    for key, value in wanted.items():
        assert seen[key] == pytest.approx(value, rel=1e-6), key  # single precision there
    rows = json.loads(tracked.results.read_text())["rows"]
    final = {k: v for (k, _), v in seen.items() if k.startswith("test/")}
    auc = {
        tracking.numbers("test", {row: {"auc": rows[row]["metrics"]["auc"]}}).popitem() for row in rows
    }
    assert len(auc) == len(rows) > 3
    for name, value in auc:
        assert final[name] == pytest.approx(value, rel=1e-6)


def test_being_followed_changes_no_number_of_a_run(tracked, untracked):
    assert written(tracked) == written(untracked)
    assert json.loads(tracked.results.read_text()) == json.loads(untracked.results.read_text())
    parts = [sorted((r.path / "stages").rglob("weights.safetensors")) for r in (tracked, untracked)]
    assert [p.read_bytes() for p in parts[0]] == [p.read_bytes() for p in parts[1]] != []


def test_a_finished_run_that_was_followed_is_whole_and_judged_again_it_goes_on_in_the_same_place(
    tracked, tmp_path
):
    from sasrecllm.pipeline.run import evaluate_again
    from sasrecllm.runs.seal import choose_run

    choose_run(tracked.path)
    before = sorted(p.name for p in tracked.tensorboard.iterdir())
    with run_again(tracked.path, quiet=True) as run:
        evaluate_again(run)
    after = sorted(p.name for p in tracked.tensorboard.iterdir())
    assert len(after) == len(before) + 1, "one file of events more, and the settings not again"
    choose_run(tracked.path)


def test_who_follows_may_change_in_a_run_that_goes_on(untracked, tmp_path):
    from sasrecllm.runs.opening import claim, open_run

    folder = tmp_path / "run"
    claim(open_run(folder, settings(), "sasrecllm run", quiet=True))
    (folder / "stages/1-encoder/parts/encoder").mkdir(parents=True)
    (folder / "stages/1-encoder/parts/encoder/MANIFEST.sha256").touch()
    run = open_run(folder, settings(track="mlflow"), "sasrecllm run", quiet=True)
    claim(run)
    assert yaml.safe_load((folder / "config.yaml").read_text())["track"] == "mlflow"


# ----------------------------------------------------------- MLflow and Weights & Biases, the interface


@pytest.fixture
def fake_mlflow(monkeypatch):
    """A module ``mlflow`` that remembers what accelerate's tracker asks of it."""
    calls = []

    def remember(name, answer=None):
        return lambda *given, **named: calls.append((name, given, named)) or answer

    limits = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
    module = SimpleNamespace(
        search_experiments=remember("search", []),
        create_experiment=remember("create", "7"),
        start_run=remember("start", SimpleNamespace(info=SimpleNamespace(run_id="abc"))),
        log_params=remember("params"),
        log_metrics=remember("metrics"),
        end_run=remember("end"),
        utils=SimpleNamespace(validation=limits),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return calls


@pytest.fixture
def fake_wandb(monkeypatch):
    calls = []
    run = SimpleNamespace(
        id="xyz",
        config=SimpleNamespace(update=lambda values, **_: calls.append(("config", values))),
        log=lambda values, step=None, **_: calls.append(("log", values, step)),
        finish=lambda: calls.append(("finish",)),
    )

    def init(**named):
        calls.append(("init", named))
        return run

    module = SimpleNamespace(init=init, config=run.config)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_mlflow_hears_of_settings_numbers_and_the_same_run_again(fake_mlflow, tmp_path, monkeypatch):
    warned = []
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "")
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT")
    for sitting in (1, 2):
        follows = opened(tmp_path / "run", "mlflow", warned)
        store = follows.store(RunFolder(tmp_path / "run").stage(2, "text"))
        store.log({"step": 5 * sitting, "loss": 0.5})
        follows.log("test", {"SASRec + text (LoRA)": {"auc": 0.7, "uauc": None}})
        follows.close()
    assert warned == []
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true", "stdout is the verb's"
    starts = [named for name, _, named in fake_mlflow if name == "start"]
    assert [s["run_id"] for s in starts] == [None, "abc"] and starts[0]["run_name"] == "small"
    metrics = [(given[0], named["step"]) for name, given, named in fake_mlflow if name == "metrics"]
    table = ({"test/SASRec _ text _LoRA_/auc": 0.7}, None)
    assert metrics == [({"2-text/loss": 0.5}, 5), table, ({"2-text/loss": 0.5}, 10), table]
    params = {k: v for name, given, _ in fake_mlflow if name == "params" for k, v in given[0].items()}
    assert params["encoder.width"] == 8 and params["seed"] == 0 and params["track"] == "mlflow"
    assert sum(name == "end" for name, *_ in fake_mlflow) == 2


def test_wandb_gets_each_stages_step_as_a_metric_since_its_own_never_goes_back(fake_wandb, tmp_path):
    warned = []
    for _ in range(2):
        follows = opened(tmp_path / "run", "wandb", warned)
        follows.log("1-encoder", {"loss": 0.5}, 9)
        follows.log("2-text", {"loss": 0.25}, 3)
        follows.close()
    assert warned == []
    first, second = (call[1] for call in fake_wandb if call[0] == "init")
    assert first["project"] == "sasrecllm" and first["name"] == "small"
    assert (first["id"], second["id"]) == (None, "xyz") and second["resume"] == "allow"
    logged = [call[1:] for call in fake_wandb if call[0] == "log"]
    assert logged[:2] == [
        ({"1-encoder/loss": 0.5, "1-encoder/step": 9}, None),
        ({"2-text/loss": 0.25, "2-text/step": 3}, None),
    ]
    assert sum(call[0] == "config" for call in fake_wandb) == 1


def test_mlflow_itself_keeps_a_run_in_a_folder(tmp_path, monkeypatch):
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed: pip install mlflow-skinny (a fake stands in above)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "kept").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    warned = []
    for step in (1, 2):
        follows = opened(tmp_path / "run", "mlflow", warned)
        follows.log("1-encoder", {"loss": 0.5 / step}, step)
        follows.close()
    assert warned == []
    (metric,) = (tmp_path / "kept").rglob("1-encoder/loss")
    assert [line.split()[1:] for line in metric.read_text().splitlines()] == [
        ["0.5", "1"],
        ["0.25", "2"],
    ]


def test_wandb_itself_keeps_a_run_offline(tmp_path, monkeypatch):
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed: pip install wandb (a fake stands in above)")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    warned = []
    follows = opened(tmp_path / "run", "wandb", warned)
    follows.log("1-encoder", {"loss": 0.5}, 1)
    follows.close(300)
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    ends = time.monotonic() + 300
    while b"1-encoder" not in kept.read_bytes():  # a process of its own writes it
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert warned == []


# ------------------------------------------------------------------------------------------ failures


def test_a_missing_package_is_one_warning_with_the_command_and_the_run_is_the_same(
    untracked, tmp_path, monkeypatch
):
    warned = []
    monkeypatch.setattr(Progress, "warning", lambda _, text: warned.append(text))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    run = train(tmp_path / "run", track="mlflow")
    assert json.loads(run.results.read_text()) == json.loads(untracked.results.read_text())
    assert len(warned) == 1 and 'pip install "sasrecllm[mlflow]"' in warned[0]
    assert not run.tracked_as.exists()


@pytest.mark.parametrize("fails", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_one_warning_with_a_remedy(fake_mlflow, tmp_path, monkeypatch, fails):
    def refuse(*_, **__):
        raise ConnectionError("refused\nmore of it")

    name = {"start": "start_run", "log": "log_metrics", "finish": "end_run"}[fails]
    monkeypatch.setattr(sys.modules["mlflow"], name, refuse)
    warned = []
    follows = opened(tmp_path / "run", "mlflow", warned)
    for step in range(20):
        follows.log("1-encoder", {"loss": 0.5}, step)
    follows.close()
    (text,) = warned
    assert "track: mlflow" in text and "refused;" in text and "MLFLOW_TRACKING_URI" in text
    follows.log("1-encoder", {"loss": 0.5}, 30)
    follows.close()
    assert len(warned) == 1


def test_a_tracker_that_never_answers_does_not_hold_the_run_up(fake_mlflow, tmp_path, monkeypatch):
    word = threading.Event()
    monkeypatch.setattr(sys.modules["mlflow"], "start_run", lambda **_: word.wait())
    warned = []
    follows = opened(tmp_path / "run", "mlflow", warned)
    for step in range(20):
        follows.log("1-encoder", {"loss": 0.5}, step)
    follows.close(0.0)
    word.set()
    assert len(warned) == 1 and "within 0 s" in warned[0]


def test_a_folder_that_tensorboard_cannot_write_in_is_a_warning(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").tensorboard.write_text("no folder")
    warned = []
    follows = opened(tmp_path / "run", "tensorboard", warned)
    follows.log("1-encoder", {"loss": 0.5}, 1)
    follows.close()
    assert len(warned) == 1 and "track: tensorboard" in warned[0]


def test_other_processes_of_a_job_do_not_follow(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    follows = opened(tmp_path / "run", "tensorboard", [])
    follows.log("1-encoder", {"loss": 0.5}, 1)
    follows.close()
    assert list((tmp_path / "run").iterdir()) == []


def test_what_is_no_finite_number_is_left_out():
    given = {"loss": float("nan"), "grad": float("inf"), "lr": 0.1, "flag": True, "name": "x", "n": 3}
    assert tracking.numbers("s", given) == {"s/lr": 0.1, "s/n": 3}
