"""Words of the known world: what its titles are made of.

Every theme has nouns and qualifiers of its own; the patterns and places are neutral, so a title's
theme can be read from its words and nothing else can.
"""

from __future__ import annotations

THEMES: dict[str, tuple[str, ...]] = {
    "sea": tuple(["Harbour", "Tide", "Sailor", "Reef", "Anchor", "Captain", "Lighthouse", "Storm", "Voyage", "Island", "Mast", "Gull"]),
    "war": tuple(["Battle", "Soldier", "Trench", "Regiment", "Bugle", "Siege", "Rifle", "General", "Front", "Medal", "March", "Barracks"]),
    "space": tuple(["Orbit", "Comet", "Galaxy", "Rocket", "Nebula", "Planet", "Astronaut", "Moonbase", "Starship", "Eclipse", "Meteor", "Void"]),
    "cooking": tuple(["Kitchen", "Recipe", "Chef", "Oven", "Spice", "Bakery", "Feast", "Butter", "Saffron", "Supper", "Pastry", "Vineyard"]),
    "romance": tuple(["Kiss", "Bride", "Letter", "Waltz", "Sweetheart", "Wedding", "Promise", "Valentine", "Bouquet", "Darling", "Embrace", "Vow"]),
    "court": tuple(["Verdict", "Judge", "Witness", "Lawyer", "Trial", "Jury", "Alibi", "Oath", "Prosecutor", "Evidence", "Appeal", "Bailiff"]),
    "horror": tuple(["Ghost", "Crypt", "Vampire", "Curse", "Scream", "Coffin", "Werewolf", "Haunting", "Shadow", "Demon", "Graveyard", "Fang"]),
    "west": tuple(["Saddle", "Sheriff", "Canyon", "Outlaw", "Ranch", "Stagecoach", "Prairie", "Revolver", "Cowboy", "Saloon", "Mustang", "Spur"]),
    "music": tuple(["Melody", "Piano", "Concert", "Violin", "Ballad", "Drummer", "Orchestra", "Chorus", "Serenade", "Trumpet", "Encore", "Lullaby"]),
    "sport": tuple(["Goal", "Champion", "Stadium", "Boxer", "Referee", "League", "Sprint", "Trophy", "Coach", "Racket", "Marathon", "Goalkeeper"]),
}  # fmt: skip

QUALIFIERS: tuple[str, ...] = tuple(
    [
        "Silent",
        "Last",
        "Golden",
        "Broken",
        "Hidden",
        "Second",
        "Lonely",
        "Distant",
        "Forgotten",
        "Secret",
        "Red",
        "Endless",
        "Little",
        "Burning",
        "Winter",
        "Summer",
        "Midnight",
        "First",
        "Stolen",
        "Quiet",
    ]
)

PATTERNS: tuple[str, ...] = (
    "The {q} {a}",
    "{q} {a}",
    "{a} and {b}",
    "The {a} of the {b}",
    "{a} {b}",
    "The {a} and the {q} {b}",
)
