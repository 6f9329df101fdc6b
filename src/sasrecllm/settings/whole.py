"""The settings of a complete run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sasrecllm.errors import ConfigError
from sasrecllm.machine.device import NAMED, NAMES
from sasrecllm.machine.durations import seconds_of
from sasrecllm.names import refuse_folder_name
from sasrecllm.settings.lists import Evaluation, Lists
from sasrecllm.settings.log import Data, Recommend
from sasrecllm.settings.models import LLM, Encoder, Fusion, ItemFeatures, Mapper
from sasrecllm.settings.section import MOST_SEED, Section
from sasrecllm.settings.update import Update


class Config(Section):
    """A complete run."""

    name: str = Field("", description="of the run, in its report; without one its folder's name")
    budget: str = Field(
        "",
        description="what the run may take on this machine, for example 90s, 15m or 1h30m; to end near"
        " it, it chooses what nobody named (docs/recipes.md); empty: as long as it takes",
    )
    quick: bool = Field(
        False,
        description="no language model and one small encoder: lists in a minute; the same run without"
        " it goes on from there",
    )
    chosen: dict[str, Any] = Field(
        default_factory=dict,
        description="written by the run: what it chose for what nobody named (docs/recipes.md)",
    )
    seed: int = Field(0, ge=0, le=MOST_SEED, description="of every random draw")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: torch's own choice")
    track: Literal["none", "tensorboard", "mlflow", "wandb"] = Field(
        "none",
        description="tracker that gets losses, validations and the table too; may change in a run",
    )
    data: Data = Field(Data(), description="the log and the items")
    encoder: Encoder = Field(Encoder(), description="the collaborative encoder")
    llm: LLM = Field(LLM(), description="the language model")
    mapper: Mapper = Field(Mapper(), description="from encoder vectors to soft tokens")
    strategy: str | list[dict[str, Any]] = Field(
        "hierarchical-freezing",
        description="dual-stage, hierarchical-freezing, plug-and-play, encoder-only, text-only,"
        " text-beside-encoder, mapper-only, joint, no-network, or a list of stages (docs/extending.md)",
    )
    item_features: ItemFeatures = Field(
        ItemFeatures(), description="what describes an item to the user regression and the title prior"
    )
    fusion: Fusion = Field(Fusion(), description="the sum of all scores")
    lists: Lists = Field(Lists(), description="what orders the lists of recommend")
    recommend: Recommend = Field(Recommend(), description="what may be recommended")
    evaluation: Evaluation = Field(Evaluation(), description="how results are measured")
    update: Update = Field(Update(), description="what it goes on from (`sasrecllm update`)")

    @field_validator("budget", mode="before")
    @classmethod
    def _is_a_duration(cls, budget: Any) -> Any:
        if budget != "":
            seconds_of(budget)
        return budget

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not NAMES.fullmatch(device):
            raise ValueError(NAMED)
        return device

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not name:
            return name
        try:
            refuse_folder_name("name", name)
        except ConfigError as error:
            raise ValueError(f"{error.what}; {error.remedy}") from None
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.encoder.width % self.encoder.heads:
            raise ValueError(
                f"encoder.width {self.encoder.width} is not a multiple of encoder.heads"
                f" {self.encoder.heads}"
            )
        named = isinstance(self.strategy, str)  # else its stages may have a prior of their own
        if self.item_features.vectors is not None and named and self.encoder.prior != "titles":
            raise ValueError(
                "item_features.vectors is for the title prior, but encoder.prior is"
                f" {self.encoder.prior}; set encoder.prior=titles, or leave the vectors out"
            )
        if self.encoder.item_updates == "touched" and self.encoder.loss == "softmax":
            raise ValueError(
                "encoder.item_updates is touched, but encoder.loss softmax touches every item;"
                " allowed with it: auto, all"
            )
        return self
