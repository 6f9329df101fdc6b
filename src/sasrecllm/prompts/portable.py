"""A prompt as pieces of token ids and places for titles: what another program needs to ask it."""

from __future__ import annotations

from typing import Any

from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.template import LISTS, SHOWS, SOFT_SLOTS, TEXT, Segment


def portable(builder: PromptBuilder) -> dict[str, Any]:
    """What :meth:`PromptBuilder.build` writes, as keys and values.

    ``pieces`` in their order: ``ids``, which are the same in every prompt; ``titles``, a list of the
    history; ``target``, its title; ``soft``, places for vectors.  ``words`` is the same for people.
    """
    pieces = [
        {"ids": builder.literal("<begin>")},
        *(_piece(s, builder) for s in builder.template.segments),
    ]
    return {
        "words": "".join(_shown(s, builder.template.lead) for s in builder.template.segments),
        "pieces": [piece for piece in pieces if piece != {"ids": []}],
        "lead": builder.titles.lead,
        "title_tokens": builder.titles.max_tokens,
        "history": builder.history_length,
        "history_step": builder.history_step,
        "history_tokens": builder.history_tokens,
        "answers": dict(zip(("yes", "no"), (builder.yes_id, builder.no_id), strict=True)),
        "answer_words": list(builder.answers),
    }


def _piece(segment: Segment, builder: PromptBuilder) -> dict[str, Any]:
    if segment.kind == TEXT:
        return {"ids": builder.literal("=" + segment.text)}
    if segment.kind in SOFT_SLOTS:
        return {"soft": segment.kind, "tokens": builder.soft_tokens}
    if segment.kind not in LISTS:
        return {"target": True}
    liked = builder.literal("=" + segment.joiner)
    events = segment.kind == "events"
    return {
        "titles": segment.kind,
        "shows": [bool(label) for label in SHOWS[segment.kind]],
        "between": [] if events else liked,
        "after_liked": liked if events else [],
        "after_disliked": builder.literal("=" + segment.disliked) if events else [],
        "empty": builder.literal("=" + segment.empty),
    }


def _shown(segment: Segment, lead: str) -> str:
    """A segment as a template has it, the words of the domain filled in."""
    if segment.kind == TEXT:
        return segment.text
    if segment.kind in SOFT_SLOTS:
        return "{" + segment.kind + "}"
    if segment.kind not in LISTS:
        return lead + "{" + segment.kind + "}"
    after = [segment.joiner, *([segment.disliked] if segment.kind == "events" else [])]
    inside = [segment.kind, *(words + lead for words in after), segment.empty.removeprefix(lead)]
    return lead + "{" + "|".join(inside) + "}"
