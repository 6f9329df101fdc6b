"""What Python callers pass, as plain ids and numbers, or a refusal that says what is allowed.

Ids are text; whole numbers of any library are taken as their digits.  Everything else is refused here,
so that no TypeError comes out of the depths.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from sasrecllm.errors import DataError


def id_of(value: Any, where: str) -> str:
    """An id as text.

    Raises:
        DataError: it is neither text nor a whole number.
    """
    plain = plain_of(value)
    if isinstance(plain, str):
        return str(plain)
    if isinstance(plain, int) and not isinstance(plain, bool):
        return str(plain)
    whole = isinstance(plain, float) and plain.is_integer()
    raise DataError(
        f"{where}: {shown(value)} is no id; an id is text or a whole number",
        "make the column one of whole numbers or of text first (pandas turns whole numbers with gaps"
        " into fractions)"
        if whole
        else "give ids as they stand in the data, as text",
    )


def ids_of(values: Any, where: str, *, ordered: bool = True) -> list[str]:
    """A list of ids; see :func:`listed`."""
    return [id_of(value, where) for value in listed(values, where, ordered=ordered)]


def listed(values: Any, where: str, *, ordered: bool = True) -> list[Any]:
    """The entries of a list, a tuple, an array or a column.

    Args:
        ordered: refuse sets, which have no order.

    Raises:
        DataError: it is one value alone, a mapping, or nothing that can be gone through.
    """
    single = isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable)
    if not single and not (ordered and isinstance(values, Set)):
        try:
            return list(values)
        except Exception as error:  # an array without dimensions, an iterator that fails
            raise _no_list(values, where) from error
    raise _no_list(values, where)


def count_of(value: Any, where: str) -> int:
    """A whole number from 1 on.

    Raises:
        DataError: it is something else.
    """
    plain = plain_of(value)
    if isinstance(plain, int) and not isinstance(plain, bool) and plain >= 1:
        return plain
    raise DataError(
        f"{where} is {shown(value)}; allowed: a whole number from 1 on", f"give for example {where}=10"
    )


def text_of(value: Any, where: str) -> str:
    """Text.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str):
        return value
    raise DataError(
        f"{where} is {shown(value)}; allowed: text", f'give for example {where}="quiet sea"'
    )


def folder_of(value: Any) -> Path:
    """A path given as text or as a path.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str | os.PathLike) and str(value):
        return Path(value)
    raise DataError(
        f"the run is {shown(value)}; allowed: the path of its folder", "give for example runs/demo"
    )


def liked_of(value: Any, where: str) -> bool:
    """Whether something was liked: True or False, or 1 or 0.

    Raises:
        DataError: it is something else.
    """
    plain = plain_of(value)
    if isinstance(plain, bool | int | float) and plain in (0, 1):
        return bool(plain)
    raise DataError(
        f"{where}: whether an item was liked is {shown(value)}; allowed: True, False",
        "write (item, True) or (item, False); a list of liked items needs no pairs",
    )


def flag_of(value: Any, where: str) -> bool:
    """True or False, or 1 or 0.

    Raises:
        DataError: it is something else.
    """
    plain = plain_of(value)
    if isinstance(plain, bool | int) and plain in (0, 1):
        return bool(plain)
    raise DataError(f"{where} is {shown(value)}; allowed: True, False", f"write {where}=True")


def plain_of(value: Any) -> Any:
    """Python's own value behind a scalar of numpy, torch and others; anything else as it is."""
    if isinstance(value, str | int | float) or getattr(value, "shape", None) != ():
        return value
    try:
        return value.item()
    except Exception:  # whatever an object of another library does
        return value


def shown(value: Any) -> str:
    """``value`` in a message: short, on one line, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object that cannot even say what it is
        text = "an object"
    kind = "" if isinstance(value, str) else f" ({type(value).__name__})"
    return f"{text[:60]}{'...' if len(text) > 60 else ''}{kind}"


def _no_list(values: Any, where: str) -> DataError:
    return DataError(
        f"{where} is {shown(values)}; allowed: a list of entries",
        f"write {where}=[...], also for one entry",
    )
