"""Prompt templates: text files with named slots, checked on load and kept as a tuple of segments.

A slot stands in braces: ``{history}``, ``{dislikes}``, ``{events}``, ``{user}``, ``{target}``,
``{item}``.  The list slots may say what joins their titles and what stands for an empty list:
``{history|; |nothing yet}``.  ``{events}`` lists likes and dislikes together in their order, each
title followed by what its feedback says: ``{events|? Yes. |? No. |}``.  A word of the domain stands
in angle brackets and ends in ``-word`` (``<item-word>``, ``<items-word>``, ``<consumed-word>``), so
that it can never be taken for a slot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sasrecllm.errors import ConfigError, did_you_mean

TEXT = "text"
LISTS = ("history", "dislikes", "events")
SHOWS = {"history": (1,), "dislikes": (0,), "events": (0, 1)}
SLOTS = (*LISTS, "user", "target", "item")
SOFT_SLOTS = ("user", "item")
WORDS = ("item", "items", "consumed")

FOLDER = Path(__file__).parent / "templates"
_BRACES = re.compile(r"\{([^{}]*)\}")
_WORD = re.compile(r"<([a-z]+)-word>")


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a template: literal text, or a slot to be filled.

    Args:
        kind: ``text``, or the name of the slot.
        text: the literal text (``text`` segments only).
        joiner: what stands between two titles (list slots only).
        empty: what stands for an empty list (list slots only).
        disliked: what follows a disliked title (``events`` only; ``joiner`` follows a liked one).
    """

    kind: str
    text: str = ""
    joiner: str = ""
    empty: str = ""
    disliked: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template; history and user stand first, the target last, the answer cue at the end."""

    name: str
    segments: tuple[Segment, ...]
    lead: str = ""
    """A space that belongs to the titles: most tokenizers join a space with the word after it."""

    def has(self, slot: str) -> bool:
        """Whether the template has the slot."""
        return any(s.kind == slot for s in self.segments)

    @property
    def cue(self) -> str:
        """The literal text after the last slot; the answer is the next token."""
        return self.segments[-1].text

    def spoken(self, words: Mapping[str, str]) -> Template:
        """The same template in the words of a domain: ``{"item": "movie", "items": "movies", ...}``.

        Raises:
            ConfigError: a word that the template uses is not given.
        """

        def word(match: re.Match[str]) -> str:
            if match[1] not in words:
                raise ConfigError(
                    f"prompt template {self.name}: no domain word for {match[0]}; given: {dict(words)}",
                    f"set data.words.{match[1]}",
                )
            return words[match[1]]

        def said(s: Segment) -> Segment:
            return replace(s, **{name: _WORD.sub(word, text) for name, text in literals(s).items()})

        return replace(self, segments=tuple(map(said, self.segments)))


def literals(segment: Segment) -> dict[str, str]:
    """Field -> words of a segment that reach the model as they stand: between slots, and in a list."""
    return {name: getattr(segment, name) for name in ("text", "joiner", "empty", "disliked")}


def load_template(name_or_path: str | Path) -> Template:
    """A shipped template by name, or a file by path.

    Raises:
        ConfigError: no such template, or one that breaks a rule; names the file and the slot.
    """
    return parse_template(template_text(str(name_or_path)), name=str(name_or_path))


def is_shipped(name: str) -> bool:
    """Whether ``name`` is that of a template which comes with the package."""
    return name in {path.stem for path in FOLDER.glob("*.txt")}


def template_text(name_or_path: str) -> str:
    """The words of a shipped template by name, or of a file by path, to the letter.

    Raises:
        ConfigError: there is none that can be read.
    """
    shipped = is_shipped(name_or_path)
    try:
        path = FOLDER / f"{name_or_path}.txt" if shipped else Path(name_or_path).expanduser()
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except (OSError, RuntimeError, ValueError) as error:  # ~ of nobody, bytes that are no UTF-8
        names = sorted(p.stem for p in FOLDER.glob("*.txt"))
        raise ConfigError(
            f"prompt template {str(name_or_path)!r} cannot be read ({type(error).__name__}); "
            f"shipped: {', '.join(names)}" + did_you_mean(str(name_or_path), names),
            "give one of these names or the path of a UTF-8 text file",
        ) from error


def parse_template(text: str, name: str = "template") -> Template:
    """Cut the text of a template into segments and check them.

    Raises:
        ConfigError: names ``name`` and the slot that breaks a rule.

    >>> [s.kind for s in parse_template("Liked {history}. {target}? Answer:").segments]
    ['text', 'history', 'text', 'target', 'text']
    """
    segments: list[Segment] = []
    # An editor's last newline is no part of the prompt: the cue must be the last thing.
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    for index, part in enumerate(_BRACES.split(lines.rstrip())):
        if index % 2:
            segments.append(_slot(part, name))
        elif part:
            segments.append(Segment(TEXT, text=part))
    template = _with_lead(Template(name, tuple(segments)))
    _check_literals(template)
    _check_order(template)
    return template


def _with_lead(template: Template) -> Template:
    """Move the space before each title into the title, where every title has one.

    ``; The Reef`` is two tokens of ordinary text, ``;`` and `` The``; cut before the title it would
    end in a lone space, and the first word of a title would be another token than the same word
    elsewhere.
    """
    kinds = [s.kind for s in template.segments]
    before = [i - 1 for i, k in enumerate(kinds) if i and (k in LISTS or k == "target")]
    texts = [template.segments[i].text for i in before if kinds[i] == TEXT]
    joiners = [j for s in template.segments if s.kind in LISTS for j in (s.joiner, s.disliked) if j]
    if not texts or not all(t.endswith(" ") for t in (*texts, *joiners)) or kinds[0] in LISTS:
        return template
    changed = list(template.segments)
    for i in before:
        if kinds[i] == TEXT:
            changed[i] = replace(changed[i], text=changed[i].text[:-1])
    for i, segment in enumerate(changed):
        if segment.kind in LISTS:
            changed[i] = replace(
                segment,
                joiner=segment.joiner[:-1],
                disliked=segment.disliked[:-1],
                empty=" " + segment.empty,
            )
    return replace(template, segments=tuple(changed), lead=" ")


def _slot(inside: str, name: str) -> Segment:
    """The slot written as ``inside`` between its braces."""
    kind, *more = inside.split("|")
    if kind not in SLOTS:
        raise _refusal(
            name,
            f"unknown slot {{{kind}}}; allowed: {', '.join(SLOTS)}" + did_you_mean(kind, SLOTS),
            "rename or remove the slot",
        )
    if kind == "events":
        if len(more) != 3:
            raise _refusal(
                name, f"slot {{{inside}}} has {len(more)} parts after its name",
                "write {events|after a liked title|after a disliked title|words for none}",
            )  # fmt: skip
        return Segment(kind, joiner=more[0], disliked=more[1], empty=more[2])
    if len(more) > (2 if kind in LISTS else 0):
        raise _refusal(
            name,
            f"slot {{{inside}}} has {len(more)} parts after its name",
            "write {history|joiner|words for none}; only history and dislikes take them",
        )
    if kind not in LISTS:
        return Segment(kind)
    joiner, empty = (*more, *("; ", "nothing yet")[len(more) :])
    return Segment(kind, joiner=joiner, empty=empty)


def _check_literals(template: Template) -> None:
    for literal in (text for s in template.segments for text in literals(s).values()):
        if "{" in literal or "}" in literal:
            raise _refusal(
                template.name, f"a brace without its partner in {literal!r}", "close the slot"
            )
        if "\\n" in literal:
            raise _refusal(
                template.name,
                f"a backslash followed by n in {literal!r} would reach the model as two characters",
                "break the line instead",
            )
        for word in _WORD.findall(literal):
            if word not in WORDS:
                raise _refusal(
                    template.name,
                    f"unknown domain word <{word}-word>; allowed: "
                    + ", ".join(f"<{w}-word>" for w in WORDS)
                    + did_you_mean(word, WORDS),
                    "rename the word",
                )


def _check_order(template: Template) -> None:
    kinds = [s.kind for s in template.segments]
    for slot in SLOTS:
        if kinds.count(slot) > 1:
            raise _refusal(template.name, f"slot {{{slot}}} occurs twice", "keep one of them")
    if not {"target", *LISTS} & {*kinds} and {*SOFT_SLOTS} <= {*kinds}:
        target = kinds.index("item")  # vectors alone, not one title
    elif "target" not in kinds:
        raise _refusal(template.name, "slot {target} is missing", "add {target}")
    elif "history" not in kinds and "events" not in kinds:
        raise _refusal(template.name, "slot {history} is missing", "add {history} or {events}")
    else:
        target = kinds.index("target")
    for slot in (*LISTS, "user"):
        if slot in kinds and kinds.index(slot) > target:
            raise _refusal(
                template.name,
                f"slot {{{slot}}} stands after {{{kinds[target]}}}",
                "move it before the target, so that candidates can share what stands before them",
            )
    if "item" in kinds and kinds.index("item") < target:
        raise _refusal(template.name, "slot {item} stands before {target}", "move it after the target")
    if kinds[-1] != TEXT or not template.cue.strip():
        raise _refusal(
            template.name,
            f"the last thing is the slot {{{kinds[-1]}}}, not the answer cue",
            "end the template with words that a Yes or No follows, for example 'Answer:'",
        )


def _refusal(name: str, what: str, remedy: str) -> ConfigError:
    return ConfigError(f"prompt template {name}: {what}", remedy)
