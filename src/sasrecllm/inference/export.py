"""The language model of a run for other programs: an adapter in peft's form, or a model with it merged.

Beside the weights lie ``prompt.json``, the prompt that they answer as pieces of token ids, and a card
with the lines of Python that build it and read the answer.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from sasrecllm.checkpoint import commit_folder, write_json
from sasrecllm.data.catalog import Catalog
from sasrecllm.errors import ConfigError, ModelNotFoundError, did_you_mean
from sasrecllm.inference.export_card import card
from sasrecllm.inference.saving import refuse_place
from sasrecllm.llm.backbone import closeness, relative
from sasrecllm.llm.hosted import score_request
from sasrecllm.llm.hub import cache_only
from sasrecllm.llm.loading import QUANTIZATIONS, load_backbone, quantised_by, save_backbone
from sasrecllm.llm.sources import located
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.prompts.portable import portable
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.language_model import is_own
from sasrecllm.runs.scorers import llm_scorer
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stored_calibration, stored_config, stored_data
from sasrecllm.runs.system import System
from sasrecllm.settings import Config
from sasrecllm.stages.fuse import last_prompt
from sasrecllm.stages.kind import Stage
from sasrecllm.stages.strategies import planned
from sasrecllm.types import Histories, IntArray

Form = Literal["adapter", "merged"]
PROMPT = "prompt.json"
PACKAGES = ("sasrecllm", "transformers", "peft")
TRIED = 16
"""Prompts on which a merged model is held against the run."""


def export_run(run: Path, out: Path, form: Form = "adapter", config: Config | None = None) -> None:
    """Write the language model of a finished run to ``out``, which stands whole or not at all.

    Args:
        form: ``adapter``, an ordinary folder of peft; ``merged``, the language model with the adapter
            in its weights, an ordinary folder of a causal language model.
        config: the run's settings, where the caller has them.

    Raises:
        ConfigError: something stands at ``out``, or the run has nothing of this form.
        CheckpointError: the run is damaged.
        ModelNotFoundError: its language model is not on this machine.
        ResourceError: the disk is full.
        InUseError: another process writes there.
    """
    if form not in get_args(Form):
        allowed = get_args(Form)
        raise ConfigError(
            f"form is {form!r}; allowed: {', '.join(allowed)}{did_you_mean(str(form), allowed)}",
            "use one of these",
        )
    out = out.expanduser().absolute()
    with as_refusals(out):
        refuse_place(out, run)
        source = _opened(choose_run(run), config)
        if form == "merged":
            _refuse_unmergeable(source)
        elif not source.config.llm.lora.r:
            raise ConfigError(
                f"{run}: llm.lora.r is 0, so this run has no adapter: all weights learnt",
                "export the language model itself: --merged",
            )
        source.bring_in()
        with in_use(out.parent, f".{out.name}.lock", each=True):
            refuse_place(out, run)
            write = source.write_adapter if form == "adapter" else source.write_merged
            commit_folder(out, write)


def request_of(
    parts: System, catalog: Catalog, history: Histories, targets: IntArray
) -> dict[str, Any]:
    """What a server is asked for the language model's scores of ``targets`` [C], for one history.

    Args:
        catalog: the run's, or one with further items at its end.

    Raises:
        ConfigError: no stage of the run asks a language model.
    """
    prompt = last_prompt(planned(parts.config))
    if prompt is None:
        raise ConfigError(
            "no stage of this run asks a language model, so there is nothing to ask a server",
            "give a run with one: a strategy other than encoder-only",
        )
    scorer = llm_scorer(parts, "llm", prompt)
    if new := catalog.titles[parts.dataset.n_items :]:
        scorer = scorer.with_new_titles(new)
    return score_request(scorer, history, targets)


@dataclass
class _Source:
    """A run whose language model goes out.

    Args:
        stage: the last one that trained or loaded the adapter.
        answers: the last one that asks the language model.
    """

    folder: RunFolder
    config: Config
    system: System
    stage: Stage
    answers: Stage

    def bring_in(self) -> None:
        """Load the adapter as the run left it."""
        newest = self.folder.newest_parts()
        with cache_only():
            self.system.bring_in({"adapter": newest["adapter"]})
        self.system.backbone.eval()

    @property
    def base(self) -> str:
        """Folder or hub id of the language model without the adapter."""
        if is_own(self.config):
            return str(self.folder.language_model.absolute())
        return located(self.system.backbone_path)

    def prompt(self) -> dict[str, Any]:
        """What ``prompt.json`` holds."""
        calibration = stored_calibration(self.folder, self.stage.row)
        table = self.system.backbone.causal.get_input_embeddings().weight
        return portable(self.system.builder(self.stage.prompt)) | {
            "row": self.stage.row,
            "calibration": {"slope": calibration.slope, "intercept": calibration.intercept},
            "dtype": str(table.dtype).removeprefix("torch."),
            "quantization": QUANTIZATIONS.get(self.config.llm.quantize),
            "base": self.base,
            "run": self.folder.digest(),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }

    def write_adapter(self, out: Path) -> None:
        """An ordinary folder of peft."""
        self.system.backbone.save_adapter(out, self.base)
        self._describe(out, "adapter", self.prompt())

    def write_merged(self, out: Path) -> None:
        """An ordinary folder of a causal language model, tried before it counts."""
        prompt, backbone = self.prompt(), self.system.backbone
        rows = self.system.dataset.questions("train")
        rows = rows.take(np.arange(min(TRIED, len(rows))))
        batch = self.system.builder("text").build(rows.histories, rows.targets)
        ids_BT = torch.from_numpy(batch.ids_BT).to(self.system.device)
        lengths_B = torch.from_numpy(batch.lengths_B).to(self.system.device)
        with torch.no_grad():
            wanted_BH = backbone.hidden_last(backbone.embed(ids_BT), lengths_B)
            backbone.merge_adapter()
            save_backbone(backbone, out)
            again = load_backbone(str(out), dtype=self.config.llm.dtype, device=self.system.device)
            got_BH = again.hidden_last(again.embed(ids_BT), lengths_B)
        if not (apart := relative(got_BH, wanted_BH)) <= closeness(again):
            raise ModelNotFoundError(
                f"the language model answers otherwise once the adapter is in its weights (by"
                f" {apart:.1%}): {prompt['dtype']} is too coarse for the sum of both",
                "export the adapter beside its language model: --adapter",
            )
        self._describe(out, "merged", prompt)

    def _describe(self, out: Path, form: Form, prompt: dict[str, Any]) -> None:
        write_json(out / PROMPT, prompt)
        named = self.config.llm.backbone
        (out / "README.md").write_text(card(form, prompt, named, self.answers.row), encoding="utf-8")


def _opened(folder: RunFolder, config: Config | None) -> _Source:
    config = config or stored_config(folder)
    asking = [s for s in planned(config).values() if s.kind.asks_language_model]
    having = [s for s in asking if "adapter" in (*s.train, *s.load)]
    if not asking:
        raise ConfigError(
            f"{folder}: no stage of this run asks a language model, so there is none to export",
            "give a run with one: a strategy other than encoder-only",
        )
    if not having:
        raise ConfigError(
            f"{folder}: no stage of this run trains an adapter or loads one; its language model is"
            f" {config.llm.backbone} as it was",
            "give a run whose strategy trains one (text-only, hierarchical-freezing, ...)",
        )
    system = System.new(folder, config, stored_data(folder), config.device)
    return _Source(folder, config, system, having[-1], asking[-1])


def _refuse_unmergeable(source: _Source) -> None:
    """A plain language model has no place for soft tokens, nor quantised weights for an adapter."""
    if source.answers.prompt == "soft":
        raise ConfigError(
            f"{source.folder}: the language model of this run answers with soft tokens"
            f" (stage {source.answers.name!r}), for which a plain model's folder has no place",
            "export its adapter (--adapter; docs/serving.md says how the soft tokens come in over"
            " HTTP), or train a run with strategy=text-only",
        )
    how: str = source.config.llm.quantize
    if how == "none" and not is_own(source.config):  # which is built of ordinary weights
        with cache_only():
            how = quantised_by(source.base) or how
    if how != "none":
        raise ConfigError(
            f"{source.folder}: the language model is held in {how}, which cannot take the adapter in",
            "export the adapter beside it: --adapter",
        )
