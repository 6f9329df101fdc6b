"""Lists for a file of users: the same answers as one by one, in shards, after a kill, in any format."""

import contextlib
import csv
import functools
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sasrecllm import SASRecLLM
from sasrecllm.batch import jobs, on_ray, part_files
from sasrecllm.batch.jobs import merge, parts_folder, recommend_all
from sasrecllm.config import load_config
from sasrecllm.data import batch_files
from sasrecllm.errors import CheckpointError, ConfigError, DataError, MissingExtraError, ResourceError
from sasrecllm.machine.lock import InUseError
from sasrecllm.machine.progress import Progress
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.opening import open_run

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch") / "run"
    options = ["strategy=encoder-only", "fusion.enabled=false", "evaluation.ablations=false"]
    config = load_config(TINY, options)
    run_all(open_run(folder, config, "test", quiet=True))
    return folder


@pytest.fixture(scope="module")
def system(run):
    return SASRecLLM.from_pretrained(run)


@pytest.fixture
def users(tmp_path, system):
    ids = [*system.catalog.user_ids[:20], "🎬 nobody", "007", *system.catalog.user_ids[20:23]]
    pl.DataFrame({"user_id": ids}).write_parquet(tmp_path / "users.parquet")
    return tmp_path / "users.parquet"


def test_users_whom_the_run_does_not_know_are_counted(run, users, tmp_path, capsys):
    """A misspelt id gets a list as well, so that nobody would notice."""
    assert recommend_all(run, users, tmp_path / "r.csv", k=2, size=7, progress=Progress())
    said = capsys.readouterr().err
    assert "2 users (for example '🎬 nobody') are not in the run's data: what is popular" in said
    pl.DataFrame({"user_id": pl.read_parquet(users)["user_id"][:3]}).write_parquet(users)
    assert recommend_all(run, users, tmp_path / "s.csv", k=2, progress=Progress())
    assert "not in the run's data" not in capsys.readouterr().err


def test_every_list_is_what_the_user_would_get_alone(run, system, users, tmp_path):
    out = tmp_path / "recs.parquet"
    assert recommend_all(run, users, out, k=4, retrieve=30, size=7)
    got = pl.read_parquet(out)
    ids = pl.read_parquet(users)["user_id"].to_list()
    assert got["user_id"].unique(maintain_order=True).to_list() == ids, "spelt and ordered as given"
    for user in (ids[0], ids[8], "🎬 nobody", "007"):
        alone = system.recommend(user=user, k=4, retrieve=30, strict=False)
        mine = got.filter(pl.col("user_id") == user)
        assert mine["item_id"].to_list() == [r.item_id for r in alone]
        assert mine["rank"].to_list() == [1, 2, 3, 4]
        assert mine["probability"].to_list() == pytest.approx([r.probability for r in alone], abs=1e-6)
        assert mine["retrieval_rank"].to_list() == [r.retrieval_rank for r in alone]
        assert mine["flags"].to_list() == [list(r.flags) for r in alone]
    assert not parts_folder(out).exists()


def same_lists(one, other):
    """Batches of other sizes, and other threads: single precision rounds otherwise."""
    assert_frame_equal(pl.read_parquet(one), pl.read_parquet(other), abs_tol=1e-6)


def test_two_shards_give_what_one_process_gives(run, users, tmp_path):
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    recommend_all(run, users, whole, k=3, size=6)
    assert not recommend_all(run, users, shared, k=3, size=6, shard=(0, 2))
    with pytest.raises(ConfigError, match=r"2 of 5 parts .* part 1 first"):
        merge(shared)
    assert recommend_all(run, users, shared, k=3, size=6, shard=(1, 2))
    same_lists(whole, shared)


