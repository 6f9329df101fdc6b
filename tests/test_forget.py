"""Whoever is forgotten is in no file of the run, which still opens and is judged; kills anywhere."""

import contextlib
import errno
import json
import os
import shutil

import numpy as np
import polars as pl
import pytest

from sasrecllm import SASRecLLM, checkpoint
from sasrecllm import forget as forgetting
from sasrecllm.config import load_config
from sasrecllm.errors import CheckpointError, DataError
from sasrecllm.forget import forget
from sasrecllm.pipeline.run import evaluate_again, report_again, run_all
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.opening import open_run, reopen_run
from sasrecllm.runs.seal import choose_run, verify_run
from sasrecllm.serving.store import Interaction, SqliteStore

ADA = "Ada O'Byrne & <7>"
"""An id with everything that is escaped somewhere."""


def log_of(folder):
    """A small log of forty users, one bad row, and titles."""
    rng = np.random.default_rng(5)
    ids = [ADA, "17", *(f"user {n}" for n in range(38))]
    rows = [
        (user, f"i{item}", int(rng.random() < 0.6), 1_000 + 10 * n + place)
        for place, user in enumerate(ids)
        for n, item in enumerate(rng.permutation(20)[:12])
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "label", "timestamp"], orient="row")
    frame = frame.with_columns(pl.all().cast(pl.String))
    bad = pl.DataFrame([[ADA, "i1", "perhaps", "5"]], schema=frame.columns, orient="row")
    pl.concat([frame, bad]).write_csv(folder / "log.csv")
    titles = {
        "item_id": [f"i{n}" for n in range(20)],
        "title": [f"Title {n} word{n % 3}" for n in range(20)],
    }
    pl.DataFrame(titles).write_csv(folder / "items.csv")


def trained_on(once, feedback):
    """A run of matrix factorisation, which keeps a vector and a bias of each user."""

    def make(folder):
        folder.mkdir(parents=True)
        log_of(folder)
        settings = [
            "data.source=files", f"data.path={folder / 'log.csv'}",
            f"data.items_path={folder / 'items.csv'}",
            f"data.feedback={feedback}", "data.on_bad_rows=quarantine", "data.split=global-time",
            "encoder.kind=mf", "encoder.width=8", "encoder.user_bias=true",
            "fusion.enabled=false", "encoder.loop.epochs=2",
            "encoder.loop.warmup_steps=2", "strategy=encoder-only", "evaluation.resamples=100",
            "evaluation.ranking.when=never", "data.negatives=2",
        ]  # fmt: skip
        run_all(open_run(folder / "run", load_config(None, settings), "test", quiet=True))

    return once(f"forget-{feedback}", make) / "run"


@pytest.fixture(params=["labels", "implicit"])
def trained(request, once):
    return trained_on(once, request.param)


