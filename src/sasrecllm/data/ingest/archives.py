"""Official archives by name: where their publisher keeps them, and how their files are written.

Nothing is redistributed: an archive comes from its publisher's address, or from the user's disk.
Its licence is the publisher's; GroupLens allows research use, asks for a citation and forbids
commercial use without permission.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sasrecllm.data.ingest import download
from sasrecllm.data.interactions import FILM_WORDS, LINE, Tables
from sasrecllm.errors import DataError
from sasrecllm.machine.cache import cache_folder

MEMBER_BYTES = 1 << 30
PIECE_BYTES = 1 << 27
BOOK_WORDS = {"item": "book", "items": "books", "consumed": "read"}


@dataclass(frozen=True, slots=True)
class Files:
    """The files of an archive, in a folder, in a zip, or downloaded one by one."""

    name: str
    place: Path

    def text(self, file: str, encoding: str) -> str:
        """The decoded text of ``file``; a member of a zip is read in memory, never unpacked."""
        try:
            if self.place.is_dir():
                return self.path(file).read_bytes().decode(encoding)
            with zipfile.ZipFile(self.place) as packed:
                return self._member(packed, file).decode(encoding)
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"{self.place}: {error}", "fetch the archive again") from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.place}, {file}: {error}", "use the publisher's original archive"
            ) from None

    def path(self, file: str) -> Path:
        """Where ``file`` lies in the folder, directly or in a folder of the archive's name."""
        for candidate in (self.place / file, self.place / self.name / file):
            if candidate.is_file():
                return candidate
        raise DataError(
            f"{self.place}: no file {file} for source {self.name}",
            f"set data.path to the folder or the archive that holds {file}",
        )

    def _member(self, packed: zipfile.ZipFile, file: str) -> bytes:
        for info in packed.infolist():
            if info.filename in (file, f"{self.name}/{file}"):
                if info.file_size > MEMBER_BYTES:
                    raise DataError(f"{self.place}: {file} is too large", "fetch the archive again")
                return packed.read(info)
        raise DataError(f"{self.place}: no {file} inside", f"set data.path to the {self.name} archive")


@dataclass(frozen=True, slots=True)
class Archive:
    """A named archive: addresses of its files with their publisher's MD5 files, and its reader."""

    urls: tuple[tuple[str, str | None], ...]
    reader: Callable[[Files], Tables]


def read(
    name: str, *, path: Path | None, cache: Path | None, report: download.Report | None = None
) -> Tables:
    """The tables of the archive ``name``, from ``path`` (folder or zip) or from its publisher.

    Raises:
        DataError: a file is missing or damaged, or there is no network.
    """
    archive = ARCHIVES[name]
    if path is None:
        folder = (cache or cache_folder()) / name
        got = [download.fetch(u, folder / u.rsplit("/", 1)[1], md5, report) for u, md5 in archive.urls]
        path = got[0] if len(got) == 1 else folder
    elif not path.exists():
        listed = ", ".join(u for u, _ in archive.urls)
        raise DataError(f"{path}: no such file or folder", f"fetch {listed} and set data.path to it")
    download.check_beside(path)
    return archive.reader(Files(name, path))


def _fields(text: str, separator: str, names: list[str], file: str) -> pl.DataFrame:
    """Rows of a headless text file; only a line feed ends a line (latin-1 has other such signs)."""
    lines = pl.Series("text", text.split("\n")).str.strip_chars_end("\r")
    frame = lines.to_frame().with_columns((pl.int_range(pl.len(), dtype=pl.Int64) + 1).alias(LINE))
    frame = frame.filter(pl.col("text") != "")
    parts = pl.col("text").str.split(separator)
    short = frame.filter(parts.list.len() < len(names))
    if not short.is_empty():
        raise DataError(
            f"{file}, line {short[LINE][0]}: {short['text'][0]!r:.80}; expected {len(names)} fields"
            f" between {separator!r}",
            "use the publisher's original archive",
        )
    picked = [parts.list.get(n).alias(name) for n, name in enumerate(names)]
    return frame.select(*picked, LINE)


def _film_tables(ratings: pl.DataFrame, items: pl.DataFrame, name: str, split: str = "") -> Tables:
    """MovieLens tables: time orders the rows, the line in the file breaks ties."""
    return Tables(
        interactions=ratings.with_columns(pl.col(LINE).alias("order")),
        items=items,
        name=name,
        words=dict(FILM_WORDS),
        order="time",
        split=split,
        files=(f"{name} ratings", f"{name} movies"),
    )


RATING_FIELDS = ["user_id", "item_id", "rating", "timestamp"]


