"""Rows of a table, each divided by its length."""

from __future__ import annotations

import numpy as np

from sasrecllm.types import FloatArray


def unit_rows(table_ND: FloatArray) -> FloatArray:
    """Each row divided by its length, [N, D]; a row of zeros stays as it is."""
    lengths_N1 = np.linalg.norm(table_ND, axis=1, keepdims=True)
    return np.asarray(table_ND / np.where(lengths_N1 > 0, lengths_N1, 1.0))
