"""What every collaborative encoder is: a causal pass over a row of items, and one scoring formula.

An encoder reads right-padded rows (pad -1).  ``states`` gives the user vector after each prefix of
a row, so that one pass scores every training question of a window.  State ``j`` depends on the
first ``j`` entries alone; hence right padding, which stands after every entry, never reaches a
state that anybody reads, and rows of any length may share a batch.

Items without a training row.  ``seen_items`` says which items training showed.  An unseen item
(also an index outside the catalogue, such as -1 or one added after training) has no vector of its
own: as a target it has the mean vector and the mean bias of the seen items, and in a history it is
read as that same mean vector, with its feedback and its position.  The mean is taken at every call,
so it is never stale.  Users outside ``0 <= index < n_users`` have the user bias 0.

Shape legend: B histories, W windows, Q questions, L positions, C candidates, D width, I items.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Required, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sasrecllm.encoders import losses
from sasrecllm.errors import ConfigError
from sasrecllm.ops.catalogue_softmax import catalogue_softmax
from sasrecllm.ops.draws import Rows, of_rows
from sasrecllm.ops.gathered_dot import chosen_products
from sasrecllm.types import BoolArray, Histories, IntArray, each_once

PAD = -1
"""What fills a row on the right; inside a history an item outside the catalogue is never PAD."""
ROWS_AT_ONCE = 1024
"""Histories per causal pass of ``encode``: bounds the memory of a whole test split."""
LONG_LIST = 0.1
"""Share of the catalogue from which a candidate list is answered by one product with all of it."""


class WindowQueries(NamedTuple):
    """Where many questions are asked in W windows that one causal pass reads.

    Args:
        users_W, items_WL, feedback_WL: as in :meth:`SequentialEncoder.states`.
        window_Q: the window that question q is asked in.
        state_Q: how many entries of that window stand before the question.
        windows, questions: which of a batch that several processes share these are; None for all.
    """

    users_W: IntArray | Tensor
    items_WL: IntArray | Tensor
    feedback_WL: IntArray | Tensor | None
    window_Q: IntArray | Tensor
    state_Q: IntArray | Tensor
    windows: Rows | None = None
    questions: Rows | None = None


class EncoderArguments(TypedDict, total=False):
    """What every encoder hands on to :class:`SequentialEncoder`; only ``n_items`` has no default."""

    n_items: Required[int]
    n_users: int
    width: int
    length: int
    likes_only: bool
    item_bias: bool
    user_bias: bool
    dropout: float
    seen_items: BoolArray | None


class SequentialEncoder(nn.Module, ABC):
    """A history to a vector of width D, a table of item vectors, and logits from both.

    Args:
        n_items: size of the catalogue (index range of the item table).
        n_users: size of the user table; larger indices and -1 are unknown users.
        width: D.
        length: newest history entries that are read.
        likes_only: read the liked entries alone (the paper's choice), or all with their feedback.
        item_bias: add a learned bias of the item to the logit.
        user_bias: add a learned bias of the user to the logit.
        dropout: probability, in [0, 1).
        seen_items: [n_items] whether training shows the item; all of them unless given.

    Raises:
        ConfigError: a value is out of its range.
    """

    kind: ClassVar[str] = ""
    label: ClassVar[str] = ""  # what tables call it; its kind where that is empty
    seen_items: Tensor
    touched_rows: bool = False
    """Whether the item table's gradient holds the rows of a batch alone (``ops.sparse_adamw``)."""

    def __init__(
        self,
        *,
        n_items: int,
        n_users: int = 0,
        width: int = 64,
        length: int = 25,
        likes_only: bool = True,
        item_bias: bool = True,
        user_bias: bool = False,
        dropout: float = 0.2,
        seen_items: BoolArray | None = None,
    ) -> None:
        super().__init__()
        at_least("n_items", n_items, 1)
        at_least("n_users", n_users, 0)
        at_least("width", width, 1)
        at_least("length", length, 1)
        if not 0 <= dropout < 1:
            raise ConfigError(f"encoder: dropout is {dropout}; allowed: 0 to below 1", "set it to 0.2")
        self.n_items, self.n_users, self.width, self.length = n_items, n_users, width, length
        self.likes_only, self.dropout = likes_only, dropout
        # Small, so that first logits stand near 0; encoders scale what they read up again.
        self.item_table = nn.Parameter(torch.randn(n_items, width) * 0.02)
        self.item_bias = nn.Parameter(torch.zeros(n_items)) if item_bias else None
        self.user_bias = nn.Parameter(torch.zeros(n_users)) if user_bias else None
        self.register_buffer("seen_items", torch.ones(n_items, dtype=torch.bool))
        if seen_items is not None:
            self.mark_seen(seen_items)

    @property
    def config(self) -> dict[str, Any]:
        """Kind and constructor arguments, plain JSON values: they rebuild and check an encoder."""
        return {
            "kind": self.kind or f"{type(self).__module__}:{type(self).__qualname__}",
            "n_items": self.n_items,
            "n_users": self.n_users,
            "width": self.width,
            "length": self.length,
            "likes_only": self.likes_only,
            "item_bias": self.item_bias is not None,
            "user_bias": self.user_bias is not None,
            "dropout": self.dropout,
        }

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.item_table.device

    def mark_seen(self, seen_items: BoolArray) -> None:
        """Say which items training shows, [n_items]; kept in the state dict.

        Raises:
            ConfigError: the mask is not as long as the catalogue.
        """
        if np.shape(seen_items) != (self.n_items,):
            raise ConfigError(
                f"encoder: seen_items has shape {np.shape(seen_items)}; allowed: ({self.n_items},)",
                "give one truth value per item of the catalogue",
            )
        self.seen_items.copy_(torch.as_tensor(np.asarray(seen_items, dtype=np.bool_)))

    @abstractmethod
    def states(self, users_B: Tensor, items_BL: Tensor, feedback_BL: Tensor | None) -> Tensor:
        """User vectors after every prefix, shape [B, L + 1, D]; state 0 has read nothing.

        Args:
            users_B: user indices; -1 for an unknown user.
            items_BL: item indices, oldest first, padded on the right with -1;
                1 <= L <= ``length``.
            feedback_BL: 1 liked, 0 not; only read where ``likes_only`` is off.
        """

    def encode(self, histories: Histories) -> Tensor:
        """User vectors after the last ``length`` entries that this encoder reads, shape [B, D]."""
        read = (histories.liked() if self.likes_only else histories).last(self.length)
        starts = range(0, len(read), ROWS_AT_ONCE)
        rows = np.arange(len(read), dtype=np.int64)
        parts = [self._last_states(read.take(rows[s : s + ROWS_AT_ONCE])) for s in starts]
        return torch.cat(parts) if parts else self.item_table.new_zeros(0, self.width)

    def _last_states(self, read: Histories) -> Tensor:
        outside = (read.items < 0) | (read.items >= self.n_items)
        items = np.where(outside, self.n_items, read.items)  # not PAD: it was an event all the same
        items_BL, feedback_BL = read.padded(items, PAD), read.padded(read.labels.astype(np.int64), 0)
        columns: list[Any] = [read.users, items_BL, feedback_BL, np.diff(read.offsets)]
        owners = None
        if not self.training:  # a like and the items drawn beside it have one history
            first, owners = each_once(*columns)
            columns = [column[first] for column in columns]
        *given, lengths = map(self._on_device, columns)
        last = self.states(*given)[torch.arange(len(lengths), device=self.device), lengths]
        return last if owners is None else last[self._on_device(owners)]

    def item_vectors(self, items: Tensor) -> Tensor:
        """Vectors of ``items`` [...], shape [..., D]; an unseen item has the mean of the seen."""
        return self._rows_or_mean(self.item_table, items, sparse=self.touched_rows)

    def entry_vectors(
        self, items_BL: Tensor, feedback_BL: Tensor | None, feedback_2D: Tensor | None
    ) -> Tensor:
        """What a sequential encoder reads of each entry, [B, L, D]: zero at a pad.

        Scaled by the root of the width, so that the small item table speaks as loudly as the rest.

        Args:
            feedback_2D: vectors of disliked and liked, added to the item's; None to ignore them.
        """
        # A pad reads some seen item, and is zeroed below: a mean of all would be made for it else.
        some = self.seen_items.to(torch.uint8).argmax()
        vectors_BLD = self.item_vectors(torch.where(items_BL == PAD, some, items_BL))
        if feedback_2D is not None:
            given_BL = torch.ones_like(items_BL) if feedback_BL is None else feedback_BL
            vectors_BLD = vectors_BLD + F.embedding(given_BL, feedback_2D)
        return vectors_BLD * ((items_BL != PAD) * math.sqrt(self.width))[..., None]

    def score(self, user_BD: Tensor, users_B: Tensor, items_BC: Tensor | None) -> Tensor:
        """The formula: user vector times item vector, plus the biases; shape [B, C].

        Args:
            items_BC: candidates of each row; None for the whole catalogue, C = n_items.
        """
        every = torch.arange(self.n_items, device=self.device)
        items = every if items_BC is None else items_BC
        if items_BC is None:
            logits = user_BD @ self.item_vectors(every).T
        elif bool(self._has_vector(items_BC).all()):
            logits = chosen_products(user_BD, self.item_table, items_BC, sparse=self.touched_rows)
        else:
            logits = torch.einsum("bd,bcd->bc", user_BD, self.item_vectors(items_BC))
        if self.item_bias is not None:
            logits = logits + self._rows_or_mean(self.item_bias[:, None], items)[..., 0]
        if self.user_bias is not None:
            logits = logits + self._bias_of(self.user_bias, users_B)[:, None]
        return logits

    def logits(self, histories: Histories, candidates: IntArray | None = None) -> Tensor:
        """Logits of ``candidates`` [B, C], shape [B, C]; None asks for the whole catalogue."""
        user_BD, users_B = self.encode(histories), self._on_device(histories.users)
        if candidates is None:
            return self.score(user_BD, users_B, None)
        items_BC = self._on_device(candidates)
        if items_BC.shape[1] <= max(16, LONG_LIST * self.n_items):
            return self.score(user_BD, users_B, items_BC)
        return self._from_whole(user_BD, users_B, items_BC)

    def _from_whole(self, user_BD: Tensor, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Long lists: one product with the whole catalogue costs less than gathering C vectors."""
        nobody = items_BC.new_full((len(items_BC), 1), PAD)
        whole_BI = self.score(user_BD, users_B, None)
        unknown_B1 = self.score(user_BD, users_B, nobody)
        inside = (items_BC >= 0) & (items_BC < self.n_items)
        found_BC = whole_BI.gather(1, torch.where(inside, items_BC, 0))
        return torch.where(inside, found_BC, unknown_B1)

    def pair(self, histories: Histories, targets: IntArray) -> tuple[Tensor, Tensor, Tensor]:
        """User vectors [B, D], vectors of ``targets`` [B, D] and their logits [B]."""
        user_BD, items_B = self.encode(histories), self._on_device(targets)
        users_B = self._on_device(histories.users)
        logits_B = self.score(user_BD, users_B, items_B[:, None])[:, 0]
        return user_BD, self.item_vectors(items_B), logits_B

    def window_logits(self, queries: WindowQueries, target: IntArray | Tensor | None) -> Tensor:
        """Logits [Q], [Q, C] or [Q, n_items] of many questions, from one causal pass over W windows.

        Args:
            target: one item each [Q], candidates [Q, C], or None for the whole catalogue.
        """
        user_QD, users_Q = self._at(queries)
        items = None if target is None else self._on_device(target)
        with of_rows(queries.questions):
            if items is None:
                return self.score(user_QD, users_Q, None)
            logits = self.score(user_QD, users_Q, items.reshape(len(items), -1))
        return logits.reshape(items.shape)

    def window_softmax(self, queries: WindowQueries, target_Q: IntArray | Tensor) -> Tensor:
        """Summed cross-entropy of each target among the items that training shows; as window_logits.

        Where the logit is a product, no table of all logits is made.  A user's bias cancels.
        """
        user_QD, users_Q = self._at(queries)
        target = self._on_device(target_Q)
        vectors = self.item_factors()
        if vectors is None:
            with of_rows(queries.questions):
                logits_QI = self.score(user_QD, users_Q, None).float()
            return losses.full_softmax(logits_QI, target, self.seen_items).sum()
        place_I = torch.cumsum(self.seen_items, 0) - 1
        return catalogue_softmax(self.user_factors(user_QD).float(), vectors, place_I[target])

    def item_factors(self) -> Tensor | None:
        """Vectors [S, F] of the items that training shows; times :meth:`user_factors` they give the
        logits less the user's bias.  None where a class scores by a formula of its own."""
        if type(self).score is not SequentialEncoder.score:
            return None
        table, bias = self.item_table[self.seen_items], self.item_bias
        return table if bias is None else torch.cat([table, bias[self.seen_items, None]], dim=1)

    def user_factors(self, user_BD: Tensor) -> Tensor:
        """User vectors as :meth:`item_factors` needs them, [B, F]: a one behind for the item's bias."""
        return user_BD if self.item_bias is None else F.pad(user_BD, (0, 1), value=1.0)

    def _at(self, queries: WindowQueries) -> tuple[Tensor, Tensor]:
        """User vectors [Q, D] at the questions, and the users' indices [Q]."""
        users_W, items_WL, feedback_WL, window_Q, state_Q, windows, _ = queries
        users = self._on_device(users_W)
        feedback = None if feedback_WL is None else self._on_device(feedback_WL)
        with of_rows(windows):
            states = self.states(users, self._on_device(items_WL), feedback)
        window = self._on_device(window_Q)
        return states[window, self._on_device(state_Q)], users[window]

    def _on_device(self, values: Any) -> Tensor:
        return torch.as_tensor(values, device=self.device).long()

    def _rows_or_mean(self, table_ID: Tensor, items: Tensor, *, sparse: bool = False) -> Tensor:
        """Rows of ``table_ID`` at ``items``, or the mean of its seen rows where there is none."""
        own = self._has_vector(items)
        if bool(own.all()):
            return F.embedding(items, table_ID, sparse=sparse)
        found = F.embedding(torch.where(own, items, 0), table_ID)
        seen = self.seen_items.to(table_ID.dtype)
        mean = (seen @ table_ID) / seen.sum().clamp(min=1)
        return torch.where(own[..., None], found, mean)

    def _has_vector(self, items: Tensor) -> Tensor:
        """Whether each item has a vector of its own."""
        inside = (items >= 0) & (items < self.n_items)
        return inside & self.seen_items[torch.where(inside, items, 0)]

    def _bias_of(self, bias_U: Tensor, users_B: Tensor) -> Tensor:
        """Each user's bias, 0 for an unknown user."""
        if self.n_users == 0:
            return bias_U.new_zeros(len(users_B))
        inside = (users_B >= 0) & (users_B < self.n_users)
        return torch.where(inside, bias_U[torch.where(inside, users_B, 0)], 0.0)


def at_least(name: str, got: int, smallest: int) -> None:
    """Refuse a size below ``smallest`` with a :class:`ConfigError`."""
    if got < smallest:
        allowed = f"{smallest} or more"
        raise ConfigError(f"encoder: {name} is {got}; allowed: {allowed}", f"set {name}: {allowed}")
