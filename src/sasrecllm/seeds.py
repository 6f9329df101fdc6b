"""One seed, many draws that have nothing to do with each other: what is drawn has a number of its own.

A draw whose second number counts something else (the epoch of a batch plan, the users of a fold) has
none here; none of them permutes what another one does.

``np.random.default_rng([seed, CROSSFIT_FOLDS])`` draws the same whatever else is drawn.  A number never
changes its meaning, for a run's division of users and its lists depend on it.  (Held-out items and
held-out users of the language model share theirs: one permutes items, the other users.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]

WORLD_TITLES = 1
LANGUAGE_DOCUMENTS = 3
CROSSFIT_FOLDS = 7
COLD_ITEMS = LLM_HOLDOUT_USERS = 11
COLD_USERS = 13
RANKING_LISTS = 17
SERVED_LISTS = 19
SWAPPED_TITLES = 23
VALIDATION_LIKES = 29
PRETENDED_NEW = 31
RERANKED_LIKES = 37
VALIDATION_USERS = 41
VIEW_ITEMS = 43
REPLAY = 47
NEW_USERS = 53


def mixed(bits: Bits) -> Bits:
    """A well-mixed number for each number: SplitMix64's step and finaliser.

    Every bit of the input moves every bit of the output.
    Source: Steele, Lea & Flood, OOPSLA 2014, figure 17 (variant 13 of Stafford's mixers).
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it should
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
