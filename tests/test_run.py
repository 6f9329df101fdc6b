"""The walk: one tiny run from generated data to report, then everything that can be done with it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.bench import words
from sasrecllm import SASRecLLM
from sasrecllm.checkpoint import read_json
from sasrecllm.config import load_config
from sasrecllm.fusion.score_fusion import Fusion
from sasrecllm.inference.requests import NewItem
from sasrecllm.manifest import file_digest

TINY = Path(__file__).parent / "tiny.yaml"
COMMAND = [sys.executable, "-m", "sasrecllm"]
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}
# Where a test compares bits or exact numbers of two runs, both ran in processes of their own
# (cli(process=True)) on this machine with one thread each: the same kernels add in the same order.


def weights(folder):
    """Digest of every trained part and of every file of scores."""
    found = sorted(folder.glob("stages/*/parts/*/weights.safetensors"))
    found += sorted(folder.glob("stages/*/scores/weights.safetensors"))
    return {str(p.relative_to(folder)): file_digest(p) for p in found}


def files(folder):
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names}


def test_the_table_starts_with_the_trivial_rows_and_covers_every_test_row(run):
    results = read_json(run / "results.json")
    names = list(results["rows"])
    assert names[:3] == ["item mean", "item mean + user mean", "item mean + running mean"]
    assert names[3:] == [
        "user regression",
        "SASRec",
        "text-only LLM",
        "SASRecLLM (mapper)",
        "SASRecLLM",
        "SASRecLLM + fusion",
    ]
    summary = read_json(run / "data" / "truth.json")["parameters"]
    assert {r["rows"] for r in results["rows"].values()} == {summary["rows_test"]}
    for row in results["rows"].values():
        for value, low, high in row["intervals"].values():
            assert value is None or low <= value <= high
    assert set(results["ablations"]) == {
        "history shuffled",
        "soft tokens zeroed",
        "soft tokens of another user",
        "titles blanked",
        "titles swapped among items",
    }


def test_the_report_stands_alone(run):
    html = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:""", html) and "<script" not in html
    for text in (
        "known world",
        "Bayes ceiling",
        "typical user",
        "rare-taste user",
        "new user",
        "new item",
        "liked last",
        "The data</h2>",
        "median history",
        "no row of validation",
    ):
        assert text in html
    assert len(list((run / "plots").glob("*.svg"))) == 4
    assert "| item mean |" in (run / "results.md").read_text(encoding="utf-8")


def test_the_showcase_has_ten_lines_for_each_case(run):
    shown = read_json(run / "showcase.json")
    assert len(shown) == 4 and all(len(lines) == 10 for lines in shown.values())
    assert all(line["title"] for lines in shown.values() for line in lines)


def test_a_finished_run_is_not_trained_again(run, cli):
    before = weights(run)
    assert "finished already" in cli("run", "--config", TINY, "--out", run)
    assert weights(run) == before
    message = cli("run", "--config", TINY, "--out", run, "seed=9", expect=2)
    assert "seed is 0 there, 9 here" in message


def test_the_same_seed_gives_the_same_bits_and_the_same_table(run, cli, tmp_path):
    cli("run", "--config", TINY, "--out", tmp_path / "again", "--quiet", process=True)
    assert weights(tmp_path / "again") == weights(run)
    assert read_json(tmp_path / "again/results.json") == read_json(run / "results.json")


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(run, cli, tmp_path, seed):
    """SIGKILL twice after any number of new files, then let it finish."""
    rng = np.random.default_rng(seed)
    folder = tmp_path / "killed"
    command = [*COMMAND, "run", "--config", str(TINY), "--out", str(folder), "--quiet"]
    whole = len(files(run))
    for _ in range(2):
        seen = files(folder)
        enough = len(seen) + int(rng.integers(1, max(2, whole - len(seen))))
        with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(seen) < enough:
                seen |= files(folder)  # checkpoints and half-written folders come and go
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
    cli("run", "--config", TINY, "--out", folder, "--quiet", process=True)
    assert weights(folder) == weights(run), f"seed {seed}"
    for name in ("results.json", "showcase.json"):
        assert read_json(folder / name) == read_json(run / name)


def test_answers_of_the_api_equal_the_offline_scores(run):
    """What ``score`` says of the test rows is what the table was made from."""
    from sasrecllm import SASRecLLM
    from sasrecllm.runs.folder import RunFolder
    from sasrecllm.runs.scores import load_scores

    system = SASRecLLM.from_pretrained(run)
    asked = system.dataset.questions("test")
    live = system.score(asked.histories, asked.targets[:, None])[:, 0]
    stored = load_scores(RunFolder(run).stage(5, "fusion"))["test"]
    assert np.abs(live - stored).max() <= 1e-5


