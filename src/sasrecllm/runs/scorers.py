"""Scorers made of a run's parts, with the weights that these have now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sasrecllm.baselines.table import baseline_of
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.evaluation.ablated_scorers import Change, StrangersVectors
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.runs.channels import CHANNEL_SPLITS, make_channels
from sasrecllm.runs.system import System
from sasrecllm.types import Scorer


def llm_scorer(system: System, name: str, prompt: str, change: Change | None = None) -> LLMScorer:
    """The language model as a scorer, with the weights that it has now."""
    change = change or Change()
    builder = system.builder(prompt)
    if change.blank_titles:
        builder = builder.with_titles(builder.titles.blanked())
    if change.swap_titles:
        builder = builder.with_titles(builder.titles.swapped(system.config.seed))
    encoder: Any = system.encoder if prompt == "soft" else None
    if encoder is not None and change.strangers is not None:
        encoder = StrangersVectors(encoder, change.strangers, system.config.seed)
    return LLMScorer(
        name,
        system.model,
        builder,
        encoder=encoder,
        batch_size=system.config.llm.score_batch,
        zero_soft=change.zero_soft,
    )


def component(system: System, name: str, prompt: str, change: Change | None = None) -> Scorer:
    """One summand of the fusion: ``llm``, ``encoder`` or a baseline's name."""
    if name == "llm":
        return llm_scorer(system, "llm", prompt, change)
    if name == "encoder":
        return EncoderScorer("encoder", system.encoder)
    return baseline_of(name, "a baseline")(system.train_rows)


def best_channel(system: System, shown: Collection[str]) -> Iterator[Scorer]:
    """The channel of lists that is best alone, made as it is served; none where ``shown`` names it."""
    best = "" if system.list_fusion is None else system.list_fusion.best_channel
    if best and best not in shown:
        for channel in make_channels([best], system, system.interactions(CHANNEL_SPLITS)):
            assert isinstance(channel, Scorer)
            yield channel
