"""Prompts as token ids with slot positions known by construction, assembled for a batch at once.

A prompt is a row of pieces (literal text, titles, joiners, slot places), each a range of one pool of
token ids.  The widths of the pieces say where each stands; one gather then writes them all.  Nothing
is ever searched for in the ids, and an over-long prompt loses its oldest history, nothing else.

Legend: B prompts, T tokens, N history entries of all prompts, S soft-token places, P pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sasrecllm.errors import ConfigError, DataError
from sasrecllm.prompts.answers import answered_cue
from sasrecllm.prompts.template import LISTS, SHOWS, SOFT_SLOTS, TEXT, Segment, Template
from sasrecllm.prompts.titles import TitleTokens, Tokenizer, begins_with_bos, token_ids
from sasrecllm.types import BoolArray, Histories, IntArray, LabelArray


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """B prompts, padded on the right, and the places of their soft tokens.

    The flat slot arrays [S] say for each place its row, its column, its slot (0 user, 1 item) and
    which of the slot's k soft tokens it takes.
    """

    ids_BT: IntArray
    lengths_B: IntArray
    slot_rows: IntArray
    slot_columns: IntArray
    slot_kinds: IntArray
    slot_index: IntArray
    prefix_lengths_B: IntArray  # tokens before the target, the same for every target of a history

    def __len__(self) -> int:
        return len(self.lengths_B)

    @property
    def text_lengths_B(self) -> IntArray:
        """Tokens before the target and before any slot: text that the history alone decides."""
        first_B = self.prefix_lengths_B.copy()
        np.minimum.at(first_B, self.slot_rows, self.slot_columns)
        return first_B


@dataclass(slots=True)
class _Layout:
    """Where the pieces of B prompts go; ``at_B`` is the next free column of every row."""

    at_B: IntArray
    pieces: list[tuple[IntArray, IntArray, IntArray, IntArray]] = field(default_factory=list)
    slots: list[tuple[IntArray, IntArray, int]] = field(default_factory=list)
    prefix_B: IntArray | None = None

    def put(self, rows: IntArray, columns: IntArray, starts: IntArray, widths: IntArray) -> None:
        """Place pieces: row, first column, start in the pool and width of each."""
        self.pieces.append((rows, columns, starts, widths))


class PromptBuilder:
    """Histories and targets to :class:`PromptBatch`.

    Args:
        template: a checked template (:func:`~sasrecllm.prompts.template.load_template`).
        tokenizer: the backbone's tokenizer.
        title_tokens: the catalogue's titles, by item index.
        words: the words of the domain: ``{"item": "movie", "items": "movies", "consumed": "watched"}``.
        history_length: newest entries shown in each list of titles.
        history_step: entries by which that window moves on: of 5 a list shows up to 4 more, and what it
            lists begins alike for five likes in a row, which is then read once.
        max_tokens: no prompt is longer.
        soft_tokens: consecutive places of each soft slot.
        item_slots: whether a prompt about each item has its item slot; items behind the array have
            none.  All have one without it.

    Raises:
        ConfigError: even a prompt with an empty history exceeds ``max_tokens``; a domain word is
            missing; the tokenizer cannot tell Yes from No after the cue.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: Tokenizer,
        title_tokens: TitleTokens,
        words: Mapping[str, str],
        history_length: int = 10,
        max_tokens: int = 1024,
        soft_tokens: int = 1,
        item_slots: BoolArray | None = None,
        history_step: int = 1,
    ) -> None:
        self.template = template.spoken(words)
        self.tokenizer = tokenizer
        self.words = dict(words)
        self.history_length, self.history_step = history_length, history_step
        self.max_tokens = max_tokens
        self.soft_tokens = soft_tokens
        self.item_slots = item_slots
        self._encode_literals()
        self.titles = title_tokens
        self._pool = np.concatenate([self._literals, title_tokens.flat])
        self._fixed = sum(self._width(s) for s in self.template.segments) + title_tokens.max_tokens
        if self._fixed > max_tokens:
            raise ConfigError(
                f"prompt template {template.name}: a prompt without any history takes up to"
                f" {self._fixed} tokens, of which a title up to {title_tokens.max_tokens};"
                f" max_tokens is {max_tokens}",
                "raise llm.max_tokens, lower llm.title_tokens, or choose a shorter template",
            )

    def with_titles(self, title_tokens: TitleTokens) -> PromptBuilder:
        """The same prompts over other titles: an extended catalogue, or blanked ones."""
        return PromptBuilder(
            self.template,
            self.tokenizer,
            title_tokens,
            self.words,
            self.history_length,
            self.max_tokens,
            self.soft_tokens,
            self.item_slots,
            self.history_step,
        )

    @property
    def history_tokens(self) -> int:
        """Tokens that the titles of a history may take, with what follows each."""
        return self.max_tokens - self._fixed

    @property
    def before_titles(self) -> int:
        """Tokens before the first list of titles, the same in every prompt."""
        segments = self.template.segments
        first = next((n for n, s in enumerate(segments) if s.kind != TEXT), len(segments))
        return self._places["<begin>"][1] + sum(self._places["=" + s.text][1] for s in segments[:first])

    def literal(self, key: str) -> list[int]:
        """Ids of ``<begin>``, or of a text of the template behind a ``=``."""
        start, width = self._places[key]
        return [int(i) for i in self._literals[start : start + width]]

    def lengths(self, histories: Histories, targets: IntArray) -> IntArray:
        """Tokens of each prompt [B], without building it."""
        return self._lay_out(histories, targets).at_B

    def build(
        self, histories: Histories, targets: IntArray, slotless: BoolArray | None = None
    ) -> PromptBatch:
        """Prompts of ``histories`` [B] and ``targets`` [B] (item indices).

        Args:
            slotless: [B] prompts that lose their item slot, whatever their item.

        Raises:
            DataError: a target has no title, or the numbers of histories and targets differ.
        """
        layout = self._lay_out(histories, targets, slotless)
        lengths_B = layout.at_B
        pad = self.tokenizer.pad_token_id or 0
        ids_BT = np.full((len(lengths_B), int(lengths_B.max(initial=1))), pad, dtype=np.int64)
        rows, columns, starts, widths = (
            np.concatenate(parts) for parts in zip(*layout.pieces, strict=True)
        )
        within = _within(widths)
        ids_BT[np.repeat(rows, widths), np.repeat(columns, widths) + within] = self._pool[
            np.repeat(starts, widths) + within
        ]
        return PromptBatch(
            ids_BT, lengths_B, *_slot_places(layout, self.soft_tokens), self._prefix(layout)
        )

    def _encode_literals(self) -> None:
        """Fill the front of the pool with every fixed piece of the template, each tokenised alone."""
        cue = answered_cue(self.tokenizer, self.template.cue)
        self.answers, self.yes_id, self.no_id = cue.answers, cue.yes_id, cue.no_id
        texts = sorted(
            {t for s in self.template.segments for t in (s.text, s.joiner, s.empty, s.disliked)}
        )
        found = dict(zip(texts, token_ids(self.tokenizer, texts, foreign=False), strict=True))
        found[self.template.cue] = cue.cue
        bos = self.tokenizer.bos_token_id
        pieces = {
            "<begin>": [bos] if bos is not None and begins_with_bos(self.tokenizer) else [],
            # A soft slot's ids are overwritten by the mapped vectors; any valid id will do.
            "<soft>": [self.tokenizer.pad_token_id or 0] * self.soft_tokens,
        } | {"=" + text: ids for text, ids in found.items()}
        ends = np.cumsum([len(ids) for ids in pieces.values()])
        self._literals: IntArray = np.array([i for p in pieces.values() for i in p], dtype=np.int64)
        self._places = {
            key: (int(end) - len(ids), len(ids))
            for (key, ids), end in zip(pieces.items(), ends, strict=True)
        }

    def _width(self, segment: Segment) -> int:
        """Tokens of a segment where lists are empty and without the target's title."""
        if segment.kind in SOFT_SLOTS:
            return self.soft_tokens
        text = segment.empty if segment.kind in LISTS else segment.text
        begin = self._places["<begin>"][1] if segment is self.template.segments[0] else 0
        return self._places["=" + text][1] + begin

    def _lay_out(
        self, histories: Histories, targets: IntArray, slotless: BoolArray | None = None
    ) -> _Layout:
        self._check(histories, targets)
        everyone = np.arange(len(targets), dtype=np.int64)
        layout = _Layout(np.zeros(len(targets), dtype=np.int64))
        shown = self._shown(histories)
        self._put_fixed(layout, "<begin>", everyone)
        for segment in self.template.segments:
            if segment.kind == TEXT:
                self._put_fixed(layout, "=" + segment.text, everyone)
            elif segment.kind in SOFT_SLOTS:
                rows = everyone
                if segment.kind == "item":
                    if layout.prefix_B is None:  # no title stands before it
                        layout.prefix_B = layout.at_B
                    rows = np.flatnonzero(self._has_item_slot(targets, slotless))
                layout.slots.append((rows, layout.at_B[rows], SOFT_SLOTS.index(segment.kind)))
                self._put_fixed(layout, "<soft>", rows)
            elif segment.kind in LISTS:
                self._put_list(layout, segment, histories, shown)
            else:
                layout.prefix_B = layout.at_B
                starts, widths = self._title(targets)
                layout.put(everyone, layout.at_B, starts, widths)
                layout.at_B = layout.at_B + widths
        return layout

    def _check(self, histories: Histories, targets: IntArray) -> None:
        if len(histories) != len(targets):
            raise DataError(
                f"{len(histories)} histories and {len(targets)} targets",
                "give one target a history",
            )
        lost = np.flatnonzero((targets < 0) | (targets >= len(self.titles)))
        if len(lost):
            raise DataError(
                f"target {int(lost[0])} is item {int(targets[lost[0]])}, which has no title;"
                f" titles are known for items 0 to {len(self.titles) - 1}",
                "add the item with its title to the catalogue",
            )

    def _has_item_slot(self, targets: IntArray, slotless: BoolArray | None) -> BoolArray:
        has = np.ones(len(targets), dtype=np.bool_)
        if self.item_slots is not None:
            has = np.append(self.item_slots, False)[np.minimum(targets, len(self.item_slots))]
        return has if slotless is None else has & ~slotless

    def _title(self, items: IntArray) -> tuple[IntArray, IntArray]:
        """Start in the pool and width of each item's title."""
        return len(self._literals) + self.titles.offsets[items], self.titles.lengths[items]

    def _shown(self, histories: Histories) -> BoolArray:
        """Which history entries [N] enter their prompt: the newest of each list, as many as fit."""
        known = (histories.items >= 0) & (histories.items < len(self.titles))
        shown = np.zeros(len(known), dtype=np.bool_)
        costs = np.zeros(len(known), dtype=np.int64)
        for segment in self.template.segments:
            if segment.kind in LISTS:
                mine = known & np.isin(histories.labels, SHOWS[segment.kind])
                later = _sum_to_end(mine.astype(np.int64), histories.offsets) - mine
                shown |= mine & (later < self._window(mine, histories))
                _, joiner = self._after(segment, histories.labels[mine])
                costs[mine] = self.titles.lengths[histories.items[mine]] + joiner
        # The budget counts the longest title for the target, so that what stands before the target
        # is the same for every target.
        costs[~shown] = 0
        return shown & (_sum_to_end(costs, histories.offsets) <= self.history_tokens)

    def _window(self, mine: BoolArray, histories: Histories) -> IntArray:
        """How many of the entries ``mine`` each history shows, for every entry [N]."""
        counts_B = np.bincount(histories.owners, weights=mine, minlength=len(histories))
        beyond_B = np.maximum(counts_B.astype(np.int64) - self.history_length, 0)
        return (self.history_length + beyond_B % self.history_step)[histories.owners]

    def _after(self, segment: Segment, labels: LabelArray) -> tuple[IntArray, IntArray]:
        """Start in the pool and width of what follows each listed title."""
        liked = self._places["=" + segment.joiner]
        other = self._places["=" + segment.disliked] if segment.kind == "events" else liked
        places: IntArray = np.array([other, liked], dtype=np.int64)[labels.astype(np.int64)]
        return places[:, 0], places[:, 1]

    def _put_fixed(self, layout: _Layout, key: str, rows: IntArray) -> None:
        """The same piece in each of ``rows``."""
        start, width = self._places[key]
        layout.put(rows, layout.at_B[rows], np.full_like(rows, start), np.full_like(rows, width))
        layout.at_B = layout.at_B + np.bincount(rows, minlength=len(layout.at_B)) * width

    def _put_list(
        self, layout: _Layout, segment: Segment, histories: Histories, shown: BoolArray
    ) -> None:
        """The titles of a list slot with their joiners, or its words for an empty list."""
        mine = np.flatnonzero(shown & np.isin(histories.labels, SHOWS[segment.kind]))
        rows = histories.owners[mine]
        starts, widths = self._title(histories.items[mine])
        joiners, joiner_widths = self._after(segment, histories.labels[mine])
        # A joiner stands between two titles; the feedback of an event follows the last one too.
        joined = np.append(rows[1:] == rows[:-1], np.zeros(min(1, len(rows)), dtype=np.bool_))
        joined |= segment.kind == "events"
        both = widths + joined * joiner_widths
        before = np.cumsum(both) - both
        columns = (layout.at_B[rows] + before - before[np.searchsorted(rows, rows)]).astype(np.int64)
        layout.put(rows, columns, starts, widths)
        at = np.flatnonzero(joined)
        layout.put(rows[at], columns[at] + widths[at], joiners[at], joiner_widths[at])
        counts = np.bincount(rows, minlength=len(layout.at_B))
        self._put_fixed(layout, "=" + segment.empty, np.flatnonzero(counts == 0))
        layout.at_B = layout.at_B + np.bincount(rows, weights=both, minlength=len(layout.at_B)).astype(
            np.int64
        )

    def _prefix(self, layout: _Layout) -> IntArray:
        assert layout.prefix_B is not None, "every template has a target or its slot"
        return layout.prefix_B


def _slot_places(layout: _Layout, soft_tokens: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Rows, columns, kinds and indices [S] of all soft tokens: k consecutive places of every slot."""
    k = np.arange(soft_tokens, dtype=np.int64)
    parts = [
        (
            np.repeat(rows, soft_tokens),
            (columns[:, None] + k).reshape(-1),
            np.full(len(rows) * soft_tokens, kind, dtype=np.int64),
            np.tile(k, len(rows)),
        )
        for rows, columns, kind in layout.slots
    ]
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, nothing, nothing
    rows, columns, kinds, index = (np.concatenate(p) for p in zip(*parts, strict=True))
    return rows, columns, kinds, index


def _within(widths: IntArray) -> IntArray:
    """0, 1, ... inside each of consecutive ranges of the given widths."""
    ends = np.cumsum(widths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - widths, widths)


def _sum_to_end(values: IntArray, offsets: IntArray) -> IntArray:
    """For each entry [N] the sum of ``values`` from it to the end of its row."""
    before = np.concatenate([[0], np.cumsum(values)]).astype(np.int64)
    return np.repeat(before[offsets[1:]], np.diff(offsets)) - before[:-1]
