"""The data card of a run: that of its data, and what its training will cost, in words."""

from __future__ import annotations

from dataclasses import replace

from sasrecllm.data.card import DataCard, card_of
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.splits import TRAIN
from sasrecllm.settings import Config
from sasrecllm.stages.list_budget import prompts_of
from sasrecllm.stages.strategies import all_stages, asks_language_model, planned

FEW_LIKES = 2_000
"""Training likes below which more data helps more than more training."""


def run_card(config: Config, dataset: Dataset) -> DataCard:
    """The card of a run's data, with advice on what to spend on it."""
    card = card_of(dataset)
    advice = (*card.advice, *idle_threshold(config, card), budget_advice(config, dataset))
    return replace(card, advice=advice)


def idle_threshold(config: Config, card: DataCard) -> list[str]:
    """That a threshold was named which nothing is held against; empty where ratings are."""
    usual = type(config.data).model_fields["threshold"].default
    if card.feedback == "ratings" or config.data.threshold == usual:
        return []
    return [
        f"threshold: data.threshold={config.data.threshold:g} has no effect, for no column of numbers"
        " is read as a rating; one is named with 'data.columns.rating=<name in your file>'"
    ]


def budget_advice(config: Config, dataset: Dataset) -> str:
    """What training on this data costs, and which setting spends less or more."""
    likes = dataset.tally.liked(TRAIN)
    few = f"; {likes:,} training likes are few, and more of them help more than more training"
    if config.budget:
        said = f"budget: --budget {config.budget} chooses what is trained, and says so"
    elif asks_language_model(config):
        prompts = prompts_of(config, dataset, planned(config))
        said = (
            f"budget: the language model reads about {prompts:,} prompts (a step of training counts as"
            " three); --budget 15m fits the run into a time, and strategy=encoder-only reads none"
        )
    else:
        trains = any("next_item" in stage.train for stage in all_stages(config).values())
        most = f"lists.next_item.seconds={config.lists.next_item.seconds:g}"
        said = f"budget: the next-item encoder costs {most} at most" if trains else "budget"
        said += "; " if trains else ": "
        said += "--budget 15m fits the run into a time"
    return said + (few if likes < FEW_LIKES else "")