@pytest.fixture
def own(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def everything(folder):
    """What every file of a folder says, tables as text, by path."""
    said = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            text = frame.select(pl.selectors.by_dtype(pl.String)).write_json()
            said[path] = text.encode() + path.read_bytes()
        else:
            said[path] = path.read_bytes()
    return said


def naming(folder, user):
    """Files that name a user, in any spelling."""
    spelt = {
        user,
        json.dumps(user)[1:-1],
        user.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    }
    spelt |= {s.replace("'", "&#39;") for s in spelt} | {s.replace("'", "&#x27;") for s in spelt}
    return [p.name for p, text in everything(folder).items() if any(s.encode() in text for s in spelt)]


def answers(folder, users, k=100):
    system = SASRecLLM.from_pretrained(folder, "cpu")
    return {u: [(r.item_id, r.probability) for r in system.recommend(user=u, k=k)] for u in users}


def named_everywhere(folder):
    """Make sure that Ada is named wherever a run can name her, as an outsider's files would."""
    lists = pl.DataFrame({"user_id": [ADA, "user 3"], "item_id": ["i1", "i2"]})
    parts = folder / "recs.csv.parts"
    parts.mkdir()
    lists.write_parquet(parts / "part-000000.parquet")
    lists.write_csv(folder / "recs.csv")
    lists.write_ndjson(folder / "recs.jsonl")
    with (folder / "quarantine.jsonl").open("a") as rejects:
        for about in ({"column": "item_id", "value": f"user {ADA!r}"}, {"user": ADA}, {"column": "x"}):
            rejects.write(json.dumps(about) + "\n")
    (folder / "data.tmp").mkdir()
    (folder / "data.tmp" / "half.csv").write_text(ADA)
    (folder / "showcase.json.tmp").write_text(ADA)
    with (folder / "log.txt").open("a") as log:
        log.write(f"data: user {ADA!r} met every item\ndata: 12 users\n")


def test_nothing_in_the_run_names_who_was_forgotten_and_it_answers_all_others(own):
    named_everywhere(own)
    before = naming(own, ADA)
    assert {"interactions.parquet", "quarantine.jsonl", "log.txt", "recs.csv", "recs.jsonl"} <= set(
        before
    )
    others = ["17", "user 0", "user 37"]
    was = answers(own, others)
    forget(own, [ADA])
    assert naming(own, ADA) == [] and not list(own.rglob("*.tmp"))
    verify_run(RunFolder(own))
    now = answers(own, others)
    for user in others:
        # An encoder of its own scores them: nothing of Ada was in what it knows of others.
        # The order may change where a like of the forgotten one counted, in popularity say, so that
        # all that may be listed is compared and not the first few.
        assert len(now[user]) > 4
        assert dict(now[user]) == pytest.approx(dict(was[user]), abs=1e-6)
    system = SASRecLLM.from_pretrained(own, "cpu")
    with pytest.raises(DataError, match="not in this run's data"):
        system.recommend(user=ADA)
    assert all(line["user_id"] and line["user_id"] != ADA for line in system.audience("i3", k=40))
    lines = (own / "log.txt").read_text()
    assert "data: 12 users" in lines
    assert len((own / "quarantine.jsonl").read_text().splitlines()) == 2
    assert pl.read_csv(own / "recs.csv")["user_id"].to_list() == ["user 3"]
    assert "Users forgotten after training: 1." in (own / "report.html").read_text()


def test_what_the_encoder_keeps_of_a_user_alone_is_gone_too(own):
    index = int(SASRecLLM.from_pretrained(own, "cpu").catalog.user_index([ADA])[0])
    parts = sorted(own.glob("stages/*/parts/encoder"))
    assert len(parts) == 2, "as it was trained, and with its title prior"
    then = [checkpoint.load_part(part, {})[0] for part in parts]
    assert all(before["user_table"][index].any() for before in then)
    forget(own, [ADA])
    for part, before in zip(parts, then, strict=True):
        after, _ = checkpoint.load_part(part, {})
        rest = np.arange(len(after["user_table"])) != index
        for name in ("user_table", "user_bias"):
            assert not after[name][index].any()
            assert (after[name][rest] == before[name][rest]).all()
        assert (after["item_table"] == before["item_table"]).all()


def test_the_run_is_judged_and_reported_on_the_rows_that_are_left(own, trained):
    forget(own, [ADA, "17"])
    assert not list(own.glob("stages/*/scores"))  # they stood for rows that went
    kept = (own / "results.json").read_bytes()
    assert kept == (trained / "results.json").read_bytes()
    report_again(reopen_run(own, quiet=True))
    evaluate_again(reopen_run(own, quiet=True))
    verify_run(RunFolder(own))
    left = SASRecLLM.from_pretrained(own, "cpu").dataset
    results = json.loads((own / "results.json").read_text())
    assert results["rows"][results["final"]]["rows"] == len(left.questions("test"))
    assert naming(own, ADA) == []


def test_a_number_is_an_id_only_where_it_stands_for_a_user(own):
    with (own / "log.txt").open("a") as log:
        log.write("step 17/40\nuser '17' has 12 rows\nuser 17: set aside\n")
    forget(own, ["17"])
    text = (own / "log.txt").read_text()
    assert "step 17/40" in text and "user '17'" not in text and "user 17:" not in text
    assert "17" not in set(pl.read_parquet(own / "data" / "interactions.parquet")["user_id"])


def test_an_unknown_user_is_refused_and_nothing_changes(own):
    before = everything(own)
    for users in (["nobody"], [ADA, "nobody"]):
        with pytest.raises(DataError, match="'nobody' is not in this run") as refused:
            forget(own, users)
        assert refused.value.exit_code == 4
    assert everything(own) == before
    forget(own, ["nobody"], in_store=["nobody"])  # the store of its server knows him
    after, noted = everything(own), {own / "forgotten.json", own / "MANIFEST.sha256"}
    assert {p: raw for p, raw in after.items() if p not in noted} == {
        p: raw for p, raw in before.items() if p not in noted
    }
    assert b"nobody" not in after[own / "forgotten.json"]


def test_words_of_the_log_and_blanks_are_nobodys_ids(own):
    with (own / "log.txt").open("a") as log:
        log.write("2026-11-26 10:00:00 stage encoder: finished; 12 rows, best yet\n")
    before = everything(own)
    for user in ("", " ", "encoder", "finished;", ",", "best yet"):
        with pytest.raises(DataError, match=r"is empty|not in this run"):
            forget(own, [ADA, user])
        assert everything(own) == before, user


def test_forgetting_twice_changes_nothing_more(own):
    forget(own, [ADA])
    before = everything(own)
    with pytest.raises(DataError):
        forget(own, [ADA])
    assert everything(own) == before
    forget(own, ["17"])  # beside the first one's empty place
    assert set(answers(own, ["user 0", "user 37"])) == {"user 0", "user 37"}


def test_a_run_without_anybody_is_not_made(own):
    everybody = SASRecLLM.from_pretrained(own, "cpu").catalog.user_ids
    before = everything(own)
    with pytest.raises(DataError, match="split is left"):
        forget(own, everybody)
    assert everything(own) == before


def test_neither_an_unfinished_nor_a_damaged_run_is_touched(own, tmp_path):
    with pytest.raises(CheckpointError, match="not a finished run"):
        forget(tmp_path / "nothing", [ADA])
    with (own / "data" / "interactions.parquet").open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\xff\x00")
    before = everything_raw(own)
    with pytest.raises(CheckpointError, match="damaged"):
        forget(own, [ADA])
    assert everything_raw(own) == before


def everything_raw(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Killed(BaseException):
    """The process is gone: nothing of it reaches the disk any more."""


KILLED = ("replace", "rename", "unlink", "rmdir", "fsync")
FULL = ("replace", "rename", "fsync")


@contextlib.contextmanager
def killed_at(point, error=Killed, names=KILLED):
    """Every change of a folder from the ``point``-th on fails; yields what counts them."""
    done = [0]
    with pytest.MonkeyPatch.context() as patch:

        def dying(call):
            def wrapped(*args, **kwargs):
                done[0] += 1
                if done[0] >= point:
                    raise error()
                return call(*args, **kwargs)

            return wrapped

        for name in names:
            patch.setattr(os, name, dying(getattr(os, name)))
        if error is Killed:  # a lock goes with its process, which here lives on
            patch.setattr(forgetting, "in_use", contextlib.nullcontext)
        yield done


def test_a_kill_at_any_point_leaves_the_run_whole_or_the_same_command_finishes(once, tmp_path):
    whole = shutil.copytree(trained_on(once, "labels"), tmp_path / "whole")
    named_everywhere(whole)
    start = shutil.copytree(whole, tmp_path / "start")
    with killed_at(10**9) as counted:
        forget(whole, [ADA])
    wanted, points = answers(whole, ["user 0"]), counted[0]
    assert points > 30
    ends = set()
    for point in range(1, points + 1, 3):
        own = shutil.copytree(start, tmp_path / f"killed {point}")
        with killed_at(point), contextlib.suppress(Killed):
            forget(own, [ADA])
        try:
            choose_run(own)
            ends.add("opens")
            SASRecLLM.from_pretrained(own, "cpu")
        except CheckpointError as refused:
            ends.add("refused")
            assert "forget" in str(refused) or "interrupted" in str(refused)
            with pytest.raises(CheckpointError):
                reopen_run(own)
        with contextlib.suppress(DataError):  # it had ended
            forget(own, [ADA])
        assert naming(own, ADA) == [] and not list(own.rglob("*.tmp"))
        verify_run(RunFolder(own))
        assert answers(own, ["user 0"]) == wanted
        shutil.rmtree(own)
    assert ends == {"opens", "refused"}


def test_a_full_disk_is_a_refusal_that_loses_nothing_and_the_command_finishes_later(
    once, cli, tmp_path
):
    start = trained_on(once, "labels")

    def full():
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(own))

    with killed_at(10**9, names=FULL) as counted:
        forget(shutil.copytree(start, tmp_path / "whole"), [ADA])
    unchanged = 0
    for point in range(1, counted[0], counted[0] // 5):
        own = shutil.copytree(start, tmp_path / f"full {point}")
        before = everything(own)
        with killed_at(point, full, FULL):
            said = cli("forget", own, "--user", ADA, expect=6)
        assert os.strerror(errno.ENOSPC) in said and str(own) in said
        if not (own / "forget.tmp").exists():
            assert everything(own) == before
            unchanged += 1
        cli("forget", own, "--user", ADA)
        assert naming(own, ADA) == [] and not list(own.rglob("*.tmp"))
    assert unchanged


def test_a_strangers_staging_folder_cannot_reach_outside_the_run(own, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    staging = own / "forget.tmp"
    (staging / "new").mkdir(parents=True)
    (staging / "complete.json").write_text(json.dumps({"rows": True, "gone": ["../outside"]}))
    os.symlink(outside, staging / "new" / "plots")
    with pytest.raises(CheckpointError, match="symbolic link"):
        forget(own, [ADA])
    assert (outside / "precious").read_text() == "mine"


def test_the_command_takes_users_out_of_a_trained_system_and_its_store(run, cli, tmp_path):
    own = shutil.copytree(run, tmp_path / "tiny")
    heading = next(iter(json.loads((own / "showcase.json").read_text())))
    shown = heading.removeprefix("typical user ")
    listed = next(
        line["item_id"]
        for lines in json.loads((own / "showcase.json").read_text()).values()
        for line in lines
        if line["title"].startswith("user ")
    )
    store = SqliteStore(tmp_path / "tiny.sqlite")  # where `serve` makes it
    store.add_interactions([Interaction(u, "m0001", True) for u in (shown, "only-told", "other")])
    store.close()
    others = [
        u for u in SASRecLLM.from_pretrained(own, "cpu").catalog.user_ids if u not in (shown, listed)
    ]
    was = scores(own, others[:5])
    before = everything(own)
    said = cli("forget", own, "--user", shown, "--user", "nobody", expect=4)
    assert "'nobody' is not in this run" in said and everything(own) == before
    cli("forget", own, "--user", shown, "--user", listed, "--user", "only-told")
    for user in (shown, listed):
        assert naming(own, user) == []
    for path in tmp_path.glob("tiny.sqlite*"):
        assert not any(user.encode() in path.read_bytes() for user in (shown, "only-told"))
    # The per-user regression refits its shared part on the rows that are left: 118 of 120 users.
    assert scores(own, others[:5]) == pytest.approx(was, abs=0.02)
    assert cli("recommend", own, "--user", others[0], "-k", 3)
    assert shown not in cli("recommend", own, "--showcase")
    cli("recommend", own, "--user", shown, expect=4)
    cli("forget", own, "--user", shown, expect=4)
    assert "SASRecLLM" in cli("evaluate", own, "--quiet")
    verify_run(RunFolder(own))
    assert "no such file" in cli("forget", own, "--user", "x", "--store", tmp_path / "none", expect=2)


def scores(folder, users):
    """P(like) of three items for each user, in one list."""
    system = SASRecLLM.from_pretrained(folder, "cpu")
    return [p for user in users for p in system.score_items(["m0001", "m0050", "m0100"], user=user)]


def test_the_command_finishes_what_was_interrupted_before(once, cli, tmp_path):
    own = shutil.copytree(trained_on(once, "labels"), tmp_path / "run")
    point = 0
    while not (own / "forget.tmp" / "complete.json").exists():  # the first kill on the move
        point += 1
        with killed_at(point), contextlib.suppress(Killed):
            forget(own, [ADA])
    said = cli("recommend", own, "--user", "user 1", expect=5)
    assert "forget" in said and "again" in said
    cli("evaluate", own, expect=5)
    cli("forget", own, "--user", ADA)
    assert naming(own, ADA) == []
    cli("recommend", own, "--user", "user 1")
