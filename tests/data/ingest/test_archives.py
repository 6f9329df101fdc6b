from __future__ import annotations

import gzip
import hashlib
import random
import zipfile
from pathlib import Path

import polars as pl
import pytest

from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest import archives, download
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError

RATINGS = "1::1193::5::978300760\r\n1::661::3::978302109\n2::1193::4::978298413\n"
MOVIES = "661::James and the Giant Peach (1996)::Animation\n1193::Caf\xe9 \x85 One::Drama\n"


def ml_1m(folder: Path, ratings: str = RATINGS, movies: str = MOVIES) -> Path:
    inner = folder / "ml-1m"
    inner.mkdir(parents=True)
    (inner / "ratings.dat").write_bytes(ratings.encode("latin-1"))
    (inner / "movies.dat").write_bytes(movies.encode("latin-1"))
    return folder


def zipped(folder: Path, **members: str) -> Path:
    path = folder / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as out:
        for name, text in members.items():
            out.writestr(name.replace("__", "/"), text.encode("latin-1"))
    return path


def test_a_folder_the_inner_folder_and_a_zip_read_the_same(tmp_path: Path) -> None:
    outer = ml_1m(tmp_path)
    packed = zipped(tmp_path, **{"ml-1m__ratings.dat": RATINGS, "ml-1m__movies.dat": MOVIES})
    for place in (outer, outer / "ml-1m", packed):
        tables = load_tables("ml-1m", path=place)
        assert tables.interactions["user_id"].to_list() == ["1", "1", "2"]
        assert tables.interactions["__line"].to_list() == [1, 2, 3]
        assert tables.items["title"].to_list()[1] == "Caf\xe9 \x85 One"
        assert tables.words["consumed"] == "watched" and tables.split == "collm"


def test_a_zip_is_never_unpacked_and_foreign_members_are_ignored(tmp_path: Path) -> None:
    members = {"..__..__evil": "x", "ml-1m__ratings.dat": RATINGS, "ml-1m__movies.dat": MOVIES}
    packed = zipped(tmp_path, **members)
    before = sorted(tmp_path.rglob("*"))
    load_tables("ml-1m", path=packed)
    assert sorted(tmp_path.rglob("*")) == before and not (tmp_path.parent / "evil").exists()


def test_what_is_no_archive_is_refused(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_tables("ml-1m", path=tmp_path / "gone.zip")
    with pytest.raises(DataError, match=r"no file ratings\.dat"):
        load_tables("ml-1m", path=tmp_path)
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="not a zip file"):
        load_tables("ml-1m", path=tmp_path / "x.zip")
    with pytest.raises(DataError, match=r"no ratings\.dat inside"):
        load_tables("ml-1m", path=zipped(tmp_path, other="x"))
    with pytest.raises(DataError, match=r"ratings\.dat, line 2: '1;2;3;4'"):
        load_tables("ml-1m", path=ml_1m(tmp_path / "a", "1::661::5::1\n1;2;3;4\n"))
    monkeypatch.setattr(archives, "MEMBER_BYTES", 10)
    members = {"ml-1m__ratings.dat": RATINGS, "ml-1m__movies.dat": MOVIES}
    with pytest.raises(DataError, match="too large"):
        load_tables("ml-1m", path=zipped(tmp_path, **members))


def test_a_local_archive_is_checked_where_its_md5_file_lies_beside_it(tmp_path: Path) -> None:
    packed = zipped(tmp_path, **{"ml-1m__ratings.dat": RATINGS, "ml-1m__movies.dat": MOVIES})
    right = hashlib.md5(packed.read_bytes()).hexdigest()
    (tmp_path / "ml-1m.zip.md5").write_text(f"MD5 (ml-1m.zip) = {right}\n")
    load_tables("ml-1m", path=packed)
    (tmp_path / "ml-1m.zip.md5").write_text(f"{'0' * 32}  ml-1m.zip\n")
    with pytest.raises(DataError, match=f"MD5 is {right}"):
        load_tables("ml-1m", path=packed)


