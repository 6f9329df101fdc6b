"""The language model of a run: one that it built itself and keeps, or one that lies elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sasrecllm.checkpoint import read_json
from sasrecllm.errors import CheckpointError, ConfigError, DataError
from sasrecllm.llm.backbone import Backbone, add_lora, learn_whole
from sasrecllm.llm.loading import load_backbone, width_of
from sasrecllm.llm.sources import located, source_of
from sasrecllm.machine.arithmetic import bf16_is_faster
from sasrecllm.manifest import verify_folder
from sasrecllm.runs.folder import RunFolder
from sasrecllm.settings import Config


def is_own(config: Config) -> bool:
    """Whether the run builds its language model, from nothing but its own training data."""
    return source_of(config.llm.backbone).in_run


def backbone_path(folder: RunFolder, config: Config) -> str:
    """Where the language model lies: in the run's own folder, else what the settings name."""
    return str(folder.language_model) if is_own(config) else config.llm.backbone


def base_model(
    config: Config, path: str, device: str, report: Callable[[str, int, int], None] | None = None
) -> Backbone:
    """The language model at ``path`` as configured, without an adapter.

    Args:
        report: is told how a conversion goes: what, how much is done, of how much.
    """
    c = config.llm
    quantize = None if c.quantize == "none" else c.quantize
    dtype = "fp32" if c.dtype == "auto" else c.dtype  # before the run has chosen
    model = load_backbone(located(path, report), dtype=dtype, quantize=quantize, device=device)
    if c.checkpointing:
        model.recompute_blocks()
    return model


def chosen_dtype(config: Config, device: str) -> tuple[str, str]:
    """What ``llm.dtype: auto`` comes to here, and why."""
    if is_own(config):
        return "fp32", "the language model is built here"
    if not config.llm.lora.r:
        return "fp32", "all weights learn, by steps too small for bf16"
    if bf16_is_faster(width_of(located(config.llm.backbone)), device):
        return "bf16", "this machine multiplies faster in bf16"
    return "fp32", "this machine multiplies no faster in bf16"


def with_adapter(backbone: Backbone, config: Config) -> Backbone:
    """The same language model with the configured adapter, which starts as the identity."""
    c = config.llm.lora
    if not c.r:
        learn_whole(backbone)
        return backbone
    add_lora(backbone, r=c.r, alpha=c.alpha, dropout=c.dropout, targets=c.targets, seed=config.seed)
    return backbone


def adapted(config: Config, path: str, device: str) -> Backbone:
    """The language model at ``path`` with its adapter.

    Raises:
        CheckpointError: the run's own is damaged, or names code.
    """
    if not is_own(config):
        return with_adapter(base_model(config, path, device), config)
    verify_folder(Path(path))
    _refuse_code(Path(path) / "config.json")
    try:
        return with_adapter(base_model(config, path, device), config)
    except (ConfigError, DataError) as error:  # nobody chose these files: we wrote them
        raise CheckpointError(
            f"the run's own language model is damaged: {error.what}",
            "restore the run from a copy, or train it again",
        ) from error


def _refuse_code(path: Path) -> None:
    """Refuse a language model of a run that names code: we write none that does."""
    for key in read_json(path):
        if key == "auto_map" or key.endswith("attn_implementation"):
            raise CheckpointError(
                f"{path} has {key}, with which a model names code to be run",
                "remove the run: sasrecllm writes no such file",
            )
