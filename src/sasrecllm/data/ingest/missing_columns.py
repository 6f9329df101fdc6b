"""What to say where needed columns are missing: all that both files lack at once, with its settings."""

from __future__ import annotations

import re
from typing import NamedTuple

from sasrecllm.data.ingest.columns import ITEM_COLUMNS, SOME_NAME, nearest
from sasrecllm.data.interactions import LINE, Tables
from sasrecllm.errors import DataError

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


def refuse_missing(tables: Tables, *, items: bool = True, asked: str = "") -> None:
    """Refuse tables that lack a needed column; what both of them lack is named at once.

    Args:
        items: whether a table of items was given.
        asked: a column of the log that ``data.feedback`` asks for.

    Raises:
        DataError: with the columns that each file has, and every setting that is missing.
    """
    found = [_Lacking.of(tables, 0, asked=asked)]
    if items and tables.files[0] != tables.files[1]:
        found.insert(0, _Lacking.of(tables, 1, "items."))
    lacking = [table for table in found if table.columns]
    if not lacking:
        return
    shared = _shared(lacking)
    named = {ours: theirs for table in lacking for ours, theirs in table.settings(shared).items()}
    settings = " ".join(f"'data.columns.{ours}={theirs}'" for ours, theirs in named.items())
    if not all(columns.first_row for columns in tables.columns):  # a caller in Python
        settings = f"columns={named}"
    raise DataError(
        "; ".join(table.said for table in lacking),
        next((table.form for table in lacking if table.form), "")
        or f"name {'it' if len(named) == 1 else 'them'}: {settings}"
        + ", or set data.feedback=auto" * (set(named) == {asked})
        + next((table.header for table in lacking if table.header), ""),
    )


class _Lacking(NamedTuple):
    """A table without columns that it needs.

    Args:
        prefix: before a column's name in data.columns.
        text: whether the table is a text file, which may lack a header or have another separator.
        named: whether any column was found.
        shown: what the file calls its columns.
        free: those of them that mean nothing yet.
    """

    file: str
    columns: tuple[str, ...]
    prefix: str
    text: bool
    named: bool
    shown: tuple[str, ...]
    free: tuple[str, ...]

    @classmethod
    def of(cls, tables: Tables, at: int, prefix: str = "", asked: str = "") -> _Lacking:
        """The interactions (0) or the items (1)."""
        frame, columns = (tables.interactions, tables.items)[at], tables.columns[at]
        needed = (("user_id", "item_id", *filter(None, [asked])), ITEM_COLUMNS)[at]
        ours = [columns.name(c) for c in frame.columns if not c.startswith("__")]
        shown = tuple(dict.fromkeys([*columns.unused, *ours]))
        taken = columns.named.values()
        return cls(
            tables.files[at],
            tuple(c for c in needed if c not in frame.columns),
            prefix,
            LINE in frame.columns,
            bool(columns.named),
            shown,
            tuple(c for c in shown if c not in taken),
        )

    @property
    def close(self) -> str:
        """The free column that is most like the first missing one; may be empty."""
        return nearest(self.columns[0], self.free)

    @property
    def said(self) -> str:
        """What is missing, and what there is."""
        return (
            f"{self.file} has no column {' and no column '.join(self.columns)}"
            + ", which data.feedback asks for" * (self.columns[-1] in ("label", "rating"))
            + f";"
            f" its columns: {', '.join(self.shown) or 'none'}"
            + (f"; did you mean {self.close!r}?" if self.close else "")
        )

    def settings(self, shared: str) -> dict[str, str]:
        """What names the missing columns in data.columns; of a shared id one entry for both files."""
        found: dict[str, str] = {}
        for ours in self.columns:
            free = [name for name in self.free if name not in (*found.values(), shared)]
            found[ours] = nearest(ours, free) or SOME_NAME
        if "item_id" in found and shared:
            del found["item_id"]
            return {"item_id": shared} | {f"{self.prefix}{c}": name for c, name in found.items()}
        return {f"{self.prefix}{c}": name for c, name in found.items()}

    @property
    def form(self) -> str:
        """What to do about a text file that was read as one column; else empty."""
        if not self.text or len(self.shown) != 1:
            return ""
        if re.search("[,;\t|]", self.shown[0]):
            return "remove the quotation marks around whole lines: each makes one field of its line"
        return (
            "separate the fields of a line by comma, tab, semicolon or bar, and begin with a line of"
            " their names"
        )

    @property
    def header(self) -> str:
        """What to do about a text file whose first line may be a row; else empty."""
        numbers = any(NUMBER.fullmatch(name) for name in self.shown)
        if not self.text or not (numbers or not (self.named or self.close)):
            return ""
        names = "item_id, title, ..." if self.prefix else "user_id, item_id, ..."
        return f"; or, if the first line is a row already, write a line of names above it: {names}"


def _shared(lacking: list[_Lacking]) -> str:
    """The one column by whose name both files may know the item; empty if there are several or none."""
    if len(lacking) != 2 or any("item_id" not in table.columns for table in lacking):
        return ""
    both = [name for name in lacking[0].free if name in lacking[1].free]
    return both[0] if len(both) == 1 else ""