def test_an_interrupted_job_goes_on_with_the_missing_parts_only(run, users, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    recommend_all(run, users, whole, k=3, size=6)
    written, true_write = [], batch_files.write_lists

    def dies_at_the_third(path, rows):
        written.append(path)
        if len(written) == 3:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        true_write(path, rows)

    monkeypatch.setattr(part_files, "write_lists", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        recommend_all(run, users, cut, k=3, size=6)
    assert not cut.exists()
    recommend_all(run, users, cut, k=3, size=6)
    assert len(written) == 3 + 3, "the two committed parts were not made again"
    same_lists(whole, cut)


@pytest.mark.parametrize("damage", ["a flipped bit", "cut", "no note"])
def test_a_damaged_part_is_refused_by_its_name_and_written_again(run, users, tmp_path, damage):
    whole, out = tmp_path / "whole.parquet", tmp_path / "recs.parquet"
    recommend_all(run, users, whole, k=3, size=6)
    recommend_all(run, users, out, k=3, size=6, shard=(0, 2))
    part = part_files.part_file(parts_folder(out), 2)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "no note":
        part.with_suffix(".sha256").unlink()
    else:
        part.write_bytes(bytes(data) if damage == "a flipped bit" else bytes(data[:40]))
    with pytest.raises(CheckpointError, match=r"part-000002\.parquet is damaged") as refused:
        recommend_all(run, users, out, k=3, size=6)
    assert refused.value.exit_code == 5 and not out.exists()
    part.unlink()  # as the refusal says
    assert recommend_all(run, users, out, k=3, size=6)
    assert pl.read_parquet(whole).equals(pl.read_parquet(out))


def test_parts_of_another_job_are_refused_and_kept(run, users, tmp_path):
    out = tmp_path / "recs.parquet"
    recommend_all(run, users, out, k=3, size=6, shard=(0, 2))
    kept = sorted(p.name for p in parts_folder(out).iterdir())
    with pytest.raises(ConfigError, match="k is 3 there, 5 here"):
        recommend_all(run, users, out, k=5, size=6)
    assert sorted(p.name for p in parts_folder(out).iterdir()) == kept


def test_the_lists_replace_neither_the_file_of_users_nor_a_file_of_the_run(run, users, tmp_path):
    (tmp_path / "link.parquet").symlink_to(users)
    before = {p: p.read_bytes() for p in (users, *run.rglob("*")) if p.is_file()}
    for out, says in (
        (users, "is the file of users itself"),
        (tmp_path / "link.parquet", "is the file of users itself"),
        (run / "data/interactions.parquet", "lies among the files of the run"),
        (run / "stages/new.csv", "lies among the files of the run"),
    ):
        with pytest.raises(ConfigError, match=says):
            recommend_all(run, users, out, k=2)
    assert {p: p.read_bytes() for p in (users, *run.rglob("*")) if p.is_file()} == before
    assert recommend_all(run, users, run / "lists.csv", k=2)  # lists may lie beside them
    (run / "lists.csv").unlink()


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_other_formats_in_and_out(run, system, tmp_path, ending):
    (tmp_path / "u.csv").write_text("who,age\nu0001,7\n007,8\n", encoding="utf-8")
    out = tmp_path / f"recs{ending}"
    assert recommend_all(run, tmp_path / "u.csv", out, k=2, column="who")
    lines = out.read_text(encoding="utf-8").splitlines()
    if ending == ".csv":
        rows = list(csv.DictReader(lines))
        assert [r["user_id"] for r in rows] == ["u0001", "u0001", "007", "007"]
        assert "fallback" in rows[2]["flags"].split("|")
    else:
        assert [json.loads(line)["user_id"] for line in lines] == ["u0001", "u0001", "007", "007"]


def test_no_users_give_an_empty_file_with_the_columns(run, tmp_path):
    pl.DataFrame({"user_id": []}, schema={"user_id": pl.String}).write_parquet(tmp_path / "u.parquet")
    assert recommend_all(run, tmp_path / "u.parquet", tmp_path / "r.parquet")
    assert pl.read_parquet(tmp_path / "r.parquet").columns == list(batch_files.SCHEMA)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("u.csv", "user\nx\n", "no column 'user_id'; it has: user; did you mean"),
        ("u.csv", 'user_id\nx\n""\n', "row 2: user_id is empty"),
        ("u.txt", "user_id\n", "allowed: .parquet, .csv"),
        ("u.parquet", "not parquet", "cannot be read"),
    ],
)
def test_a_wrong_file_of_users_is_refused(run, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as refusal:
        recommend_all(run, tmp_path / name, tmp_path / "r.parquet")
    assert said.split("; did")[0] in str(refusal.value)


def test_numbers_that_lost_their_spelling_and_unknown_endings_are_refused(run, users, tmp_path):
    pl.DataFrame({"user_id": [7.0]}).write_parquet(tmp_path / "n.parquet")
    with pytest.raises(DataError, match="column user_id: ids are of type Float64"):
        recommend_all(run, tmp_path / "n.parquet", tmp_path / "r.parquet")
    with pytest.raises(ConfigError, match=r"ends with '\.xlsx'"):
        recommend_all(run, users, tmp_path / "r.xlsx")


def test_a_ray_cluster_gives_what_one_process_gives_and_takes_only_what_is_missing(
    run, users, tmp_path
):
    pytest.importorskip("ray.data", reason="Ray is not installed (pip install 'sasrecllm[ray]')")
    whole, shared = tmp_path / "whole.parquet", tmp_path / "shared.parquet"
    recommend_all(run, users, whole, k=3, size=6)
    recommend_all(run, users, shared, k=3, size=6, shard=(0, 2))
    kept = {p.name: p.stat().st_mtime_ns for p in parts_folder(shared).glob("part-*.parquet")}
    merged, seen = jobs.merge_lists, {}

    def watched(files, out):
        seen.update({p.name: p.stat().st_mtime_ns for p in files})
        merged(files, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "merge_lists", watched)
        assert recommend_all(run, users, shared, k=3, size=6, ray="local")
    assert len(seen) == 5 and {n: seen[n] for n in kept} == kept
    same_lists(whole, shared)


def test_a_worker_of_two_that_is_killed_costs_no_list_and_no_row_stands_twice(
    run, users, tmp_path, monkeypatch
):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'sasrecllm[ray]')")
    whole, shared, killed = tmp_path / "whole.parquet", tmp_path / "shared.parquet", tmp_path / "killed"
    recommend_all(run, users, whole, k=3, size=2)
    true_worker = on_ray._worker

    def mortal(*given):
        class Mortal(true_worker(*given)):
            def __call__(self, batch):
                done = super().__call__(batch)
                with contextlib.suppress(FileExistsError):
                    killed.touch(exist_ok=False)  # one of the workers, once, with its part just written
                    (parts_folder(shared) / "part-000099.tmp0").write_bytes(b"half a part")
                    os.kill(os.getpid(), signal.SIGKILL)
                return done

        return Mortal

    monkeypatch.setattr(on_ray, "_worker", mortal)
    monkeypatch.setattr(ray, "init", functools.partial(ray.init, num_cpus=2))
    assert recommend_all(run, users, shared, k=3, size=2, ray="local")
    assert killed.exists() and not parts_folder(shared).exists()
    got = pl.read_parquet(shared)
    assert not got.select("user_id", "rank").is_duplicated().any()
    same_lists(whole, shared)