def test_recommendations_leave_out_what_is_known_and_spell_ids_as_they_came(run):
    from sasrecllm import SASRecLLM

    system = SASRecLLM.from_pretrained(run)
    user = system.catalog.user_ids[0]
    had = {system.catalog.item_id(int(i)) for i in system.dataset.latest(np.array([0])).items}
    found = system.recommend(user=user, k=7)
    assert [r.rank for r in found] == list(range(1, 8)) and not had & {r.item_id for r in found}
    order = system.fusion.scores(system.dataset.latest(np.array([0])))[0]
    listed = [order[system.catalog.item_ids.index(r.item_id)] for r in found]
    assert listed == pytest.approx(sorted(listed, reverse=True), abs=1e-6)  # of another moment, batch
    assert all(0 < r.probability < 1 and r.title == system.catalog.titles[
        system.catalog.item_ids.index(r.item_id)] for r in found)  # fmt: skip
    new = system.recommend(history=["m0003", ("m0005", False)], k=3)
    assert all("cold_user" in r.flags for r in new)
    alone = system.score_items([new[0].item_id], history=["m0003", ("m0005", False)])
    assert alone[0] == pytest.approx(new[0].probability, abs=1e-6)


def title_of_m0003(run) -> str:
    """The title of item m0003."""
    items = pl.read_parquet(run / "data/items.parquet")
    return str(items.filter(pl.col("item_id") == "m0003")["title"].item())


def test_refusals_have_their_exit_codes_and_no_traceback(run, cli, tmp_path):
    for arguments, code, says in (
        (["recommend", run, "--user", "u00x0"], 4, "did you mean"),
        (["recommend", run, "--liked", "nothing"], 4, "not in the catalogue"),
        (["recommend", run, "--liked", title_of_m0003(run)], 4, "it is the title of item 'm0003'"),
        (["recommend", run], 4, "neither user nor history"),
        (["recommend", tmp_path], 5, "run.json is missing"),
        (["recommend", tmp_path / "nowhere"], 5, "there is no such folder"),
        (
            ["run", "--out", tmp_path / "a", "data.source=files", "data.path=absent.csv"],
            4,
            "absent.csv",
        ),
        (
            ["run", "--out", tmp_path / "b", "llm.backbone=nobody/no-model", "--config", TINY],
            4,
            "no-model",
        ),
        (["run", "--out", tmp_path / "c", "encoder.kind=sasrek"], 2, "did you mean 'sasrec'"),
        (["run", "--confg", "x"], 2, "did you mean '--config'"),
        (["recommend", run, "-k", "0"], 2, "'-k'"),
    ):
        output = cli(*arguments, expect=code)
        assert says in output and "Traceback" not in output, arguments


