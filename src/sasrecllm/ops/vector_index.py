"""Where an encoder's best items are looked up, one row each: all of them, or near what was asked.

Legend: B users, I items, D width, K wanted, Q users by whom an index is judged.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sasrecllm.errors import MissingExtraError
from sasrecllm.ops.topk import best_among, top_items

JUDGED = 100
"""Places of a list by which an index is judged."""
ENOUGH = 0.98
"""Share of the exact best items from which on an index looks no further."""
MOST_BARRED = 2_000
"""Items that a user may not be given, at most, for an index that looks past them."""
PER_CELL = 39
"""Items of a cell, at least: its middle is the mean of them."""

Judges = Callable[[], Tensor]


class Index(Protocol):
    """The best items by dot product.

    Args of a row of :data:`INDEXES`: the items' vectors [I, D], and what makes the vectors of users
    [Q, D] that it is judged by; only an index that may miss something asks for them.
    """

    @property
    def recall(self) -> float | None:
        """Share of the exact best items that it finds; None where it is exact."""
        ...

    def top(self, users_BD: Tensor, k: int, free_BI: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`~sasrecllm.ops.topk.top_items`; a list is never shorter than the exact one."""
        ...


class Exact:
    """Every item is looked at."""

    recall = None

    def __init__(self, items_ID: Tensor, _judges: Judges) -> None:
        self.items_ID = items_ID

    def top(self, users_BD: Tensor, k: int, free_BI: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Index`."""
        return top_items(users_BD, self.items_ID, k, free_BI)


class Faiss:
    """Items in cells of near ones, by the package faiss; the nearest cells are looked at.

    As many of them as find :data:`ENOUGH` of the exact best for the users it is judged by.  What is
    found is scored and ordered as the exact index does, and a user who may be given few items is
    answered by that one.  Nothing is kept on the disk: it is made of the vectors where they are loaded.
    """

    def __init__(self, items_ID: Tensor, judges: Judges) -> None:
        refuse_missing("faiss")
        import faiss

        self.items_ID = items_ID
        vectors = items_ID.detach().float().cpu()
        # Nearest by distance are the largest products once all vectors have one length: what an item's
        # lacks of the longest is one more number, which is 0 for users.
        lengths = vectors.square().sum(1)
        lacking = (lengths.max() - lengths).clamp(min=0).sqrt()
        whole = np.ascontiguousarray(torch.cat([vectors, lacking[:, None]], dim=1).numpy())
        count, width = whole.shape
        cells = max(1, min(math.isqrt(count), count // PER_CELL))
        self._index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells, faiss.METRIC_L2)
        made = self._index.cp
        made.seed, made.min_points_per_centroid, made.max_points_per_centroid = 1, 1, 2 * PER_CELL
        self._threads = faiss.omp_set_num_threads
        self._threads(torch.get_num_threads())
        self._index.train(whole)
        self._index.add(whole)
        self.recall: float | None = self._tuned(judges(), cells)

    def _tuned(self, asked_QD: Tensor, cells: int) -> float:
        """Look at twice as many cells until enough is found; what is found then."""
        if not len(asked_QD):
            self._index.nprobe = cells
            return 1.0
        exact = top_items(asked_QD, self.items_ID, JUDGED)[1].sort(1).values.cpu().numpy()
        self._index.nprobe = 1
        while True:
            values, items = self._near(asked_QD, exact.shape[1], 0)
            found = torch.where(values > -torch.inf, items, -1).cpu().numpy()
            hits = [np.isin(*rows).mean() for rows in zip(exact, found, strict=True)]
            recall = float(np.mean(hits))
            if recall >= ENOUGH or self._index.nprobe >= cells:
                return recall
            self._index.nprobe = min(cells, 2 * self._index.nprobe)

    def _near(
        self, users_BD: Tensor, k: int, barred: int, free_BI: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best of the nearest cells; −inf behind the last."""
        # Past what is barred, and past the last place: equal ones behind it may come first.
        reach = min(len(self.items_ID), 2 * k + barred)
        asked = F.pad(users_BD.float(), (0, 1)).cpu().numpy()
        self._threads(torch.get_num_threads())
        found = torch.from_numpy(self._index.search(np.ascontiguousarray(asked), reach)[1])
        candidates = found.to(users_BD.device).sort(1).values
        return best_among(users_BD, self.items_ID, candidates, k, free_BI)

    @torch.no_grad()
    def top(self, users_BD: Tensor, k: int, free_BI: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Index`."""
        k, count = min(k, len(self.items_ID)), len(self.items_ID)
        # Row by row: a sum of truth values would take longer than the search.
        free_B = torch.tensor([np.count_nonzero(row) for row in free_BI.cpu().numpy()])
        free_B = free_B.to(users_BD.device)
        values = users_BD.new_full((len(users_BD), k), -torch.inf)
        items = torch.zeros((len(users_BD), k), dtype=torch.long, device=users_BD.device)
        near = (count - free_B <= MOST_BARRED).nonzero()[:, 0]
        if len(near):
            barred = int((count - free_B[near]).max())
            free = free_BI if len(near) == len(free_BI) else free_BI[near]
            values[near], items[near] = self._near(users_BD[near], k, barred, free)
        short = ((values > -torch.inf).sum(1) < free_B.clamp(max=k)).nonzero()[:, 0]
        if len(short):
            values[short], items[short] = top_items(users_BD[short], self.items_ID, k, free_BI[short])
        return values, items


INDEXES: Mapping[str, Callable[[Tensor, Judges], Index]] = {"exact": Exact, "faiss": Faiss}
"""Name in the settings -> how it is made."""


def refuse_missing(name: str) -> None:
    """Refuse an index whose package is not installed.

    Raises:
        MissingExtraError: with the pip command.
    """
    if name == "faiss" and importlib.util.find_spec("faiss") is None:
        raise MissingExtraError("recommend.index is faiss, which needs the package faiss-cpu", "faiss")
