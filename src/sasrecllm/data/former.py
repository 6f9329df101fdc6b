"""What the data of an update knows of the run that it goes on from.

Legend: N rows, I items, U users, all of the newer data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sasrecllm.types import BoolArray, IntArray, LabelArray

LEARNT, HELD, NEW = 0, 1, 2
"""A row that the run before learnt from, that it had and did not learn from, that it did not have."""
FILE = "former.npz"
"""In the prepared data."""


@dataclass(frozen=True)
class Former:
    """A run before this one, as the indices of this one see it.

    Args:
        rows: [N] what each row was to it: LEARNT, HELD or NEW.
        items: [I] index in its catalogue, UNKNOWN for an item that is new.
        users: [U] likewise.
        folds: [U] which fold encoder never saw each user; new users are dealt out.
        kept: [U] users whom the language model never saw.
        catalog: digest of its catalogue.
    """

    rows: LabelArray
    items: IntArray
    users: IntArray
    folds: IntArray
    kept: BoolArray
    catalog: str

    def of_rows(self, kept: BoolArray) -> Former:
        """The same of those rows alone that ``kept`` [N] has."""
        return replace(self, rows=self.rows[kept])

    def save(self, folder: Path) -> None:
        """Write it into the folder of prepared data."""
        np.savez(
            folder / FILE,
            rows=self.rows,
            items=self.items,
            users=self.users,
            folds=self.folds,
            kept=self.kept,
            catalog=np.array(self.catalog),
        )

    @staticmethod
    def load(folder: Path) -> Former | None:
        """What :meth:`save` wrote; None where nothing is.

        Raises:
            OSError, KeyError, ValueError: it is damaged.
        """
        if not (folder / FILE).is_file():
            return None
        with np.load(folder / FILE, allow_pickle=False) as found:
            arrays = {name: found[name] for name in ("rows", "items", "users", "folds", "kept")}
            return Former(**arrays, catalog=str(found["catalog"]))
