"""One part of a batch job: whole or absent, and found out where it was changed."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from sasrecllm.batch import part_files
from sasrecllm.batch.part_files import part_file, parts_folder, verify_part, write_part
from sasrecllm.errors import CheckpointError
from sasrecllm.inference.requests import Recommendation
from sasrecllm.inference.wishes import Wishes

JOB = {"k": 2, "retrieve": 9, "rerank": True, "parts": 1}
JOB |= {"exclude": ["i7"], "diversity": 0.5}


class Fixed:
    """A system whose lists are known: item n for user n."""

    dataset = SimpleNamespace(latest=lambda users: users)
    catalog = SimpleNamespace(user_index=lambda ids: np.array([int(i[1:]) for i in ids]))

    def recommend_many(self, known, k, retrieve, wishes, *, rerank):
        assert (k, retrieve, rerank) == (2, 9, True)
        assert wishes == Wishes(exclude=["i7"], diversity=0.5)
        return known

    @property
    def maker(self):
        return self

    def written(self, known, best):
        return [[Recommendation(1, f"i{u}", "A title", 1.5, 0.8, None, ("cold_item",))] for u in best]


def test_a_part_is_written_with_its_note_and_nothing_beside_it(tmp_path):
    path = part_file(tmp_path, 3)
    write_part(Fixed(), ["u4", "u2"], path, JOB)
    got = pl.read_parquet(path)
    assert got["user_id"].to_list() == ["u4", "u2"] and got["item_id"].to_list() == ["i4", "i2"]
    assert "score" not in got.columns and got["flags"].to_list() == [["cold_item"]] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part-000003.parquet", "part-000003.sha256"]
    verify_part(path)


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fails(path, rows):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(part_files, "write_lists", fails)
    with pytest.raises(KeyboardInterrupt):
        write_part(Fixed(), ["u1"], part_file(tmp_path, 0), JOB)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["changed", "no note"])
def test_a_part_that_is_not_what_was_written_is_refused(tmp_path, harm):
    path = part_file(tmp_path, 0)
    write_part(Fixed(), ["u1"], path, JOB)
    if harm == "changed":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        path.with_suffix(".sha256").unlink()
    with pytest.raises(CheckpointError, match=r"part-000000\.parquet is damaged"):
        verify_part(path)


def test_parts_lie_beside_the_output(tmp_path):
    assert parts_folder(tmp_path / "recs.csv") == tmp_path / "recs.csv.parts"
