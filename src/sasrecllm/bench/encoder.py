"""Training SASRec: the public task and step against a bare loop, a padded one, and the floor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sasrecllm.bench.measure import Finding, compare, largest_gap, matrix_rate
from sasrecllm.data.sequences import Windows
from sasrecllm.encoders.sasrec import SASRec
from sasrecllm.runtime import Progress
from sasrecllm.training.loop import fit
from sasrecllm.training.pretrain import EncoderTask
from sasrecllm.training.settings import LoopSettings
from sasrecllm.types import Histories, Questions

USERS, ITEMS, LENGTH, WIDTH, BATCH = 2576, 3000, 50, 64, 128


class NoStore:
    """A checkpoint store that keeps nothing: training is what is measured."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None