def test_without_ray_the_refusal_names_the_extra_and_keeps_the_parts(run, users, tmp_path, monkeypatch):
    out = tmp_path / "recs.parquet"
    recommend_all(run, users, out, k=3, size=6, shard=(0, 2))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"sasrecllm\[ray\]"):
        recommend_all(run, users, out, k=3, size=6, ray="local")
    assert len(list(parts_folder(out).glob("part-*.parquet"))) == 3


def test_a_bad_row_of_the_users_file_is_refused_before_a_cluster_is_asked(run, tmp_path, monkeypatch):
    path = tmp_path / "users.csv"
    path.write_text('user_id\nu0001\n""\n')
    monkeypatch.setitem(sys.modules, "ray", None)  # asking for it would be another refusal
    with pytest.raises(DataError, match="row 2"):
        recommend_all(run, path, tmp_path / "recs.csv", ray="local")


def test_a_refused_start_leaves_nothing_that_refuses_the_corrected_one(run, users, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text('user_id\nu0001\n""\n')
    out = tmp_path / "out" / "recs.csv"
    for source, other in ((bad, {}), (users, {"column": "user"}), (tmp_path / "none.csv", {})):
        with pytest.raises(DataError):
            recommend_all(run, source, out, **other)
    with pytest.raises(CheckpointError):
        recommend_all(tmp_path, users, out)
    assert not out.parent.exists()
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    next(damaged.glob("stages/*/parts/encoder/weights.safetensors")).write_bytes(b"")
    with pytest.raises(CheckpointError):
        recommend_all(damaged, users, out, k=9)
    assert not out.parent.exists()
    assert recommend_all(run, users, out, k=2)


def test_a_job_of_which_no_part_was_written_is_nobodys(run, users, tmp_path, monkeypatch):
    out = tmp_path / "recs.csv"
    parts_folder(out).mkdir()
    (parts_folder(out) / jobs.JOB).write_text('{"k": 9, "parts": 3}')  # as a kill leaves it
    assert recommend_all(run, users, out, k=2)


def test_shards_work_side_by_side_and_the_same_shard_does_not(run, users, tmp_path, monkeypatch):
    """What a second process may do while shard 0 of 2 writes its first part."""
    out, seen = tmp_path / "recs.parquet", []
    true_write = jobs.write_part

    def beside(system, ids, path, job):
        monkeypatch.setattr(jobs, "write_part", true_write)
        with pytest.raises(InUseError, match=r"in use by process \d+ on"):
            recommend_all(run, users, out, k=3, size=6, shard=(0, 2))
        with pytest.raises(ConfigError, match="k is 3 there, 5 here"):
            recommend_all(run, users, out, k=5, size=6, shard=(1, 2))
        seen.append(recommend_all(run, users, out, k=3, size=6, shard=(1, 2)))
        true_write(system, ids, path, job)

    monkeypatch.setattr(jobs, "write_part", beside)
    assert recommend_all(run, users, out, k=3, size=6, shard=(0, 2))
    assert seen == [False] and out.is_file() and not parts_folder(out).exists()


def test_the_shard_that_ends_after_the_merge_says_that_it_is_done(run, users, tmp_path, monkeypatch):
    """Two shards see at the same time that every part stands: one merges, the other has no work."""
    out = tmp_path / "recs.parquet"
    assert not recommend_all(run, users, out, k=3, size=6, shard=(1, 2))
    true_merge = jobs._merge_if_all_stand

    def beaten(parts, out):
        merge(out)
        return true_merge(parts, out)

    monkeypatch.setattr(jobs, "_merge_if_all_stand", beaten)
    assert recommend_all(run, users, out, k=3, size=6, shard=(0, 2))
    assert out.is_file() and not parts_folder(out).exists()


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_full_disk_leaves_the_old_lists_and_every_finished_part(run, users, tmp_path, ending):
    """The limit of a file's size, which what is written by Rust meets too."""
    import resource

    out = tmp_path / f"recs{ending}"
    out.write_text("the lists of yesterday")
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, kept[1]))
        with pytest.raises(ResourceError, match=r"written: (File too large|Input/output error)"):
            recommend_all(run, users, out, k=20, size=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        signal.signal(signal.SIGXFSZ, handler)
    assert out.read_text() == "the lists of yesterday"
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name]
    assert recommend_all(run, users, out, k=20, size=2) and out.stat().st_size > 4000
