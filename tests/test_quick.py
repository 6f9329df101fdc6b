"""``--quick``: lists at once, and the whole run goes on in the same folder without losing them."""

import shutil

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import read_json
from sasrecllm.config import reread_config
from sasrecllm.runs.folder import RunFolder

SMALL = (
    "encoder.width=16", "encoder.length=10", "encoder.loop.epochs=1", "encoder.folds=2",
    "lists.next_item.loop.epochs=3", "evaluation.resamples=100", "llm.offline.documents=60",
    "llm.offline.width=16", "llm.offline.layers=1", "llm.offline.heads=2", "llm.offline.vocabulary=400",
    "llm.history=3", "llm.loop.max_steps=2", "mapper.hidden=16", "lists.rerank=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words that name a log of ratings with taste: 80 users, 60 items, 12 rows each."""
    folder = tmp_path_factory.mktemp("log")
    rng = np.random.default_rng(4)
    rows = [
        (f"u{u}", f"i{i}", 5 if i % 4 == u % 4 else 2, 1_600_000_000 + 86_400 * n + u)
        for u in range(80)
        for n, i in enumerate(rng.permutation(60)[:12])
    ]
    schema = ["user_id", "item_id", "rating", "timestamp"]
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(folder / "log.csv")
    titles = [f"The {['Sea', 'War', 'Love', 'Robot'][i % 4]} story {i}" for i in range(60)]
    ids = [f"i{i}" for i in range(60)]
    pl.DataFrame({"item_id": ids, "title": titles}).write_csv(folder / "items.csv")
    return (
        "data.source=files", f"data.path={folder / 'log.csv'}",
        f"data.items_path={folder / 'items.csv'}", "data.split=leave-one-out", *SMALL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(words, cli, tmp_path_factory):
    """A quick run, and what it printed.  Change a copy of it, not it."""
    folder = tmp_path_factory.mktemp("quick") / "run"
    return folder, cli("run", "--quick", "--out", folder, *words)


def lists(folder):
    system = SASRecLLM.from_pretrained(folder)
    return {
        user: [(r.item_id, round(r.probability, 5)) for r in system.recommend(user=user, k=8)]
        for user in ("u1", "u2", "u7")
    }


def test_it_trains_the_lists_and_no_model_of_the_table(quick):
    folder, _ = quick
    assert [s.path.name for s in RunFolder(folder).stage_folders()] == [
        "1-fusion", "2-next_item", "3-lists",
    ]  # fmt: skip
    assert not (folder / "llm").exists() and not (folder / "prompts").exists()
    assert all(len(found) == 8 for found in lists(folder).values())


def test_the_folder_says_that_it_is_a_quick_run(quick, cli):
    folder, said = quick
    assert read_json(folder / "run.json")["quick"] is True
    assert reread_config(RunFolder(folder).config).quick
    for text in (said, cli("report", folder), (folder / "report.html").read_text("utf-8")):
        assert "uick run" in text or "report.html" in text
    assert "A quick run" in said and "A quick run" in (folder / "report.html").read_text("utf-8")


def test_it_recommends_and_is_judged_like_any_other_run(quick, cli):
    folder, _ = quick
    shown = cli("recommend", folder, "--liked", "i1", "--liked", "i5", "-k", "4")
    assert shown.count("│ i") == 4, "a line each; the liked titles stand above"
    cli("evaluate", folder, "--quiet")
    served = read_json(folder / "results.json")["ranking"]["whole catalogue"]
    assert served["served"] == "list fusion" and served["lists"] > 10


def test_given_again_it_is_finished(quick, cli, words):
    folder, _ = quick
    before = read_json(folder / "run.json")
    assert "is finished already" in cli("run", "--quick", "--out", folder, *words)
    assert read_json(folder / "run.json") == before


@pytest.fixture(scope="module")
def whole(quick, words, cli, tmp_path_factory):
    """The whole run that went on from the quick one, and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(quick[0], folder)
    return folder, cli("run", "--out", folder, *words)


def test_the_whole_run_goes_on_and_keeps_what_is_alike(quick, whole):
    folder, said = whole
    assert "keeps" in said and "stage next_item: finished already" in said
    assert "stage lists: finished already" in said
    stages = {s.path.name.partition("-")[2]: s for s in RunFolder(folder).stage_folders()}
    assert {"encoder", "prior", "text", "soft", "fusion", "next_item", "lists"} <= set(stages)
    for name, place in (("next_item", "2-next_item"), ("lists", "3-lists")):
        old = quick[0] / "stages" / place
        assert stages[name].about.read_bytes() == (old / "stage.json").read_bytes()
    assert (folder / "data/MANIFEST.sha256").read_bytes() == (
        quick[0] / "data/MANIFEST.sha256"
    ).read_bytes()


def test_it_is_no_quick_run_any_more(quick, whole):
    folder, said = whole
    about = read_json(folder / "run.json")
    assert about["quick"] is False and not reread_config(RunFolder(folder).config).quick
    assert "SASRecLLM + fusion" in said and "A quick run" not in said
    results = read_json(folder / "results.json")
    assert results["final"] == "SASRecLLM + fusion" and results["quick"] is False
    of_items = [[item for item, _ in found] for found in lists(folder).values()]
    assert of_items == [[item for item, _ in found] for found in lists(quick[0]).values()]


def test_it_is_the_run_that_was_never_quick(whole, words, cli, tmp_path):
    cli("run", "--quiet", "--out", tmp_path / "run", *words)
    straight, resumed = (read_json(f / "results.json") for f in (tmp_path / "run", whole[0]))
    assert straight["rows"] == resumed["rows"] and straight["ranking"] == resumed["ranking"]
    assert (tmp_path / "run/config.yaml").read_text() == (whole[0] / "config.yaml").read_text()


def test_other_settings_and_a_quick_run_in_a_whole_one_are_refused(quick, whole, words, cli):
    before = (quick[0] / "config.yaml").read_bytes()
    out = cli("run", "--out", quick[0], *words, "seed=5", expect=2)
    assert "seed is 0 there, 5 here" in out
    assert (quick[0] / "config.yaml").read_bytes() == before and lists(quick[0])
    out = cli("run", "--quick", "--out", whole[0], *words, expect=2)
    assert "quick is False there, True here" in out and lists(whole[0])


def test_a_whole_run_that_was_stopped_while_it_took_over_goes_on(
    quick, words, cli, tmp_path, monkeypatch
):
    from sasrecllm.stages import quick as module

    folder = tmp_path / "run"
    shutil.copytree(quick[0], folder)

    def stopped(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_settings", stopped)
        cli("run", "--quiet", "--out", folder, *words, expect=130)
    assert reread_config(RunFolder(folder).config).quick, "still the quick run's"
    said = cli("run", "--out", folder, *words)
    assert "stage next_item: finished already" in said and "stage lists: finished already" in said


def test_the_whole_run_may_have_any_strategy(quick, words, cli, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(quick[0], folder)
    said = cli("run", "--out", folder, *words, "strategy=encoder-only", "fusion.enabled=false")
    assert "stage lists: finished already" in said
    assert read_json(folder / "run.json")["stages"] == ["encoder", "prior", "next_item", "lists"]


def test_force_begins_in_a_folder_that_is_not_there_yet(words, cli, tmp_path):
    cli("run", "--quick", "--force", "--quiet", "--out", tmp_path / "new", *words)
    assert (tmp_path / "new/run.json").is_file()
