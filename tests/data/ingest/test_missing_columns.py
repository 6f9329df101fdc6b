"""Missing columns: both files are looked at, and the settings that are printed mend it."""

from pathlib import Path

import pytest

from sasrecllm.config import load_config
from sasrecllm.data.ingest.sources import load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.errors import DataError


def log(folder: Path, header: str, *rows: str, shelf: str = "item_id,title\na,A\n", **given):
    (folder / "log.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    (folder / "shelf.csv").write_text(shelf, encoding="utf-8")
    return load_tables("files", path=folder / "log.csv", items_path=folder / "shelf.csv", **given)


def refused(tables) -> DataError:
    with pytest.raises(DataError) as refusal:
        prepare(tables, split="leave-one-out")
    return refusal.value


def test_the_remedy_for_an_items_file_works(tmp_path: Path) -> None:
    header, shelf = "user_id,item_id", "article,film_name\na,A\n"
    refusal = refused(log(tmp_path, header, "u,a", shelf=shelf))
    settings = refusal.remedy.removeprefix("name them: ").split(" ")
    columns = load_config(None, [text.strip("'") for text in settings]).data.columns
    assert columns == {"items.item_id": "article", "items.title": "film_name"}
    tables = log(tmp_path, header, *["u,a"] * 3, columns=columns, shelf=shelf)
    assert len(prepare(tables, split="leave-one-out")) == 3


def test_all_that_both_files_lack_is_named_at_once_and_the_remedy_works(tmp_path: Path) -> None:
    """Three runs to learn three names are two too many; an id that both files call alike is told."""
    header, shelf = "cook,dish_no,note,seen", "dish_no,movie_titles,minutes\na,A,5\n"
    rows = ["u,a,x,1"] * 3
    refusal = refused(log(tmp_path, header, *rows, shelf=shelf))
    assert "shelf.csv has no column item_id and no column title; its columns: dish_no," in refusal.what
    assert "log.csv has no column user_id and no column item_id; its columns: cook," in refusal.what
    remedy = refusal.remedy.split("; or")[0].removeprefix("name them: ")
    assert remedy == (
        "'data.columns.item_id=dish_no' 'data.columns.items.title=movie_titles'"
        " 'data.columns.user_id=<name in your file>'"
    )
    settings = [text.strip("'") for text in remedy.replace("<name in your file>", "cook").split(" ")]
    columns = load_config(None, settings).data.columns
    tables = log(tmp_path, header, *rows, shelf=shelf, columns=columns, order="file")
    assert len(prepare(tables, split="leave-one-out")) == 3


def test_two_missing_columns_are_not_thought_to_be_one(tmp_path: Path) -> None:
    refusal = refused(log(tmp_path, "user_item_idx,day", "u,a"))
    assert refusal.remedy.count("=user_item_idx'") == 1


@pytest.mark.parametrize(("feedback", "column"), [("labels", "label"), ("ratings", "rating")])
def test_what_the_feedback_asks_for_is_named_with_the_rest_and_the_remedy_works(
    tmp_path: Path, feedback: str, column: str
) -> None:
    header, shelf = "cook,dish_no,verdict", "dish_no,movie_titles\na,A\nb,B\n"
    rows = [f"u{n % 5},{'ab'[n % 2]},{n % 2}" for n in range(40)]
    tables = log(tmp_path, header, *rows, shelf=shelf)
    with pytest.raises(DataError) as refusal:
        prepare(tables, feedback=feedback)
    assert f"and no column {column}, which data.feedback asks for; its columns:" in refusal.value.what
    remedy, some = refusal.value.remedy.split("; or")[0], "<name in your file>"
    assert remedy.startswith("name them: 'data.columns.item_id=dish_no'")
    assert f"'data.columns.{column}={some}'" in remedy and "data.feedback=auto" not in remedy
    settings = remedy.removeprefix("name them: ").replace(some, "cook", 1).replace(some, "verdict")
    columns = load_config(None, [text.strip("'") for text in settings.split(" ")]).data.columns
    given = log(tmp_path, header, *rows, shelf=shelf, columns=columns, order="file")
    assert len(prepare(given, feedback=feedback, threshold=1, split="leave-one-out")) == 40


def test_a_label_that_alone_is_missing_is_named_beside_the_files_columns(tmp_path: Path) -> None:
    tables = log(tmp_path, "user_id,item_id,clicks", "u,a,1", "u,a,0")
    with pytest.raises(DataError) as refusal:
        prepare(tables, feedback="labels")
    assert "its columns: clicks, user_id, item_id; did you mean 'clicks'?" in refusal.value.what
    assert refusal.value.remedy == "name it: 'data.columns.label=clicks', or set data.feedback=auto"
