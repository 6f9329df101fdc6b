"""A folder is whole or absent, whatever happens while it is written; damage is found and named."""

import errno
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm import checkpoint, manifest
from sasrecllm.checkpoint import (
    CheckpointFolder,
    commit_folder,
    is_whole,
    load_part,
    read_json,
    save_part,
    seconds_in,
    write_json,
)
from sasrecllm.errors import CheckpointError, ConfigError, ResourceError
from sasrecllm.names import aside

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}


def test_a_part_comes_back_and_belongs_to_its_data(tmp_path):
    save_part(tmp_path / "p", TENSORS, {"width": 3}, {"catalog": "x" * 64})
    tensors, config = load_part(tmp_path / "p", {"catalog": "x" * 64})
    assert torch.equal(tensors["a"], TENSORS["a"]) and config == {"width": 3}
    with pytest.raises(CheckpointError, match="another catalog") as refused:
        load_part(tmp_path / "p", {"catalog": "y" * 64})
    assert refused.value.exit_code == 5


@settings(max_examples=100)
@given(which=st.integers(0, 2), at=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.booleans())
def test_every_flipped_bit_and_every_cut_is_found(tmp_path_factory, which, at, bit, cut):
    folder = tmp_path_factory.mktemp("damage") / "p"
    save_part(folder, TENSORS, {"width": 3}, {})
    path = sorted(p for p in folder.iterdir())[which]
    data = bytearray(path.read_bytes())
    if cut:
        data = data[: at % len(data)]
    else:
        data[at % len(data)] ^= 1 << bit
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError):
        load_part(folder, {})
    assert not is_whole(folder)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may clean up after it."""


@pytest.mark.parametrize("kind", ["killed", "full"])
def test_a_save_that_dies_at_any_point_leaves_the_last_checkpoint(tmp_path, monkeypatch, kind):
    """Fail the n-th call that touches the disk, for n = 1, 2, 3 ... until a save goes through."""
    points = 0
    while True:
        folder = tmp_path / f"{kind}-{points}" / "checkpoints"
        store = CheckpointFolder(folder)
        store.save(1, TENSORS, {"step": 1})
        left = [points]

        def count(function, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    if kind == "killed":
                        raise Killed
                    raise OSError(errno.ENOSPC, "No space left on device")
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patched:
            for name in ("_save_tensors", "write_json", "sync", "_replace"):
                patched.setattr(checkpoint, name, count(getattr(checkpoint, name)))
            try:
                store.save(2, {"a": torch.zeros(2, 3)}, {"step": 2})
                done = True
            except (Killed, ResourceError) as error:
                done = False
                if kind == "full":
                    assert error.exit_code == 6 and str(folder) in str(error)
                    assert not list(folder.glob("*.tmp"))
        tensors, state = CheckpointFolder(folder).latest()
        assert state["step"] in ((2,) if done else (1, 2))
        assert torch.equal(tensors["a"], TENSORS["a"] if state["step"] == 1 else torch.zeros(2, 3))
        if done:
            break
        points += 1
    assert points >= 6


def test_seconds_of_all_sittings_up_to_the_newest_checkpoint_are_known(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    folder = tmp_path / "c"
    assert seconds_in(folder) == 0.0, "none"
    store = CheckpointFolder(folder)
    now[0] += 7
    store.save(1, TENSORS, {"step": 1})
    now[0] += 50  # lost with the process
    assert seconds_in(folder) == 7.0
    store = CheckpointFolder(folder)
    now[0] += 5
    store.save(2, TENSORS, {"step": 2})
    assert seconds_in(folder) == 12.0


def test_only_the_last_two_checkpoints_stay(tmp_path):
    store = CheckpointFolder(tmp_path / "c")
    for step in range(1, 6):
        store.save(step, TENSORS, {"step": step})
    assert [p.name for p in sorted((tmp_path / "c").iterdir())] == ["step-00000004", "step-00000005"]


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    store = CheckpointFolder(tmp_path / "c")
    for step in (1, 2):
        store.save(step, TENSORS, {"step": step})
    os.truncate(tmp_path / "c" / "step-00000002" / "state.safetensors", 20)
    assert store.latest()[1]["step"] == 1


def test_checkpoints_go_on_with_what_they_were_begun_with(tmp_path):
    store = CheckpointFolder(tmp_path / "1-text" / "checkpoints")
    store.begin({"backbone": "a" * 64})
    store.begin({"backbone": "b" * 64})  # nothing was learnt yet, so nothing goes on
    store.save(1, TENSORS, {"step": 1})
    store.begin({"backbone": "b" * 64, "catalog": "c" * 64})  # a part of which nothing was noted
    with pytest.raises(
        CheckpointError, match=r"1-text: .*another backbone \(bbbbbbbbbbbb; .*aaaa"
    ) as no:
        store.begin({"backbone": "a" * 64})
    assert "--force" in no.value.remedy and store.latest()[1]["step"] == 1
    store.begin({"backbone": "b" * 64})


def test_checkpoints_of_an_older_version_go_on(tmp_path):
    store = CheckpointFolder(tmp_path / "checkpoints")
    store.save(1, TENSORS, {"step": 1})
    store.begin({"backbone": "a" * 64}, writes=False)
    assert not (tmp_path / "checkpoints" / checkpoint.REQUIRES).exists()
    store.begin({"backbone": "a" * 64})
    with pytest.raises(CheckpointError, match="another backbone"):
        store.begin({"backbone": "b" * 64})


def test_metrics_are_cut_back_to_the_resumed_step(tmp_path):
    store = CheckpointFolder(tmp_path / "c")
    store.log({"step": 1, "loss": 0.5})
    store.save(1, TENSORS, {"step": 1})
    store.log({"step": 2, "loss": 0.4})
    with store.metrics.open("a") as stream:
        stream.write('{"step": 3, "lo')  # a kill in the middle of a line
    store.latest()
    assert store.metrics.read_text() == '{"step": 1, "loss": 0.5}\n'


def test_commit_leaves_nothing_behind_when_the_writer_fails(tmp_path):
    def write(folder):
        (folder / "x").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="MB free"):
        commit_folder(tmp_path / "f", write)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_manifest_is_not_a_checkpoint(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"MANIFEST.sha256 is missing"):
        load_part(tmp_path, {})


@pytest.mark.parametrize(
    "text", ["[]", "3", '"x"', "null", "{", "", "NaN", '{"a": NaN}', "[" * 100_000]
)
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_json_that_lacks_what_is_needed_is_refused_by_the_key(tmp_path):
    write_json(tmp_path / "x.json", {"rows": {}, "seed": "0"})
    assert read_json(tmp_path / "x.json", rows=dict)["rows"] == {}
    with pytest.raises(CheckpointError, match="seed is a str"):
        read_json(tmp_path / "x.json", seed=int)
    with pytest.raises(CheckpointError, match="final is missing"):
        read_json(tmp_path / "x.json", final=str)


def test_a_part_without_its_keys_or_with_numbers_that_are_not_finite_is_refused(tmp_path):
    commit_folder(tmp_path / "p", lambda folder: write_json(folder / "part.json", {}))
    with pytest.raises(CheckpointError, match="config is missing"):
        load_part(tmp_path / "p", {})
    for wrong in (float("nan"), float("inf")):
        save_part(tmp_path / "q", {"a": torch.tensor([1.0, wrong])}, {}, {})
        with pytest.raises(CheckpointError, match="a holds numbers that are not finite"):
            load_part(tmp_path / "q", {})


def test_a_link_where_a_file_is_written_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "x.json").symlink_to(tmp_path / "victim")
    aside(tmp_path / "x.json").symlink_to(tmp_path / "victim")
    write_json(tmp_path / "x.json", {"new": 1})
    assert (tmp_path / "victim").read_text() == "mine"
    assert read_json(tmp_path / "x.json") == {"new": 1} and not (tmp_path / "x.json").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["victim", "x.json"]


def test_what_people_call_tmp_beside_it_stays_and_what_we_left_goes(tmp_path):
    theirs = [tmp_path / name for name in ("p.tmp", "p.old.tmp", "x.json.tmp")]
    for path in theirs:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    for which in ("new", "old"):  # as a kill leaves them
        aside(tmp_path / "p", which).mkdir()
        (aside(tmp_path / "p", which) / "half").write_text("half")
    aside(tmp_path / "x.json").write_text("half")
    for _ in range(2):  # the second takes the place of the first
        save_part(tmp_path / "p", TENSORS, {"width": 3}, {})
        write_json(tmp_path / "x.json", {"new": 1})
    assert [(path / "mine.txt").read_text() for path in theirs] == ["mine"] * 3
    assert {p.name for p in tmp_path.iterdir()} == {"p", "x.json", *(p.name for p in theirs)}


def test_who_may_read_the_folder_may_read_what_was_committed_into_it(tmp_path):
    before = os.umask(0o022)
    try:
        save_part(tmp_path / "part", {"w": torch.ones(2)}, {}, {})
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "part").iterdir()}
    assert modes and set(modes.values()) == {0o644}


@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, ConfigError), (errno.EIO, ResourceError)])
def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch, number, kind):
    save_part(tmp_path / "part", {"w": torch.ones(2)}, {}, {})

    def fails(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(manifest, "file_digest", fails)
    with pytest.raises(kind, match=os.strerror(number)) as refused:
        load_part(tmp_path / "part", {})
    assert "restore" not in refused.value.remedy
