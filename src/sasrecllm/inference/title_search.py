"""Which items a person means by words: titles compared without case, accents and punctuation.

``the matrix`` is *Matrix, The (1999)*, ``amelie`` is *Amélie*, ``spiderman`` is *Spider-Man*.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property, lru_cache

import numpy as np

from sasrecllm.data.catalog import Catalog, title_keys
from sasrecllm.errors import DataError
from sasrecllm.types import UNKNOWN, FloatArray

_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
    | dict.fromkeys("'’ʼ‘`´", "")  # signs that stand for an apostrophe
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_NO_WORD = re.compile(r"[\W_]+")
_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")
_ARTICLE = re.compile(r"^(?P<rest>.+), (?P<article>\w+['’]?)$")


SHOWN = 10
"""Items that a refusal names."""
NEAR = 10
"""Items shown behind those found, near to the middle of as many of them."""
KEPT = 2**17
"""Titles whose words are kept: a catalogue to which an item was added is not folded anew."""


@lru_cache(KEPT)
def folded(text: str) -> str:
    """Words with single spaces between them, without case, accents, apostrophes and punctuation.

    A text of signs alone stays as it is, so that it can be found at all.

    >>> folded("  Schindler’s LIST: l'Été (1993)")
    'schindlers list lete 1993'
    """
    apart = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", apart)).casefold().translate(_LETTERS)
    return " ".join(_NO_WORD.split(plain)).strip() or text.strip().casefold()


@lru_cache(KEPT)
def spellings(title: str) -> frozenset[str]:
    """What people call an item of this title: as it is, without its year, its article in front.

    >>> sorted(spellings("Matrix, The (1999)"))
    ['matrix the', 'matrix the 1999', 'the matrix', 'the matrix 1999']
    """
    bare = _YEAR.sub("", title)
    year = title[len(bare) :]
    turned = _ARTICLE.match(bare)
    called = {title, bare}
    if turned:
        front = f"{turned['article']} {turned['rest']}"
        called |= {front, f"{front}{year}"}
    return frozenset(folded(name) for name in called)


class TitleSearch:
    """The titles of a catalogue, ready to be searched.  Ids and titles are both found.

    Args:
        vectors: of the catalogue's first I items, of length one, [I, D]; None without
            ``item_features.vectors``.
    """

    def __init__(self, catalog: Catalog, vectors: FloatArray | None = None) -> None:
        self.catalog, self.vectors = catalog, vectors

    def search(self, words: str, limit: int) -> tuple[list[tuple[int, bool]], int]:
        """At most ``limit`` items and whether they are only :meth:`near`, behind those that
        :meth:`find` gives; and how many those are in all."""
        found = self.find(words)
        shown = [(n, False) for n in found[:limit]]
        near = self.near(words, found) if len(found) < limit else []
        return [*shown, *((n, True) for n in near[: limit - len(shown)])], len(found)

    def find(self, words: str) -> list[int]:
        """Indices of the items whose title holds all ``words``, or whose id they are; best first.

        Before others stand: the item with that very id; one that is called so (:func:`spellings`); a
        title that begins with the words; one that has them as whole words; then shorter titles.
        Without words all items.
        """
        asked = folded(words)
        (exact,) = self.catalog.item_index([words.strip()]).tolist()
        if not words.strip():
            return list(range(self.catalog.n_items))
        wanted = asked.split()
        found = [
            n
            for n, (title, joined) in enumerate(zip(self._folded, self._joined, strict=True))
            if n == exact or all(word in joined and _holds(title, word) for word in wanted)
        ]
        return sorted(found, key=lambda n: self._worth(n, exact, asked, wanted))

    def near(self, words: str, found: list[int]) -> list[int]:
        """Indices of other items whose vectors are near to those of the best ``found``; best first.

        Where no title holds all ``words``, near to those of the titles that have the most of them.
        Nothing where items have no vectors, or no title has a word.
        """
        if self.vectors is None or not words.strip():
            return []
        known = len(self.vectors)
        middle = [n for n in found or self._holding_most(words) if n < known][:NEAR]
        if not middle:
            return []
        near_I = self.vectors @ self.vectors[middle].mean(0)
        near_I[[n for n in found if n < known]] = 0.0
        best = np.argsort(-near_I, kind="stable")[:NEAR]
        return [int(n) for n in best if near_I[n] > 0]

    def _holding_most(self, words: str) -> list[int]:
        """The items whose titles have the most of ``words`` as whole words, one at least; shorter ones
        first."""
        wanted = set(folded(words).split())
        held = [len(wanted.intersection(title.split())) for title in self._folded]
        most = max(held, default=0)
        found = [n for n, count in enumerate(held) if count == most > 0]
        return sorted(found, key=lambda n: len(self._folded[n]))

    def _worth(self, n: int, exact: int, asked: str, wanted: list[str]) -> tuple[int, int]:
        title = self._folded[n]
        if n == exact:
            return 0, 0
        if n in self._called.get(asked, ()):
            return 1, len(title)
        if f"{title} ".startswith(f"{asked} "):
            return 2, len(title)
        have = title.split()
        return (3 if all(word in have for word in wanted) else 4), len(title)

    def named(self, text: str) -> list[int]:
        """Indices of the items that are called so: by the title as it stands, else by one of its
        :func:`spellings`."""
        (key,) = title_keys([text])
        return self._of_key.get(key) or self._called.get(folded(text), [])

    def item_of(self, text: str) -> int:
        """Index of the item that a title names, UNKNOWN where none has it or several could be meant.

        Of several items whose titles are the very same it is the first.
        """
        found = self.named(text)
        (key,) = title_keys([text])
        return found[0] if len(found) == 1 or key in self._of_key else UNKNOWN

    def chosen(self, text: str, where: str) -> int:
        """Index of the one item that a person means; UNKNOWN where no title has all the words.

        Args:
            where: they come from, for a refusal.

        Raises:
            DataError: several could be meant, which are named with their ids; or there are no words.
        """
        if not text.strip():
            raise DataError(f"{where} is {text!r}", "give the words of a title")
        index = self.item_of(text)
        if index != UNKNOWN:
            return index
        found = self.named(text) or self.find(text)
        if len(found) < 2:
            return found[0] if found else UNKNOWN
        few = [f"{self.catalog.item_id(n)!r} {self.catalog.title(n)}" for n in found[:SHOWN]]
        more = f" and {len(found) - SHOWN} more" if found[SHOWN:] else ""
        raise DataError(
            f"{where} {text!r} may be {len(found)} items: {'; '.join(few)}{more}",
            "give the id of the one that is meant, or more of its title",
        )

    @cached_property
    def _folded(self) -> list[str]:
        return [folded(title) for title in self.catalog.titles]

    @cached_property
    def _joined(self) -> list[str]:
        """What can hold a word of a query: a title and the same without spaces."""
        return [f"{title} {title.replace(' ', '')}" for title in self._folded]

    @cached_property
    def _of_key(self) -> dict[str, list[int]]:
        return _index((key,) for key in title_keys(self.catalog.titles))

    @cached_property
    def _called(self) -> dict[str, list[int]]:
        return _index(spellings(title) for title in self.catalog.titles)


def _index(names: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Name -> the numbers of the rows that have it, ascending."""
    out: dict[str, list[int]] = {}
    for number, row in enumerate(names):
        for name in row:
            out.setdefault(name, []).append(number)
    return out


def _holds(title: str, word: str) -> bool:
    """Whether a word of the title holds ``word``, or words in a row begin with it (spider man)."""
    if word in title:
        return True
    have = title.split()
    return any("".join(have[start:]).startswith(word) for start in range(len(have)))
