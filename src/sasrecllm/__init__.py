"""SASRec, a LoRA-tuned language model and soft tokens between them.

The public API; every name is imported when it is first used, so ``import sasrecllm`` is cheap.
"""

from __future__ import annotations

# Not from typing: `python -m sasrecllm` reads this file while the current folder still stands first.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sasrecllm.client import Client
    from sasrecllm.config import load_config
    from sasrecllm.data.dataset import Dataset
    from sasrecllm.data.ingest.sources import load_tables
    from sasrecllm.data.prepare import prepare
    from sasrecllm.encoders.sasrec import SASRec
    from sasrecllm.errors import SasrecllmError
    from sasrecllm.evaluation.protocol import evaluate
    from sasrecllm.fitting import fit
    from sasrecllm.inference.explain import Explanation
    from sasrecllm.inference.requests import NewItem, Recommendation, Title
    from sasrecllm.settings import Config
    from sasrecllm.trained import SASRecLLM, update
    from sasrecllm.types import Histories, Questions, Scorer, SequenceEncoder

_HOMES = {
    "Client": "client",
    "Config": "settings",
    "Dataset": "data.dataset",
    "Explanation": "inference.explain",
    "Histories": "types",
    "NewItem": "inference.requests",
    "Questions": "types",
    "Recommendation": "inference.requests",
    "SASRec": "encoders.sasrec",
    "SASRecLLM": "trained",
    "SasrecllmError": "errors",
    "Scorer": "types",
    "SequenceEncoder": "types",
    "Title": "inference.requests",
    "evaluate": "evaluation.protocol",
    "fit": "fitting",
    "load_config": "config",
    "load_tables": "data.ingest.sources",
    "prepare": "data.prepare",
    "update": "trained",
}

__all__ = [
    "Client",
    "Config",
    "Dataset",
    "Explanation",
    "Histories",
    "NewItem",
    "Questions",
    "Recommendation",
    "SASRec",
    "SASRecLLM",
    "SasrecllmError",
    "Scorer",
    "SequenceEncoder",
    "Title",
    "evaluate",
    "fit",
    "load_config",
    "load_tables",
    "prepare",
    "update",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sasrecllm' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"sasrecllm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name[:2] == name[-2:] == "__")})
