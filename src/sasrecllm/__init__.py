"""SASRec, a LoRA-tuned language model and soft tokens between them.

The public API; every name is imported when it is first used, so ``import sasrecllm`` is cheap.
"""

from __future__ import annotations

import importlib

# Not from typing: `python -m sasrecllm` reads this file while the current folder still stands first.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sasrecllm.config import load_config
    from sasrecllm.data.dataset import Dataset
    from sasrecllm.data.ingest.sources import load_tables
    from sasrecllm.data.prepare import prepare
    from sasrecllm.encoders.sasrec import SASRec
    from sasrecllm.errors import SasrecllmError
    from sasrecllm.evaluation.protocol import evaluate
    from sasrecllm.inference.recommender import SASRecLLM
    from sasrecllm.inference.requests import NewItem, Title
    from sasrecllm.settings import Config
    from sasrecllm.types import Histories, Questions, Scorer, SequenceEncoder

_HOMES = {
    "Config": "settings",
    "Dataset": "data.dataset",
    "Histories": "types",
    "Questions": "types",
    "NewItem": "inference.requests",
    "SASRec": "encoders.sasrec",
    "SASRecLLM": "inference.recommender",
    "SasrecllmError": "errors",
    "Scorer": "types",
    "SequenceEncoder": "types",
    "Title": "inference.requests",
    "evaluate": "evaluation.protocol",
    "load_config": "config",
    "load_tables": "data.ingest.sources",
    "prepare": "data.prepare",
}

__all__ = [
    "Config",
    "Dataset",
    "Histories",
    "NewItem",
    "Questions",
    "SASRec",
    "SASRecLLM",
    "SasrecllmError",
    "Scorer",
    "SequenceEncoder",
    "Title",
    "evaluate",
    "load_config",
    "load_tables",
    "prepare",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sasrecllm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sasrecllm.{_HOMES[name]}"), name)