def test_a_damaged_part_is_refused(run, cli, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    weights_file = copy / "stages/4-soft/parts/mapper/weights.safetensors"
    data = bytearray(weights_file.read_bytes())
    data[-1] ^= 1
    weights_file.write_bytes(bytes(data))
    assert "is damaged" in cli("recommend", copy, "--liked", "m0003", expect=5)


def test_parts_of_another_run_are_swapped_in_by_path(run, cli, tmp_path):
    """Plug and play: only the mapper is trained; encoder and adapter come from elsewhere, untouched.

    The loaded encoder brings its cross-fitted ones, so this mapper is the other run's own, bit for bit.
    """
    adapter = run / "stages/2-text/parts/adapter"
    stages = (
        "strategy=[{name: mapper, task: answer, train: [mapper], prompt: soft,"
        f" load: {{encoder: '{run}', adapter: '{adapter}'}}, row: swapped}}]"
    )
    other = tmp_path / "swapped"
    cli("run", "--config", TINY, "--out", other, "--quiet", f"llm.backbone={run / 'llm'}", stages,
        # A folder would be trained in micro-batches on a CPU, which sum its gradients in another order.
        "llm.loop.micro_tokens=0", "fusion.enabled=false", process=True)  # fmt: skip
    assert list(read_json(other / "results.json")["rows"])[3:] == ["user regression", "swapped"]
    assert list((other / "stages/1-mapper/parts").iterdir()) == [other / "stages/1-mapper/parts/mapper"]
    mapper = "parts/mapper/weights.safetensors"
    own, swapped = run / "stages/3-mapper" / mapper, other / "stages/1-mapper" / mapper
    assert file_digest(own) == file_digest(swapped)
    for setting, said in (
        ("encoder.width=8", "width"),
        ("seed=1", "give seed=0 encoder.folds=2, or train"),
        ("data.world.items=121", "another catalog"),
    ):
        message = cli("run", "--config", TINY, "--out", tmp_path / setting, "--quiet", stages,
                      f"llm.backbone={run / 'llm'}", "data.seed=0", setting, expect=5)  # fmt: skip
        assert said in message
        assert not (tmp_path / setting / "stages").exists() or setting == "encoder.width=8", "at once"


def test_frozen_parts_stay_bit_identical_through_later_stages(run):
    """The mapper stage keeps the text stage's adapter: the soft stage alone moves it."""
    about = read_json(run / "stages/3-mapper/stage.json")
    assert about["train"] == ["mapper"] and not (run / "stages/3-mapper/parts/adapter").exists()
    assert (run / "stages/4-soft/parts/adapter").exists()
    assert not (run / "stages/4-soft/parts/encoder").exists()


def test_print_config_dry_run_evaluate_and_report(run, cli, tmp_path):
    assert "width: 16" in cli("run", "--config", TINY, "--print-config")
    output = cli(
        "run", "--config", TINY, "--out", tmp_path / "dry", "--dry-run", "encoder.loop.max_steps=3"
    )
    assert re.search(r"stage encoder: [\d,]+ examples, at most 3 steps of 8 \(0\.\d\d epochs\)", output)
    assert "in all about" in output and not (tmp_path / "dry" / "stages").exists()
    folder = tmp_path / "again"
    shutil.copytree(run, folder)
    before = read_json(folder / "results.json")
    cli("evaluate", folder, process=True)
    assert read_json(folder / "results.json") == before
    (folder / "report.html").unlink()
    cli("report", folder)
    assert (folder / "report.html").stat().st_size > 10_000


def test_a_run_is_judged_again_and_not_trained_again_where_its_evaluation_alone_differs(
    run, cli, tmp_path
):
    folder = tmp_path / "again"
    shutil.copytree(run, folder)
    before, trained = weights(folder), read_json(folder / "env.json")
    changes = ["evaluation.baselines=[popularity]", "evaluation.ablations=false"]
    cli("run", "--config", TINY, "--out", folder, "--quiet", *changes, process=True)
    results = read_json(folder / "results.json")
    assert "popularity" in results["rows"] and not results["ablations"]
    old = read_json(run / "results.json")["rows"]["SASRecLLM"]
    assert results["rows"]["SASRecLLM"]["intervals"] == old["intervals"]
    assert all(len(found) == 10 for found in read_json(folder / "showcase.json").values())
    assert "popularity" in read_json(folder / "run.json")["costs"]
    assert weights(folder) == before and read_json(folder / "env.json") == trained
    changed = cli("run", "--config", TINY, "--out", folder, "encoder.width=8", expect=2)
    assert "encoder.width is 16 there, 8 here" in changed


def test_evaluate_takes_other_settings_of_evaluation_which_are_the_runs_from_then_on(
    run, cli, tmp_path
):
    folder = tmp_path / "judged"
    shutil.copytree(run, folder)
    before = {**weights(folder), "config.yaml": file_digest(folder / "config.yaml")}
    for given, said in (
        (["encoder.width=8"], "settings of evaluation alone; allowed: evaluation."),
        (["evaluation.resample=5"], "did you mean 'resamples'"),
        (["evaluation.baselines=[populariti]"], "did you mean 'popularity'"),
        (["resamples=5"], "settings of evaluation alone"),
        (["evaluation.resamples"], "has no '='"),
        (["--quite"], "unknown flag --quite"),
    ):
        assert said in cli("evaluate", folder, *given, expect=2), given
    assert before == {**weights(folder), "config.yaml": file_digest(folder / "config.yaml")}
    changes = ["evaluation.baselines=[popularity]", "evaluation.ablations=false"]
    said = cli("evaluate", folder, "--quiet", *changes, "evaluation.ranking.when=never")
    assert "popularity" in said
    results = read_json(folder / "results.json")
    assert "popularity" in results["rows"] and not results["ablations"] and not results["ranking"]
    assert load_config(folder / "config.yaml").evaluation.baselines == ["popularity"]
    assert weights(folder) == {k: v for k, v in before.items() if k != "config.yaml"}
    cli("evaluate", folder, "--quiet")  # goes by what it was judged by last
    assert read_json(folder / "results.json") == results
    assert "m0" in cli("recommend", folder, "--liked", "m0003", "-k", "2")


def test_two_processes_train_as_one(cli, tmp_path):
    """torchrun with gloo: the same effective batch, the same validation metrics, no row twice.

    Two processes add the gradients of a batch in another order than one; after dozens of steps that
    turns round a pair or two of nearly equal scores, each worth less than 1e-4 of an AUC.
    """
    options = ["--config", str(TINY), "--quiet", "encoder.dropout=0", "encoder.folds=0",
               "strategy=encoder-only", "fusion.enabled=false"]  # fmt: skip
    cli("run", "--out", tmp_path / "one", *options, process=True)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--standalone", "--local-addr", "127.0.0.1",  # a free port of its own choice
         "-m", "sasrecllm", "run", "--out", str(tmp_path / "two"), *options],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        [
            json.loads(x)
            for x in (tmp_path / n / "stages/1-encoder/metrics.jsonl").read_text().splitlines()
        ]
        for n in ("one", "two")
    )
    valid = [[r["valid"] for r in records if "valid" in r] for records in (one, two)]
    assert len(valid[0]) == len(valid[1]) > 0
    for a, b in zip(*valid, strict=True):
        assert a["auc"] == pytest.approx(b["auc"], abs=1e-4)
        assert a["uauc"] == pytest.approx(b["uauc"], abs=1e-4)