def _ml_1m(files: Files) -> Tables:
    ratings = _fields(files.text("ratings.dat", "latin-1"), "::", RATING_FIELDS, "ratings.dat")
    movies = files.text("movies.dat", "latin-1")
    items = _fields(movies, "::", ["item_id", "title", "genres"], "movies.dat").drop(LINE)
    return _film_tables(ratings, items, "ml-1m", split="collm")


def _ml_100k(files: Files) -> Tables:
    ratings = _fields(files.text("u.data", "latin-1"), "\t", RATING_FIELDS, "u.data")
    movies = files.text("u.item", "latin-1")
    items = _fields(movies, "|", ["item_id", "title", "release_date"], "u.item").drop(LINE)
    return _film_tables(ratings, items, "ml-100k")


def _ml_latest_small(files: Files) -> Tables:
    def table(file: str) -> pl.DataFrame:
        return pl.read_csv(files.text(file, "utf-8").encode(), infer_schema=False)

    try:
        ratings, movies = table("ratings.csv"), table("movies.csv")
        ratings = ratings.select(
            pl.col("userId", "movieId", "rating", "timestamp"),
            (pl.int_range(pl.len(), dtype=pl.Int64) + 2).alias(LINE),
        ).rename({"userId": "user_id", "movieId": "item_id"})
        items = movies.select(pl.col("movieId").alias("item_id"), "title", "genres")
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{files.place}: {error}", "use the publisher's original archive") from None
    return _film_tables(ratings, items, "ml-latest-small")


def _amazon_books(files: Files) -> Tables:
    """Ratings are lines ``item,user,rating,time`` without header; titles are JSON Lines in gzip.

    The whole category has some 51 million ratings; preparing them takes about 300 bytes a row.
    """
    if not files.place.is_dir():
        raise DataError(
            f"{files.place}: source amazon-books is a folder of two files",
            "set data.path to the folder with Books.csv and meta_Books.json.gz",
        )
    names = ["item_id", "user_id", "rating", "timestamp"]
    ratings_file, meta = files.path("Books.csv"), files.path("meta_Books.json.gz")
    try:
        ratings = pl.read_csv(
            ratings_file, has_header=False, new_columns=names, infer_schema=False, quote_char=None
        ).with_row_index(LINE, offset=1)
        items = _titles(meta, ratings.select("item_id").unique())
    except (pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise DataError(f"{files.place}: {error}", "fetch the two files again") from None
    return Tables(
        interactions=ratings.with_columns(pl.col(LINE).cast(pl.Int64)),
        items=items,
        name="amazon-books",
        words=dict(BOOK_WORDS),
        files=(str(ratings_file), str(meta)),
    )


def _titles(meta: Path, wanted: pl.DataFrame) -> pl.DataFrame:
    """First title of every item in ``wanted``, read in pieces: unpacked, the file fills a memory."""
    schema = pl.Schema({"asin": pl.String, "title": pl.String})
    named = pl.col("title").str.strip_chars() != ""
    found = [pl.DataFrame(schema=schema)]
    with gzip.open(meta, "rb") as packed:
        while lines := packed.readlines(PIECE_BYTES):
            piece = pl.read_ndjson(b"".join(lines), schema=schema).filter(named)
            found.append(piece.join(wanted, left_on="asin", right_on="item_id", how="semi"))
    items = pl.concat(found).unique("asin", keep="first", maintain_order=True)
    return items.rename({"asin": "item_id"})


# GroupLens publishes an MD5 beside each archive, <address of the archive>.md5 (linked as "checksum"
# from grouplens.org/datasets/movielens); it is fetched with the archive, so that no copy of it can
# grow old here.
_LENS = "https://files.grouplens.org/datasets/movielens/"
# Amazon review data (2018), McAuley Lab, UCSD (Ni, Li, McAuley, EMNLP 2019): no checksum is
# published, so the SHA-256 of what arrived is written beside it.
_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/"


def _lens(name: str) -> tuple[tuple[str, str | None], ...]:
    return ((f"{_LENS}{name}.zip", f"{_LENS}{name}.zip.md5"),)


ARCHIVES: Mapping[str, Archive] = {
    "ml-1m": Archive(_lens("ml-1m"), _ml_1m),
    "ml-100k": Archive(_lens("ml-100k"), _ml_100k),
    "ml-latest-small": Archive(_lens("ml-latest-small"), _ml_latest_small),
    "amazon-books": Archive(
        (
            (f"{_UCSD}categoryFilesSmall/Books.csv", None),
            (f"{_UCSD}metaFiles2/meta_Books.json.gz", None),
        ),
        _amazon_books,
    ),
}
