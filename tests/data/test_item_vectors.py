"""Vectors that the user brings: read by name, refused by name, kept in the run."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sasrecllm.data.catalog import Catalog
from sasrecllm.data.item_vectors import FILE, keep_vectors, kept_vectors, read_vectors
from sasrecllm.errors import DataError
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data

TINY = Path(__file__).parents[1] / "tiny.yaml"
NAMES = ["b", "007", "a"]
CATALOG = Catalog(NAMES, ["B", "Bond", "A"], ["u"], {})
ROWS = {"a": [1.0, 2.0], "b": [3.0, 4.0], "007": [5.0, 7.0], "of nothing": [9.0, 9.0]}
WANTED = [[3, 4], [5, 7], [1, 2]]


def parquet(path, rows, **columns):
    frame = {"item_id": list(rows)} | (columns or {"vector": list(rows.values())})
    pl.DataFrame(frame).write_parquet(path)
    return path


def npy(path, rows, names=None):
    np.save(path, np.array(list(rows.values())))
    path.with_suffix(".txt").write_text("".join(f"{n}\n" for n in names or rows), encoding="utf-8")
    return path


def test_every_form_gives_the_catalogues_order(tmp_path):
    columns = {f"d{n}": [row[n] for row in ROWS.values()] for n in (0, 1)}
    for path in (
        parquet(tmp_path / "lists.parquet", ROWS),
        parquet(tmp_path / "columns.parquet", ROWS, **columns),
        npy(tmp_path / "table.npy", ROWS),
    ):
        found = read_vectors(path, CATALOG)
        assert found.tolist() == WANTED and found.dtype == np.float32, path.name
    frame = pl.read_parquet(tmp_path / "lists.parquet")
    frame = frame.with_columns(pl.col("vector").list.to_array(2))
    frame.write_parquet(tmp_path / "arrays.parquet")
    assert read_vectors(tmp_path / "arrays.parquet", CATALOG).tolist() == WANTED


def test_numbers_for_ids_stand_for_their_digits(tmp_path):
    pl.DataFrame({"item_id": [2, 1], "vector": [[1.0], [2.0]]}).write_parquet(tmp_path / "n.parquet")
    catalog = Catalog(["1", "2"], ["One", "Two"], ["u"], {})
    assert read_vectors(tmp_path / "n.parquet", catalog).tolist() == [[2], [1]]


def without(*names):
    return {k: v for k, v in ROWS.items() if k not in names}


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p: p / "none.parquet", "there is no file"),
        (lambda p: p / "table.csv", "neither .parquet nor .npy"),
        (lambda p: parquet(p / "x.parquet", without("007")), "no vector for 1 of 3 items: '007'"),
        (lambda p: npy(p / "x.npy", without("a", "b")), "no vector for 2 of 3 items: 'b', 'a'"),
        (
            lambda p: parquet(p / "x.parquet", ROWS | {"a": [1.0]}),
            "1 of its vectors have other lengths than the 2 numbers of most: 'a'",
        ),
        (lambda p: parquet(p / "x.parquet", ROWS | {"b": [1.0, float("nan")]}), "not finite: 'b'"),
        (lambda p: parquet(p / "x.parquet", ROWS | {"b": [1.0, None]}), "not finite: 'b'"),
        (lambda p: npy(p / "x.npy", ROWS | {"007": [1.0, float("inf")]}), "not finite: '007'"),
        (lambda p: npy(p / "x.npy", ROWS | {"007": [1.0, 1e60]}), "not finite: '007'"),
        (lambda p: npy(p / "x.npy", ROWS, ["a", "b", "b", "007"]), "'b' occurs twice"),
        (lambda p: npy(p / "x.npy", ROWS, ["a", "b"]), "4 rows, x.txt has 2 ids"),
        (lambda p: parquet(p / "x.parquet", ROWS, vector=["1 2"] * 4), "column 'vector' (String)"),
        (
            lambda p: parquet(p / "x.parquet", ROWS, vector=[[1.0]] * 4, more=[1] * 4),
            "no part of a vector",
        ),
        (lambda p: parquet(p / "x.parquet", ROWS, vector=[[]] * 4), "no part of a vector"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, write, said):
    with pytest.raises(DataError) as refused:
        read_vectors(write(tmp_path), CATALOG)
    assert said in refused.value.what and refused.value.remedy and refused.value.exit_code == 4


def test_files_that_are_not_what_they_are_called_are_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing")
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "y.txt").write_text("a\n")
    np.save(tmp_path / "z.npy", np.array([{}], dtype=object))
    (tmp_path / "z.txt").write_text("a\n")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    (tmp_path / "flat.txt").write_text("a\nb\nc\n")
    np.save(tmp_path / "alone.npy", np.zeros((1, 1)))
    pl.DataFrame({"item": ["a"], "vector": [[1.0]]}).write_parquet(tmp_path / "item.parquet")
    for name in ("x.parquet", "y.npy", "z.npy", "flat.npy", "alone.npy", "item.parquet"):
        with pytest.raises(DataError) as refused:
            read_vectors(tmp_path / name, CATALOG)
        assert name in refused.value.what and refused.value.remedy


def test_what_is_kept_is_about_its_mean_and_of_length_one(tmp_path):
    keep_vectors(None, CATALOG, tmp_path)
    assert kept_vectors(tmp_path) is None and not list(tmp_path.iterdir())
    keep_vectors(str(parquet(tmp_path / "v.parquet", ROWS)), CATALOG, tmp_path)
    kept = kept_vectors(tmp_path)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1)
    raw = np.load(tmp_path / FILE)
    about = raw - raw.mean(0)
    np.testing.assert_allclose(kept * np.linalg.norm(about, axis=1, keepdims=True), about, atol=1e-6)


def test_a_run_learns_from_them_and_needs_the_file_no_more(cli, tmp_path):
    rows = np.random.default_rng(0).normal(size=(120, 8)).tolist()
    names = [f"m{n:04d}" for n in range(120)]
    path = parquet(tmp_path / "v.parquet", dict(zip(names, rows, strict=True)))
    chosen = ("strategy=encoder-only", "fusion.enabled=false", "lists.enabled=false")
    chosen += (f"item_features.vectors={path}", "item_features.words=0")
    run = tmp_path / "run"
    said = cli("run", "-q", "-c", TINY, "-o", run, *chosen, "encoder.prior=none", expect=2)
    assert "encoder.prior" in said and not run.exists()
    cli("run", "-q", "-c", TINY, "-o", run, *chosen, "encoder.prior=titles")
    (stage,) = run.glob("stages/*-prior/stage.json")
    explained = json.loads(stage.read_text())["result"]["explained_out_of_fold"]
    assert explained is not None, "there is no other feature"
    path.unlink()
    catalog = stored_data(RunFolder(run)).catalog
    hits = json.loads(cli("recommend", run, "--search", catalog.titles[7], "-k", 12, "--json"))
    assert not hits[0]["near"] and hits[0]["title"] == catalog.titles[7]
    near = [hit["item_id"] for hit in hits if hit["near"]]
    about = np.array(rows)[[int(i[1:]) for i in catalog.item_ids]]
    about -= about.mean(0)
    about /= np.linalg.norm(about, axis=1, keepdims=True)
    first = [catalog.item_ids.index(hit["item_id"]) for hit in hits if not hit["near"]]
    worth = about @ about[first].mean(0)
    worth[first] = 0
    assert near == [catalog.item_ids[n] for n in np.argsort(-worth)[: len(near)]] and near
    assert "near in meaning" in cli("recommend", run, "--search", catalog.titles[7], "-k", 12)
    kept = (run / "data" / FILE).read_bytes()
    user = pl.read_parquet(run / "data" / "interactions.parquet")["user_id"][0]
    cli("forget", run, "--user", user)
    assert (run / "data" / FILE).read_bytes() == kept, "items are not forgotten with a user"
    assert '"m0' in cli("recommend", run, "--liked", "m0001", "-k", "2", "--json")
