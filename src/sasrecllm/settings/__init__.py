"""Every setting once: its default, what it may be, and what it means.

docs/settings.md is made from these sections, and the components (encoders, mapper, adapter, offline
language model, fusion) have the same defaults, so a notebook without a configuration builds what YAML
would.  Where settings come from, and how a wrong one is refused, is :mod:`sasrecllm.config`'s business.
"""

from sasrecllm.settings.lists import CHANNELS, Evaluation, Lists, NextItem, Ranking
from sasrecllm.settings.log import Data, Recommend
from sasrecllm.settings.loops import (
    AnswersLoop,
    EncoderLoop,
    Loop,
    LoopSettings,
    NextItemLoop,
    TitlesLoop,
)
from sasrecllm.settings.models import (
    LLM,
    READ_TITLES,
    Encoder,
    Fusion,
    ItemFeatures,
    Lora,
    Mapper,
    Offline,
)
from sasrecllm.settings.section import Section
from sasrecllm.settings.update import Update
from sasrecllm.settings.whole import Config

__all__ = [
    "CHANNELS",
    "LLM",
    "READ_TITLES",
    "AnswersLoop",
    "Config",
    "Data",
    "Encoder",
    "EncoderLoop",
    "Evaluation",
    "Fusion",
    "ItemFeatures",
    "Lists",
    "Loop",
    "LoopSettings",
    "Lora",
    "Mapper",
    "NextItem",
    "NextItemLoop",
    "Offline",
    "Ranking",
    "Recommend",
    "Section",
    "TitlesLoop",
    "Update",
]