def test_ml_100k_and_ml_latest_small_files(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_bytes(b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    (tmp_path / "u.item").write_bytes(b"242|Kolya (1996)|24-Jan-1997||x|0\n302|L\xe9on|1997||y|1\n")
    tables = load_tables("ml-100k", path=tmp_path)
    assert tables.items.rows()[1] == ("302", "L\xe9on", "1997")
    assert tables.interactions.select("user_id", "item_id", "rating").rows()[0] == (
        "196",
        "242",
        "3",
    )
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n31,"Minds, Dangerous",Drama\n')
    tables = load_tables("ml-latest-small", path=tmp_path)
    assert tables.items.rows() == [("31", "Minds, Dangerous", "Drama")]
    assert tables.interactions["__line"].to_list() == [2]


@pytest.mark.parametrize("piece", [1, 1 << 27])
def test_amazon_books_takes_titles_from_the_metadata(piece: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "PIECE_BYTES", piece)
    (tmp_path / "Books.csv").write_text("0001,A1,5.0,100\n0002,A1,1.0,200\n0001,A2,4.0,300\n")
    meta = (
        '{"asin":"0001","title":"One","also_buy":["x"],"price":""}\n{"title":"Two","asin":"0002"}\n'
        '{"asin":"0001","title":"One again"}\n{"asin":"9","title":"Nobody read it"}\n'
    )
    (tmp_path / "meta_Books.json.gz").write_bytes(gzip.compress(meta.encode()))
    tables = load_tables("amazon-books", path=tmp_path)
    assert tables.items.rows() == [("0001", "One"), ("0002", "Two")]
    dataset = prepare(tables, split_args={"valid": 0.3, "test": 0.3})
    assert dataset.labels.tolist() == [1, 0, 1] and dataset.words["consumed"] == "read"
    with pytest.raises(DataError, match="is a folder of two files"):
        load_tables("amazon-books", path=tmp_path / "Books.csv")


def test_without_a_network_the_remedy_names_address_and_place(tmp_path: Path, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(download.urllib.request, "urlopen", unreachable)
    for name in archives.ARCHIVES:
        with pytest.raises(DataError) as refusal:
            load_tables(name, cache=tmp_path)
        assert refusal.value.exit_code == 4 and "https://" in refusal.value.what
        assert str(tmp_path / name) in refusal.value.remedy and "data.path" in refusal.value.remedy
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


class Web:
    """A publisher on paper: addresses and what they answer."""

    def __init__(self, pages: dict[str, bytes], cut: int = 0) -> None:
        self.pages, self.cut, self.asked = pages, cut, 0

    def __call__(self, asked, timeout):
        import io
        from email.message import Message

        assert timeout <= 10
        self.asked += 1
        body = self.pages[asked.full_url]
        answer = io.BytesIO(body[: len(body) - self.cut] if asked.full_url.endswith("zip") else body)
        answer.headers = Message()  # type: ignore[attr-defined]
        answer.headers["Content-Length"] = str(len(body))  # type: ignore[attr-defined]
        return answer


URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"


def test_a_download_is_checked_against_its_publisher_and_kept(tmp_path: Path, monkeypatch) -> None:
    members = {"ml-1m__ratings.dat": RATINGS, "ml-1m__movies.dat": MOVIES}
    body = zipped(tmp_path, **members).read_bytes()
    md5 = hashlib.md5(body).hexdigest()
    web = Web({URL: body, URL + ".md5": f"MD5 (ml-1m.zip) = {md5}\n".encode()})
    monkeypatch.setattr(download.urllib.request, "urlopen", web)
    assert load_tables("ml-1m", cache=tmp_path / "c").interactions.height == 3
    assert load_tables("ml-1m", cache=tmp_path / "c").interactions.height == 3
    assert web.asked == 2  # the second time the copy on disk serves
    told: list[tuple[str, int, int]] = []
    load_tables("ml-1m", cache=tmp_path / "d", report=lambda *said: told.append(said))
    assert told == [("download ml-1m.zip, MB", 0, 0)]  # a small file: one piece, below a megabyte
    kept = tmp_path / "c" / "ml-1m"
    digest = hashlib.sha256(body).hexdigest()
    assert (kept / "ml-1m.zip.sha256").read_text() == f"{digest}  ml-1m.zip\n"


@pytest.mark.parametrize(
    ("md5", "cut", "words"),
    [
        (b"0" * 32, 0, "its publisher says 0000"),
        (b"<html>", 0, "no MD5"),
        (None, 7, "bytes arrived"),
    ],
)
def test_a_wrong_or_broken_download_leaves_nothing_behind(
    md5, cut, words, tmp_path: Path, monkeypatch
) -> None:
    body = b"x" * 100
    right = hashlib.md5(body).hexdigest().encode()
    monkeypatch.setattr(
        download.urllib.request, "urlopen", Web({URL: body, URL + ".md5": md5 or right}, cut)
    )
    with pytest.raises(DataError, match=words):
        load_tables("ml-1m", cache=tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_only_https_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only https"):
        download.fetch("file:///etc/hostname", tmp_path / "x", None)


@pytest.fixture(scope="module")
def rebuilt(data_root: Path, tmp_path_factory) -> Dataset:
    """CoLLM's rows written back as the archive's files, among rows outside of its months."""
    source = data_root / "ml-1m-collm"
    items = pl.read_parquet(source / "items.parquet")
    rows = pl.read_parquet(source / "interactions.parquet").join(
        items.select("item_id", "ml1m_movie_id"), on="item_id"
    ).sort("order")  # fmt: skip
    rng = random.Random(0)
    lines = [
        f"{u}::{i}::{rng.choice([4, 5] if y else [1, 2, 3])}::{t}"
        for u, i, y, t in rows.select("user_id", "ml1m_movie_id", "label", "timestamp").iter_rows()
    ]
    decoys = [f"{5000 + n}::1::4::{991_353_599 - n}" for n in range(50)]  # to 2001-05-31T23:59:59
    decoys += [f"{n % 800 + 1}::1::5::{1_044_057_600 + n}" for n in range(50)]  # from 2003-02-01
    text = "\n".join([*decoys[:30], *lines, *decoys[30:]]) + "\n"
    films = items.select("ml1m_movie_id", "title", "genres").iter_rows()
    movies = "".join(f"{i}::{t}::{g}\n" for i, t, g in films)
    movies += "" if 1 in items["ml1m_movie_id"].to_list() else "1::Toy Story (1995)::Animation\n"
    place = ml_1m(tmp_path_factory.mktemp("archive"), text, movies)
    return prepare(load_tables("ml-1m", path=place))


def test_collms_rows_come_out_of_the_official_archive(rebuilt: Dataset, data_root: Path) -> None:
    assert [len(rebuilt.rows(s)) for s in ("train", "valid", "test")] == [33_891, 10_401, 7_331]
    assert "split collm leaves out 100 rows" in rebuilt.notes
    copy = prepare(load_tables("two-table", path=data_root / "ml-1m-collm"))
    for split in ("train", "valid", "test"):
        assert shown(rebuilt, split) == shown(copy, split)


def shown(dataset: Dataset, split: str) -> list[tuple]:
    """User, title, label and time of every row of a split, and the titles of its last three."""
    titles = dataset.catalog.titles
    rows = dataset.rows(split)
    past = dataset.histories(rows, last=3)
    ends = past.offsets
    return sorted(
        (dataset.catalog.user_id(int(dataset.users[r])), titles[dataset.items[r]],
         int(dataset.labels[r]), int(dataset.times[r]),
         tuple(titles[i] for i in past.items[ends[n] : ends[n + 1]]))
        for n, r in enumerate(rows)
    )  # fmt: skip
