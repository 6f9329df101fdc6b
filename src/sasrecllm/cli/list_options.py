"""What is said of people and of their wishes at the shell: options, and what they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from sasrecllm.errors import ConfigError, did_you_mean

User = Annotated[str | None, typer.Option(help="id of a known user")]
Liked = Annotated[
    list[str] | None, typer.Option(help="id of a liked item, or several with commas; repeatable")
]
Titles = Annotated[
    list[str] | None, typer.Option("--title", help="words of a liked item's title; repeatable")
]
Only = Annotated[list[str] | None, typer.Option(help="ids that may be listed, with commas; repeatable")]
Where = Annotated[
    list[str] | None, typer.Option(help="ATTR=VALUE that every listed item has; repeatable")
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="ids that may not be listed, with commas; repeatable")
]
Boost = Annotated[
    list[str] | None,
    typer.Option(
        help="ATTR=VALUE[:FACTOR]: times FACTOR, else 2, for the odds of such items; repeatable"
    ),
]
Diversity = Annotated[
    float, typer.Option(min=0, max=1, help="0: the list as it is; 1: as mixed as can be")
]
SeenItems = Annotated[
    Literal["exclude", "allow"] | None,
    typer.Option("--seen", help="items the user has met [default: as the run was prepared]"),
]


def with_ids(asked: Mapping[str, Any], catalog: Any) -> dict[str, Any]:
    """Wishes whose ``only`` and ``exclude`` are lists of single ids."""
    ids = {name: ids_from(asked[name], name, catalog) for name in ("only", "exclude")}
    return {**asked, **ids}


def ids_from(texts: Sequence[str] | None, flag: str, catalog: Any) -> list[str] | None:
    """Ids of an option, None where it is not given; what the catalogue has is one id, commas or not.

    A text of which no part is an id is left whole, for the refusal that names it.

    Raises:
        ConfigError: there is nothing between two commas.
    """
    if texts is None:
        return None
    found: list[str] = []
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        several = not _holds(catalog, text) and any(_holds(catalog, part) for part in parts)
        if several and not all(parts):
            raise ConfigError(
                f"--{flag} is {text!r}, in which an id is empty", "write for example m0003,m0151"
            )
        found += parts if several else [text]
    return found


def attributes_from(texts: Sequence[str] | None, flag: str) -> dict[str, str] | None:
    """Attribute -> value of ``ATTR=VALUE``.

    Raises:
        ConfigError: there is no ``=``, or an attribute stands twice.
    """
    found: dict[str, str] = {}
    for name, value in _named(texts, flag):
        if name in found:
            raise ConfigError(
                f"--{flag} names {name} twice: {found[name]!r} and {value!r}", "give one of them"
            )
        found[name] = value
    return found or None


def boosts_from(texts: Sequence[str] | None) -> dict[str, dict[str, float]] | None:
    """Attribute -> value -> factor of ``ATTR=VALUE`` or ``ATTR=VALUE:FACTOR``.

    A number behind the last colon is a factor; a value that ends so itself needs its factor too.

    Raises:
        ConfigError: there is no ``=``, or a value stands twice.
    """
    from sasrecllm.inference.wishes import FACTOR

    found: dict[str, dict[str, float]] = {}
    for name, text in _named(texts, "boost"):
        value, colon, behind = text.rpartition(":")
        factor = _number(behind) if colon else None
        if factor is None:
            value, factor = text, FACTOR
        if value in found.setdefault(name, {}):
            raise ConfigError(f"--boost names {name}={value} twice", "give it once")
        found[name][value] = factor
    return found or None


def _named(texts: Sequence[str] | None, flag: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (equals and name.strip() and value):
            raise ConfigError(
                f"--{flag} is {text!r}; allowed: ATTR=VALUE", f"write for example --{flag} genre=Comedy"
            )
        pairs.append((name.strip(), value))
    return pairs


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def history_from(system: Any, liked: Sequence[str] | None, titles: Sequence[str] | None) -> Any:
    """The entries of a history for :class:`SASRecLLM`, None where none is given.

    A title is the one item that it names; where no title of the catalogue has its words it stands for
    itself, and its words speak for it.

    Raises:
        DataError: several items may be meant.
    """
    from sasrecllm.inference.requests import Title

    ids = ids_from(liked, "liked", system.catalog)
    if ids is None and titles is None:
        return None
    entries: list[Any] = list(ids or ())
    for text in titles or ():
        index = system.maker.titles.chosen(text, "--title")
        entries.append(system.catalog.item_id(index) if index >= 0 else Title(text))
    return entries


def item_from(system: Any, text: str) -> str:
    """The id of the item that ``text`` names: its id, or words of its title.

    Raises:
        DataError: none is named so, or several.
    """
    from sasrecllm.inference.id_lookup import items_of

    if _holds(system.catalog, text):
        return text
    index = system.maker.titles.chosen(text, "item")
    if index < 0:
        items_of(system.catalog, [text], "item")  # which refuses it
    return str(system.catalog.item_id(index))


def _holds(catalog: Any, item: str) -> bool:
    return bool(catalog.item_index([item])[0] >= 0)


def said_of(system: Any, history: Any, user: str | None) -> list[str]:
    """What a list goes by, in lines: the last titles that were liked and disliked, newest first."""
    past = system.history(history, user)
    lines = []
    for word, liked in (("liked", True), ("disliked", False)):
        titles = [_titled(system, line) for line in reversed(past) if line.liked == liked]
        if titles:
            more = f" and {len(titles) - 5} before" if titles[5:] else ""
            lines.append(f"{word}: {', '.join(titles[:5])}{more}")
    return lines


def said_of_few(system: Any, count: int, k: int, asked: dict[str, Any]) -> list[str]:
    """Why a list has ``count`` places and not ``k``, in a line; none where it has all."""
    from sasrecllm.inference.requests import may_repeat

    if count >= k:
        return []
    why = [f"--{name} leaves no other" for name in ("only", "where", "exclude") if asked.get(name)]
    if not may_repeat(asked["seen"], system.dataset.allow_seen):
        why.append("what the history holds is not shown again (--seen allow shows it)")
    return [f"{count} of {k} places: " + ("; ".join(why) or "there are no more items")]


def _titled(system: Any, line: Any) -> str:
    if _holds(system.catalog, line.item_id):
        return f"{line.title} [{line.item_id}]"
    near = did_you_mean(line.title, system.catalog.titles)
    return f"{line.title} (no item of the catalogue: its words speak for it{near})"


def refuse_beside(flag: str, others: dict[str, Any], why: str) -> None:
    """Refuse options that say nothing beside ``flag``.

    Args:
        others: option -> its value; what is None, False, 0 or empty was not given.

    Raises:
        ConfigError: one was given.
    """
    given = [f"--{name}" for name, value in others.items() if value]
    if given:
        raise ConfigError(f"{', '.join(given)} beside {flag}: {why}", "leave one of the two out")
