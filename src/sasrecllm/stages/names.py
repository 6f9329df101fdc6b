"""Names in settings that there are not: refused before any folder is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from sasrecllm.baselines.table import BASELINES, baseline_of
from sasrecllm.data.ingest.sources import SOURCES
from sasrecllm.data.splits import SPLITS
from sasrecllm.encoders.losses import loss_of
from sasrecllm.encoders.table import refuse_arguments
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.evaluation.table_metrics import further_metrics
from sasrecllm.ops.vector_index import refuse_missing
from sasrecllm.plugins import resolve
from sasrecllm.runs.parts import MODELS
from sasrecllm.settings import Config
from sasrecllm.stages.strategies import planned


def check_names(config: Config) -> None:
    """Refuse names that there are not, before any folder is looked at: nothing is lost by a typo.

    Raises:
        ConfigError: an unknown source, split, encoder, loss, metric, component, baseline or stage.
        MissingExtraError: of an index whose package is not installed.
    """
    resolve(config.data.source, SOURCES, "data.source")
    resolve(config.data.split, {"auto": None, **SPLITS}, "data.split")
    refuse_arguments(config.encoder.kind, config.encoder.args)
    loss_of(config.encoder.loss)
    refuse_missing(config.recommend.index)
    further_metrics(config.evaluation.metrics)
    given = {stage.kind.component for stage in planned(config).values()} - {""}
    models = [*MODELS, *sorted(given - {*MODELS})]
    _check_names("fusion.components", config.fusion.components, models)
    _check_names("evaluation.baselines", config.evaluation.baselines)
    if config.quick:  # the whole run comes later
        planned(config.model_copy(update={"quick": False}))


def _check_names(key: str, names: Sequence[str], models: Sequence[str] = ()) -> None:
    """Refuse a name that is no model's and no baseline's; an object from elsewhere is imported."""
    allowed = (*models, *BASELINES)
    for name in names:
        if ":" in name:
            baseline_of(name, key)
        elif name not in allowed:
            raise ConfigError(
                f"{key} has {name!r}; allowed: {', '.join(allowed)}, or package.module:Name"
                + did_you_mean(name, allowed),
                "rename or remove it",
            )
