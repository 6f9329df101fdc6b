"""The parts of one run, put together: the only place where settings, data and weights meet.

Training stages, the results table and the served recommender all take their parts from here, so
there is no second way to build or to load one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sasrecllm.baselines.features import ItemFeatures
from sasrecllm.baselines.table import BASELINES
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.user_regression import Taste
from sasrecllm.baselines.user_regression_terms import TASTES
from sasrecllm.checkpoint import load_part, save_part
from sasrecllm.config import Config
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.loading import load_checked
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.encoders.table import build_encoder
from sasrecllm.errors import CheckpointError, ConfigError, DataError
from sasrecllm.evaluation.ablations import StrangersVectors
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.fusion import Fusion, FusionWeights
from sasrecllm.llm.loading import load_backbone
from sasrecllm.llm.mapper import build_mapper
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.llm.sources import located
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.template import Template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.stages.plan import Stage
from sasrecllm.types import FloatArray, Histories, Scorer


@dataclass(frozen=True)
class Change:
    """What an ablation takes away from the language model."""

    zero_soft: bool = False
    blank_titles: bool = False
    swap_titles: bool = False
    strangers: Histories | None = None
    """Histories whose users' vectors stand in for the asked user's."""


def base_model(config: Config, path: str, device: str) -> Backbone:
    """The language model at ``path`` as configured, without an adapter."""
    c = config.llm
    quantize = None if c.quantize == "none" else c.quantize
    return load_backbone(located(path), dtype=c.dtype, quantize=quantize, device=device)


def adapt(backbone: Backbone, config: Config) -> Backbone:
    """The same language model with the configured adapter."""
    c = config.llm.lora
    add_lora(backbone, r=c.r, alpha=c.alpha, dropout=c.dropout, targets=c.targets, seed=config.seed)
    return backbone


class Assembly:
    """Parts are built when first asked for; a stage's :class:`~sasrecllm.types.Scorer` is made here.

    Args:
        config: the run's settings.
        dataset: the prepared data.
        backbone_path: hub id or folder of the language model (the run's own for ``offline``).
        device: ``cpu`` or ``cuda``.
        templates: the run's own of the ``text`` and the ``soft`` prompt.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        backbone_path: str,
        device: str,
        templates: Mapping[str, Template],
    ) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.backbone_path, self.templates = backbone_path, templates
        self.fusion: FusionWeights | None = None
        self._titles: dict[str, TitleTokens] = {}
        train = dataset.rows("train")
        self.train_rows = TrainRows(
            dataset.users[train],
            dataset.items[train],
            dataset.labels[train],
            n_users=dataset.n_users,
            n_items=dataset.n_items,
            seed=config.seed,
            times=dataset.times[train] if dataset.has_times else None,
        )

    @cached_property
    def features(self) -> ItemFeatures:
        """Columns for attributes, years and title words, fixed on the catalogue."""
        c, catalog = self.config.taste, self.dataset.catalog
        chosen = {name: catalog.attributes[name] for name in c.attributes}
        return ItemFeatures.fit(catalog.titles, chosen, words=c.words)

    @cached_property
    def item_features(self) -> list[FloatArray]:
        """Feature groups [I, F] of the catalogue's items."""
        return self.features_from(self.dataset.catalog, 0)

    def features_from(self, catalog: Catalog, start: int) -> list[FloatArray]:
        """Feature groups of the items of ``catalog`` from index ``start`` on."""
        chosen = {name: values[start:] for name, values in catalog.attributes.items()}
        return self.features.groups(catalog.titles[start:], chosen)

    @cached_property
    def taste(self) -> Taste:
        """The per-user regression, its shared part fitted on the training split."""
        data = self.dataset
        train = data.rows("train")
        return Taste.fit(
            data.users[train],
            data.items[train],
            data.labels[train],
            self.item_features,
            n_users=data.n_users,
            n_items=data.n_items,
        )

    def new_encoder(self, seed: int) -> SequentialEncoder:
        """A fresh encoder as configured, which knows the items of the training split."""
        c = self.config.encoder
        return build_encoder(
            c.kind,
            seed=seed,
            n_items=self.dataset.n_items,
            n_users=self.dataset.n_users,
            width=c.width,
            blocks=c.blocks,
            heads=c.heads,
            length=c.length,
            dropout=c.dropout,
            likes_only=c.likes_only,
            item_bias=c.item_bias,
            user_bias=c.user_bias,
            seen_items=self.dataset.seen_items,
        ).to(self.device)

    @cached_property
    def encoder(self) -> SequentialEncoder:
        """The run's collaborative encoder."""
        return self.new_encoder(self.config.seed)

    @cached_property
    def backbone(self) -> Backbone:
        """The language model with its adapter; the adapter starts as the identity."""
        try:
            return adapt(base_model(self.config, self.backbone_path, self.device), self.config)
        except (ConfigError, DataError) as error:
            if self.config.llm.backbone != "offline":
                raise
            raise CheckpointError(  # nobody chose these files: we wrote them
                f"the run's own language model is damaged: {error.what}",
                "restore the run from a copy, or train it again",
            ) from error

    @cached_property
    def model(self) -> SoftTokenLLM:
        """Language model and mapper; text prompts leave the mapper unused."""
        c = self.config.mapper
        mapper = build_mapper(
            c.kind,
            width=self.encoder.width,
            hidden=c.hidden,
            llm_width=self.backbone.hidden_size,
            tokens=c.tokens,
            logit=c.logit,
            embedding_norm=self.backbone.embedding_norm,
            seed=self.config.seed,
        )
        builder = self.builder("soft")
        return SoftTokenLLM(self.backbone, mapper, builder.yes_id, builder.no_id).to(self.device)

    def titles(self, lead: str) -> TitleTokens:
        """The catalogue's titles with what stands before each in a template, tokenised once."""
        if lead not in self._titles:
            catalog, most = self.dataset.catalog, self.config.llm.title_tokens
            self._titles[lead] = TitleTokens(self.backbone.tokenizer, catalog.titles, most, lead)
        return self._titles[lead]

    def builder(self, prompt: str) -> PromptBuilder:
        """Prompt builder of the ``text`` or the ``soft`` template."""
        c = self.config.llm
        template = self.templates[prompt]
        slots = self.dataset.seen_items if self.config.mapper.new_items == "no slot" else None
        return PromptBuilder(
            template,
            self.backbone.tokenizer,
            self.titles(template.lead),
            self.dataset.words,
            history_length=c.history,
            max_tokens=c.max_tokens,
            soft_tokens=self.config.mapper.tokens,
            item_slots=slots,
        )

    # Parts on disk -------------------------------------------------------------------------------

    def requires(self, part: str) -> dict[str, str]:
        """Digests that a part on disk must have been trained with."""
        catalog = {"catalog": self.dataset.catalog.digest}
        if part in ("adapter", "mapper"):
            return {"backbone": self.backbone.digest}
        return catalog

    def save(self, part: str, folder: Path) -> None:
        """Commit one part."""
        if part == "encoder":
            tensors, about = self.encoder.state_dict(), self.encoder.config
        elif part == "mapper":
            tensors, about = self.model.mapper.state_dict(), self.model.mapper.config
        elif part == "adapter":
            tensors, about = self.backbone.adapter_tensors(), self.backbone.adapter_config
        else:
            assert self.fusion is not None
            tensors, about = {}, self.fusion.to_dict()
        save_part(folder, tensors, about, self.requires(part))

    def read(self, part: str, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and config of a part on disk, checked against this run's data and LLM."""
        return load_part(folder, self.requires(part))

    def load(self, part: str, folder: Path) -> None:
        """Load one part, strictly.

        Raises:
            CheckpointError: damaged, of another shape, or trained with other data or another LLM.
        """
        tensors, about = self.read(part, folder)
        try:
            self._take(part, tensors, about)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder} does not describe the part {part}: {type(error).__name__}: {error}",
                "use a part that sasrecllm wrote, or train this part here",
            ) from error

    def _take(self, part: str, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        if part == "encoder":
            load_checked(self.encoder, tensors, about)
        elif part == "mapper":
            self.model.mapper.load_checked(tensors, about)
        elif part == "adapter":
            self.backbone.load_adapter(tensors, about)
        else:
            self.fusion = FusionWeights.from_dict(about)
            for name in self.fusion.components:
                if name not in ("llm", "encoder", *TASTES, *BASELINES):
                    raise ValueError(f"there is no component {name!r}")

    # Scorers -------------------------------------------------------------------------------------

    def scorer(self, stage: Stage, prompt: str, change: Change | None = None) -> Scorer:
        """The scorer that ``stage`` ends with.

        Args:
            prompt: of the last answer stage up to this one; used by the fusion.
        """
        if stage.task in ("encode", "prior"):
            return EncoderScorer(stage.row, self.encoder)
        if stage.task == "answer":
            return self.llm_scorer(stage.row, stage.prompt, change)
        assert self.fusion is not None
        return Fusion(
            stage.row,
            self.fusion,
            [self.component(name, prompt, change) for name in self.fusion.components],
            self.dataset.seen_items,
        )

    def llm_scorer(self, name: str, prompt: str, change: Change | None = None) -> LLMScorer:
        """The language model as a scorer, with the weights that it has now."""
        change = change or Change()
        builder = self.builder(prompt)
        if change.blank_titles:
            builder = builder.with_titles(builder.titles.blanked())
        if change.swap_titles:
            builder = builder.with_titles(builder.titles.swapped(self.config.seed))
        encoder: Any = self.encoder if prompt == "soft" else None
        if encoder is not None and change.strangers is not None:
            encoder = StrangersVectors(encoder, change.strangers, self.config.seed)
        return LLMScorer(
            name,
            self.model,
            builder,
            encoder=encoder,
            batch_size=self.config.llm.score_batch,
            zero_soft=change.zero_soft,
        )

    def component(self, name: str, prompt: str, change: Change | None = None) -> Scorer:
        """One summand of the fusion: ``llm``, ``encoder`` or a baseline's name."""
        if name == "llm":
            return self.llm_scorer("llm", prompt, change)
        if name == "encoder":
            return EncoderScorer("encoder", self.encoder)
        if name in TASTES:
            return TASTES[name](self.taste)
        return BASELINES[name](self.train_rows)

    def trainable_counts(self, *, llm: bool = True) -> dict[str, int]:
        """Parameters of each part (the adapter's and the mapper's are what the paper trains)."""
        encoder = sum(p.numel() for p in self.encoder.parameters())
        if not llm:
            return {"encoder": encoder}
        adapter = sum(t.numel() for t in self.backbone.adapter_tensors().values())
        return {
            "encoder": encoder,
            "adapter": adapter,
            "mapper": sum(p.numel() for p in self.model.mapper.parameters()),
            "language model without adapter": sum(p.numel() for p in self.backbone.parameters())
            - adapter,
        }
