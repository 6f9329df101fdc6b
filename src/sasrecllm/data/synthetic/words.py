"""Words of the known world, and its titles out of them.

Every theme has words of its own, the most typical first, and the generator draws the first ones
oftener, as titles do.  Qualifiers, places and patterns are neutral.  So a title betrays its theme
and nothing else.  No word stands in two lists, and a test holds that.
"""

from __future__ import annotations

from math import prod

import numpy as np

from sasrecllm.types import FloatArray


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


THEMES: dict[str, tuple[str, ...]] = {
    "sea": _words(
        "Harbour Tide Sailor Island Captain Lighthouse Reef Voyage Anchor Storm Mast Gull Lagoon"
        " Shipwreck Mermaid Cove"
    ),
    "war": _words(
        "Soldier Battle Trench General Regiment Siege Rifle Medal Front Bugle Barracks March"
        " Grenade Armistice Deserter Tank"
    ),
    "space": _words(
        "Planet Rocket Galaxy Orbit Comet Astronaut Nebula Starship Meteor Moonbase Eclipse Void"
        " Satellite Robot Alien Cosmos"
    ),
    "cooking": _words(
        "Kitchen Recipe Chef Feast Bakery Spice Supper Oven Butter Pastry Saffron Vineyard Dumpling"
        " Menu Honey Orchard"
    ),
    "romance": _words(
        "Kiss Bride Wedding Sweetheart Letter Promise Waltz Valentine Bouquet Embrace Darling Vow"
        " Proposal Honeymoon Heartbreak Suitor"
    ),
    "court": _words(
        "Verdict Judge Trial Witness Lawyer Jury Alibi Evidence Oath Appeal Prosecutor Bailiff"
        " Testimony Defendant Motive Inquest"
    ),
    "horror": _words(
        "Ghost Curse Vampire Crypt Scream Demon Coffin Shadow Werewolf Graveyard Haunting Fang"
        " Exorcist Witch Dungeon Zombie"
    ),
    "west": _words(
        "Sheriff Outlaw Saddle Canyon Ranch Cowboy Prairie Revolver Stagecoach Saloon Mustang Spur"
        " Lasso Bandit Posse Homestead"
    ),
    "music": _words(
        "Melody Piano Concert Violin Ballad Orchestra Drummer Chorus Serenade Trumpet Encore"
        " Lullaby Cabaret Symphony Guitar Rhapsody"
    ),
    "sport": _words(
        "Champion Goal Stadium Boxer League Trophy Sprint Coach Referee Racket Marathon Goalkeeper"
        " Tournament Medallist Olympiad Wrestler"
    ),
}

QUALIFIERS: tuple[str, ...] = _words(
    "Silent Last Golden Broken Hidden Second Lonely Distant Forgotten Secret Crimson Endless Little"
    " Burning Winter Summer Midnight First Stolen Quiet Iron Velvet Wild Perfect"
)

PLACES: tuple[str, ...] = _words(
    "Provence Lisbon Bergen Havana Kyoto Vienna Odessa Texas Dublin Cairo Bombay Siena"
)

PATTERNS: tuple[str, ...] = (
    "The {q} {a}",
    "The {a} of {p}",
    "{a} and {b}",
    "The {a} of the {b}",
    "The {q} {a} and the {b}",
    "{b} {a}",
    "{a} of the {q} {b}",
    "The {a}, the {b}",
)
"""``{a}`` and ``{b}`` are words of the theme, ``{q}`` a qualifier, ``{p}`` a place."""


def titles_of_a_theme(nouns: int) -> int:
    """How many different titles ``nouns`` words allow."""
    sizes = {"{a}": nouns, "{b}": nouns - 1, "{q}": len(QUALIFIERS), "{p}": len(PLACES)}
    return sum(prod(n for slot, n in sizes.items() if slot in pattern) for pattern in PATTERNS)


def make_titles(
    rng: np.random.Generator, themes: list[str], nouns: int
) -> tuple[list[str], FloatArray]:
    """A unique title for each of ``themes`` [I], and its appeal [I].

    Every noun and qualifier is worth something to everybody, drawn from a normal distribution; the
    appeal of a title is the sum over its words, standardised.
    """
    pool = [w for words in THEMES.values() for w in words] + list(QUALIFIERS)
    worth = dict(zip(pool, rng.normal(size=len(pool)), strict=True))
    typical = 1 / (np.arange(nouns) + 3.0)
    titles: dict[str, float] = {}
    for theme in themes:
        size = len(titles)
        while len(titles) == size:
            a, b = rng.choice(nouns, 2, replace=False, p=typical / typical.sum())
            filling = {
                "a": THEMES[theme][a],
                "b": THEMES[theme][b],
                "q": QUALIFIERS[rng.integers(len(QUALIFIERS))],
                "p": PLACES[rng.integers(len(PLACES))],
            }
            pattern = PATTERNS[rng.integers(len(PATTERNS))]
            used = [word for slot, word in filling.items() if f"{{{slot}}}" in pattern]
            titles.setdefault(pattern.format(**filling), sum(worth.get(w, 0.0) for w in used))
    values = np.array(list(titles.values()))
    return list(titles), np.asarray((values - values.mean()) / values.std(), dtype=np.float64)
