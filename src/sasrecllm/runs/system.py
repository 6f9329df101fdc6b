"""The parts of one run, put together: the only place where settings, data and weights meet.

Training stages, the results table and the served recommender all take their parts from here, so
there is no second way to build or to load one (:mod:`sasrecllm.runs.parts` says how each is kept).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.baselines.features import ItemFeatures
from sasrecllm.baselines.title_words import WordLikeness
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.checkpoint import load_part, save_part
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.crossfit import CrossFitted, fold_of_user
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.encoders.table import build_encoder
from sasrecllm.errors import CheckpointError
from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.score_fusion import FusionWeights
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.hub import cache_only
from sasrecllm.llm.mapper import build_mapper
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.machine.device import pick_device
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.chat import in_chat
from sasrecllm.prompts.template import Template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.runs.channels import NETWORK
from sasrecllm.runs.folder import FOLD, RunFolder, folds_beside
from sasrecllm.runs.kept_vectors import ItemVectors
from sasrecllm.runs.language_model import adapted, backbone_path, base_model
from sasrecllm.runs.parts import part_of
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.templates import stored_templates
from sasrecllm.settings import Config
from sasrecllm.types import FloatArray, IntArray


class System:
    """Parts are built when first asked for.

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
        self.list_fusion: ListFusion | None = None
        self.folds: list[SequentialEncoder] = []
        self.own: dict[str, Any] = {}
        """What parts that are not ours are made of."""
        self.origin: dict[str, Path] = {}
        """Part -> the folder whose weights it has now."""
        self.vectors = ItemVectors(self.plain_backbone)
        self._titles: dict[str, TitleTokens] = {}
        self.train_rows = self.interactions(("train",))

    @classmethod
    def new(cls, folder: RunFolder, config: Config, dataset: Dataset, device: str = "auto") -> System:
        """Untrained parts for a run that lies, or will lie, in ``folder``.

        Raises:
            CheckpointError: the run's own prompts are damaged.
        """
        path = backbone_path(folder, config)
        system = cls(config, dataset, path, pick_device(device), stored_templates(folder, config))
        system.vectors.data_folder = folder.data
        return system

    @classmethod
    def load(
        cls,
        folder: RunFolder,
        device: str = "auto",
        config: Config | None = None,
        dataset: Dataset | None = None,
        until: int | None = None,
    ) -> System:
        """All parts of a trained run, each as the last stage that has it left it; no hub is asked.

        Args:
            config, dataset: the run's, where the caller has them; else those in the folder.
            until: number of the last stage that counts; all without.

        Raises:
            CheckpointError: a part, the data or the settings are damaged.
        """
        config = config or stored_config(folder)
        system = cls.new(folder, config, dataset or stored_data(folder), device)
        with cache_only():
            system.bring_in(folder.newest_parts(None if until is None else until + 1))
        return system

    def interactions(self, splits: Sequence[str]) -> TrainRows:
        """The rows of ``splits``, as baselines and channels of lists are made of them."""
        data = self.dataset
        rows = np.sort(np.concatenate([data.rows(split) for split in splits]))
        return TrainRows(
            data.users[rows],
            data.items[rows],
            data.labels[rows],
            n_users=data.n_users,
            n_items=data.n_items,
            seed=self.config.seed,
            times=data.times[rows] if data.has_times else None,
            features=lambda: self.item_features,
        )

    @cached_property
    def features(self) -> ItemFeatures:
        """Columns for attributes, years and title words, fixed on the catalogue."""
        c, catalog = self.config.item_features, self.dataset.catalog
        chosen = {name: catalog.attributes[name] for name in c.attributes}
        return ItemFeatures.fit(catalog.titles, chosen, words=c.words)

    @cached_property
    def words(self) -> WordLikeness:
        """Likeness of what the catalogue's items are called, for lists."""
        catalog = self.dataset.catalog
        return WordLikeness.fit(catalog.titles, catalog.attributes)

    @cached_property
    def item_features(self) -> list[FloatArray]:
        """Feature groups [I, F] of the catalogue's items."""
        return self.features_from(self.dataset.catalog, 0)

    @property
    def item_vectors(self) -> FloatArray | None:
        """Vectors of the items, [I, D] (:attr:`.ItemVectors.own`)."""
        return self.vectors.own

    def plain_backbone(self) -> Backbone:
        """The language model as it was before training, loaded anew."""
        return base_model(self.config, self.backbone_path, self.device)

    def features_from(self, catalog: Catalog, start: int) -> list[FloatArray]:
        """Feature groups of the items of ``catalog`` from index ``start`` on."""
        chosen = {name: values[start:] for name, values in catalog.attributes.items()}
        return self.features.groups(catalog.titles[start:], chosen)

    def new_encoder(self, seed: int, **changes: Any) -> SequentialEncoder:
        """A fresh encoder as configured, which knows the items of the training split.

        Args:
            changes: settings of ``encoder`` that differ.
        """
        c = self.config.encoder.model_copy(update=changes)
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
            **c.args,
        ).to(self.device)

    @cached_property
    def encoder(self) -> SequentialEncoder:
        """The run's collaborative encoder."""
        return self.new_encoder(self.config.seed)

    @cached_property
    def next_item(self) -> SequentialEncoder:
        """An encoder of the same kind for lists: of likes alone, with a popularity of each item."""
        changes = {"likes_only": True, "item_bias": True, "user_bias": False}
        return self.new_encoder(self.config.seed, **changes)

    @property
    def list_encoder(self) -> SequentialEncoder:
        """The next-item encoder where the run has trained one, else its collaborative encoder."""
        return self.next_item if NETWORK in self.origin else self.encoder

    @property
    def retrieving_encoder(self) -> SequentialEncoder:
        """The collaborative encoder, or that of lists where the run has trained no other."""
        return self.encoder if "encoder" in self.origin else self.list_encoder

    @cached_property
    def backbone(self) -> Backbone:
        """The language model with its adapter; the adapter starts as the identity."""
        return adapted(self.config, self.backbone_path, self.device)

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
            encoder_logit=c.encoder_logit,
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
        template = in_chat(self.templates[prompt], self.backbone.tokenizer, c.chat)
        slots = self.dataset.seen_items if self.config.mapper.new_items == "no slot" else None
        return PromptBuilder(
            template,
            self.backbone.tokenizer,
            self.titles(template.lead),
            self.dataset.words,
            history_length=c.history,
            history_step=c.history_step,
            max_tokens=c.max_tokens,
            soft_tokens=self.config.mapper.tokens,
            item_slots=slots,
        )

    # Fold encoders -------------------------------------------------------------------------------

    @cached_property
    def fold_of_user(self) -> IntArray:
        """Which fold encoder never sees each user, [n_users]."""
        if self.dataset.former is not None:  # those of the run before have learnt by its division
            return self.dataset.former.folds
        return fold_of_user(self.dataset.n_users, self.config.encoder.folds, self.config.seed)

    def new_folds(self) -> list[SequentialEncoder]:
        """Fresh fold encoders, from the full encoder's seed: equal beginnings keep the spaces close."""
        self.folds = [self.new_encoder(self.config.seed) for _ in range(self.config.encoder.folds)]
        return self.folds

    def crossfitted(self) -> CrossFitted | None:
        """The fold encoders with the encoder that they go with, or None where there are none."""
        return CrossFitted(self.encoder, self.folds, self.fold_of_user) if self.folds else None

    def bring_in_folds(self, folder: RunFolder, before: int) -> None:
        """Load those beside the encoder in use; where it learnt jointly, the run's newest.

        Args:
            before: number of the stage that asks.
        """
        beside = folds_beside(self.origin["encoder"]) if "encoder" in self.origin else []
        found = beside or folder.newest_folds(before)
        self.folds = [self.new_encoder(self.config.seed) for _ in found if self.config.encoder.folds]
        for number, path in enumerate(found[: len(self.folds)]):
            self._load(f"{FOLD}{number}", path)

    # Parts on disk -------------------------------------------------------------------------------

    def save(self, part: str, folder: Path) -> None:
        """Commit one part."""
        row = part_of(part)
        tensors, about = row.save(self)
        save_part(folder, tensors, about, row.requires(self))

    def begin_with(self, part: str, folder: Path, *, learns: bool = True) -> None:
        """Give ``part`` the weights of the run before, which lie in ``folder``, grown to this data.

        Args:
            learns: False of a part that stays as it is, to which a new item therefore stays new.

        Raises:
            CheckpointError: damaged, or of another run than the one whose rows this one has.
        """
        begin, former = part_of(part).begin, self.dataset.former
        if begin is not None and former is not None:
            needs = part_of(part).requires(self)
            theirs = {"catalog": former.catalog, "backbone": needs.get("backbone", "")}
            tensors, about = load_part(folder, {k: v for k, v in theirs.items() if k in needs})
            part_of(part).load(self, *begin(self, tensors, about, learns))

    def bring_in(self, parts: Mapping[str, Path]) -> None:
        """Load each of ``parts`` (name -> folder) that does not have those weights already, strictly.

        Raises:
            CheckpointError: damaged, of another shape, or trained with other data or another LLM.
        """
        for part, folder in parts.items():
            if self.origin.get(part) != folder:
                self._load(part, folder)
                self.origin[part] = folder

    def _load(self, part: str, folder: Path) -> None:
        row = part_of(part)
        tensors, about = load_part(folder, row.requires(self))
        try:
            row.load(self, tensors, about)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder} does not describe the part {part}: {type(error).__name__}: {error}",
                "use a part that sasrecllm wrote, or train this part here",
            ) from error
