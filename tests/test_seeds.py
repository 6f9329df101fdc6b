"""Draws that have nothing to do with each other have numbers of their own."""

import numpy as np

from sasrecllm import seeds


def test_no_two_draws_share_a_number_but_those_that_say_so():
    names = [n for n, v in vars(seeds).items() if n.isupper() and isinstance(v, int)]
    shared = {"COLD_ITEMS", "LLM_HOLDOUT_USERS"}
    numbers = [getattr(seeds, n) for n in names if n not in shared - {"COLD_ITEMS"}]
    assert len(names) >= 8 and len(set(numbers)) == len(numbers)


def test_the_mixer_is_splitmix64():
    """Its first numbers from the state 1234567, as its authors' program prints them."""
    state, step = np.uint64(1234567), np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        states = state + np.arange(3, dtype=np.uint64) * step
    assert seeds.mixed(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423
    ]  # fmt: skip
