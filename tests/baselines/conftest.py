"""What several tests of baselines ask."""

import numpy as np
import pytest

from sasrecllm.types import Histories


@pytest.fixture(scope="session")
def asked():
    """``asked(*rows, disliked=())``: one question of an unknown user for each list of items, all liked
    but those ``disliked``."""
    return _asked


def _asked(*rows, disliked=()):
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    n = len(rows)
    return Histories(
        np.full(n, -1), items, np.array([i not in disliked for i in items], dtype=np.int8),
        np.arange(len(items)), np.cumsum([0, *map(len, rows)]), np.full(n, 99),
    )  # fmt: skip
