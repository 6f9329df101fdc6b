"""What a person wishes of a list, beside who it is for: one object at every door.

Python, shell, HTTP, page and batch jobs fill in :class:`Wishes`, in the user's own spelling;
:func:`wanted` makes of it what the two-stage scorer needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import DataError, did_you_mean
from sasrecllm.inference.arguments import id_of, ids_of, plain_of, shown
from sasrecllm.inference.id_lookup import items_of
from sasrecllm.inference.requests import Id, Seen, may_repeat
from sasrecllm.types import BoolArray, FloatArray, values_in

FACTOR = 2.0
"""Of a boost that names none."""
MOST_FACTOR = 1000.0

Boost = Mapping[str, str | Mapping[str, float]]
"""Attribute -> value, or -> values with a factor each."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """Wishes as they were spelt; without any a list is the system's own.

    Args:
        only: ids that may be recommended; None for all.
        where: attribute -> value that an item must have (values in a column are split at ``|``).
        exclude: ids that may not.
        boost: attribute -> value, or -> {value: factor}.  The odds of an item that has the value are
            multiplied by the factor (2 unless given; below 1 pushes it down; several multiply): the
            odds of being taken next, or in a run without a list fusion of being liked.
        diversity: from 0, the list as it is, to 1, as mixed as can be: maximal marginal relevance over
            the candidates (:mod:`sasrecllm.inference.diverse`).
        seen: ``exclude`` leaves out what the history holds, ``allow`` does not; None does as the run
            was prepared (``recommend.seen``).
    """

    only: Iterable[Id] | None = None
    where: Mapping[str, str] | None = None
    exclude: Iterable[Id] | None = None
    boost: Boost | None = None
    diversity: float = 0.0
    seen: Seen | None = None

    @classmethod
    def among(cls, values: Mapping[str, Any]) -> Wishes:
        """The wishes among ``values``, which may hold other things too."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        Raises:
            DataError: ``only`` or ``exclude`` is no list of ids.
        """
        ids = {
            name: ids_of(values, name, ordered=False)
            for name, values in (("only", self.only), ("exclude", self.exclude))
            if values is not None
        }
        return asdict(replace(self, only=None, exclude=None)) | ids


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Wishes in indices.

    Args:
        allowed_I: whether each item may be recommended at all; None for all.
        boost_I: what is added to each item's log-odds, [I]; None for nothing.
        diversity: share of the choice that goes to being unlike what is chosen already.
        seen: whether items of the history may be recommended.
    """

    allowed_I: BoolArray | None = None
    boost_I: FloatArray | None = None
    diversity: float = 0.0
    seen: bool = False

    @property
    def reorders(self) -> bool:
        """Whether the order of a list may be another than without."""
        return self.boost_I is not None or self.diversity > 0


def wanted(catalog: Catalog, wishes: Wishes, allow_seen: bool) -> Wanted:
    """``wishes`` over a catalogue.

    Args:
        allow_seen: where ``seen`` is None.

    Raises:
        DataError: an unknown id, attribute or value, a factor or a diversity that cannot be.
        ConfigError: ``seen`` is something else.
    """
    allowed = allowed_items(catalog, wishes.only, wishes.where, wishes.exclude)
    boost, diversity = boosts(catalog, wishes.boost), share_of(wishes.diversity, "diversity")
    return Wanted(allowed, boost, diversity, may_repeat(wishes.seen, allow_seen))


def allowed_items(catalog: Catalog, only: Any, where: Any, exclude: Any = None) -> BoolArray:
    """Whether each item passes the filters, [n_items].

    Raises:
        DataError: an unknown id, attribute or value.
    """
    allowed = np.ones(catalog.n_items, dtype=bool)
    if only is not None:
        allowed[:] = False
        allowed[items_of(catalog, only, "only", ordered=False)] = True
    if exclude is not None:
        allowed[items_of(catalog, exclude, "exclude", ordered=False)] = False
    for name, value in _pairs(where, "where", "where={'genre': 'Comedy'}"):
        allowed &= having(catalog, name, value, "where")
    return allowed


def boosts(catalog: Catalog, boost: Any) -> FloatArray | None:
    """What a boost adds to the log-odds of each item, [n_items]: ln of its factors; None for nothing.

    Raises:
        DataError: an unknown attribute or value, or a factor that is no number above 0.
    """
    added = np.zeros(catalog.n_items)
    for name, asked in _pairs(boost, "boost", "boost={'genre': {'Comedy': 2}}"):
        for value, factor in asked.items() if isinstance(asked, Mapping) else [(asked, FACTOR)]:
            matching = having(catalog, name, value, "boost")
            added[matching] += math.log(factor_of(factor, f"boost: {name}={value}"))
    return added if added.any() else None


def having(catalog: Catalog, name: Any, value: Any, wish: str) -> BoolArray:
    """Whether each item has ``value`` as its attribute ``name``, or among several split at ``|``.

    Args:
        wish: that asks, for a refusal.

    Raises:
        DataError: there is no such attribute, or no item has the value.
    """
    if not isinstance(name, str) or name not in catalog.attributes:
        raise DataError(
            f"{wish}: {name!r} is no attribute of this catalogue; it has:"
            f" {', '.join(catalog.attributes) or 'none'}" + did_you_mean(str(name), catalog.attributes),
            "use one of these, as the items file spells it"
            if catalog.attributes
            else "prepare the run with an items file that has columns beside id and title",
        )
    asked = id_of(value, f"{wish}: {name}")
    found = np.array([asked in values_in(v) for v in catalog.attributes[name]], dtype=bool)
    if not found.any():
        values = list(dict.fromkeys(values_of(catalog, name)))
        few = ", ".join(map(repr, values[:8])) + (f" and {len(values) - 8} more" if values[8:] else "")
        raise DataError(
            f"{wish}: no item has {name} {asked!r}; there are: {few or 'none'}"
            + did_you_mean(asked, values),
            "give a value as the items file spells it",
        )
    return found


def values_of(catalog: Catalog, name: str) -> Iterator[str]:
    """Every value of an attribute, as often as an item has it."""
    for cell in catalog.attributes[name]:
        yield from values_in(cell)


def factor_of(value: Any, where: str) -> float:
    """A number above 0, at most ``MOST_FACTOR``.

    Raises:
        DataError: it is something else.
    """
    plain = plain_of(value)
    number = isinstance(plain, int | float) and not isinstance(plain, bool)
    if number and 1 / MOST_FACTOR <= plain <= MOST_FACTOR:
        return float(plain)
    raise DataError(
        f"{where} has the factor {shown(value)}; allowed: {1 / MOST_FACTOR:g} to {MOST_FACTOR:g}",
        "give 2 to double the odds, 0.5 to halve them; what shall not come at all is excluded"
        " (exclude, where)",
    )


def share_of(value: Any, where: str) -> float:
    """A number from 0 to 1.

    Raises:
        DataError: it is something else.
    """
    plain = plain_of(value)
    if isinstance(plain, int | float) and not isinstance(plain, bool) and 0 <= plain <= 1:
        return float(plain)
    raise DataError(
        f"{where} is {shown(value)}; allowed: 0 to 1",
        f"give for example {where}=0.3; 0 is the list as it is, 1 as mixed as can be",
    )


def _pairs(values: Any, wish: str, example: str) -> Iterable[tuple[Any, Any]]:
    if values is not None and not isinstance(values, Mapping):
        raise DataError(f"{wish} is {shown(values)}; allowed: attribute -> value", f"write {example}")
    return () if values is None else list(values.items())