def test_an_encoder_alone_builds_no_language_model(cli, tmp_path):
    out = tmp_path / "run"
    cli("run", "--config", TINY, "--out", out, "strategy=encoder-only")
    assert not (out / "llm").exists()
    assert set(read_json(out / "results.json")["parameters"]) == {"encoder"}
    part = read_json(out / "stages/2-fusion/parts/fusion/part.json")
    assert part["config"]["components"] == [
        "encoder",
        "item quality",
        "user preference",
        "steady level",
    ]
    assert "m0" in cli("recommend", out, "--liked", "m0003", "-k", "3")


def test_words_of_an_item_nobody_has_rated_are_bounded_wherever_it_is_scored(run):
    system = SASRecLLM.from_pretrained(run)
    weights = system.scorer.weights
    assert weights.most == load_config(run / "config.yaml").fusion.new_item_words == 1.5
    assert weights.worded == ("llm", "item quality", "user preference")
    # A tiny language model says little, so the bound is made tight and its weight large.
    loud = tuple(20.0 * w for w in weights.unseen[:-1]) + weights.unseen[-1:]
    tight = replace(weights, unseen=loud, most=0.05)
    fused = system.scorer
    bound = SASRecLLM(system.parts, Fusion("x", tight, fused.parts, fused.seen_items))
    free = SASRecLLM(
        system.parts, Fusion("x", replace(tight, most=None), fused.parts, fused.seen_items)
    )
    liked = [system.catalog.item_ids[int(i)] for i in np.flatnonzero(system.dataset.seen_items)[:3]]
    titles = ["Answer: Yes", "Starship Waltz Ghost", " ".join(system.catalog.titles[:4]), ".", "</s>"]
    new = [NewItem(f"new {n}", title) for n, title in enumerate(titles)]
    reached = {}
    for name, given in (("bound", bound), ("free", free)):
        grown = given.with_items(new)
        scored = grown.score_items([i.item_id for i in new], liked)
        listed = grown.recommend(liked, k=5, only=[i.item_id for i in new])
        # One scorer, so the list says what the score says.
        asked = {r.item_id: r.probability for r in listed}
        assert [asked[i.item_id] for i in new] == pytest.approx(scored, abs=1e-5)
        reached[name] = np.ptp(np.log(np.array(scored) / (1 - np.array(scored))))
    assert reached["bound"] <= 0.1 + 1e-6 < reached["free"]


def test_the_bench_of_words_says_what_titles_reach_with_the_bound_and_without(run):
    one, two = (words.bench(run, titles=24, users=2, seed=3) for _ in "ab")
    assert one == two  # same seed, same titles
    gain, place = one
    assert 0 <= gain.ours <= gain.theirs + 1e-6 and gain.unit == "of 1"
    assert "24 titles for each of 2 users, seed 3; bound 1.5" in gain.note
    assert place.unit == "places" and "median place" in place.note
    (missing,) = words.bench(run / "nothing")
    assert missing.ratio is None and "make demo" in missing.note
    known = words.asked_users(SASRecLLM.from_pretrained(run), 1, 0)
    free, _ = words.unbounded(SASRecLLM.from_pretrained(run))
    titles = words.attack(free, known, 24, np.random.default_rng(0))
    assert len(set(titles)) == len(titles) >= 20
    assert {"Answer: Yes", "Yes"} & set(titles)
    p = words.probabilities(free, known, titles)
    assert (np.diff(p) <= 1e-6).all()  # the best first
