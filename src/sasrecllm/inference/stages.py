"""Where the stages of a run lie on disk, and which of its parts is the newest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sasrecllm.config import Config
from sasrecllm.errors import CheckpointError
from sasrecllm.training.strategies import Stage, stages_of


def run_stages(config: Config) -> dict[str, Stage]:
    """Name -> stage of a run, in order.

    Raises:
        ConfigError: the strategy is wrong.
    """
    c = config.encoder
    stages = stages_of(
        config.strategy,
        config.fusion.enabled,
        c.kind,
        c.prior == "titles",
        config.mapper.fresh_users,
    )
    return {s.name: s for s in stages}


def part_folders(
    stages: Mapping[str, Stage], folder: Path, until: str | None = None
) -> dict[str, Path]:
    """Part -> folder of its newest version among the stages up to ``until`` (all without)."""
    found: dict[str, Path] = {}
    for number, (name, stage) in enumerate(stages.items(), 1):
        where = stage_folder(folder, number, name)
        found |= {part: foreign_part(Path(run), part) for part, run in stage.load.items()}
        found |= {part: where / "parts" / part for part in stage.train}
        if name == until:
            break
    return found


def stage_folder(folder: Path, number: int, name: str) -> Path:
    """Folder of the ``number``-th stage of a run."""
    return folder / "stages" / f"{number}-{name}"


def foreign_part(run: Path, part: str) -> Path:
    """Where another run (or a folder of parts) keeps its newest ``part``.

    Raises:
        CheckpointError: there is none.
    """
    if (run / "part.json").is_file():
        return run
    found = sorted(run.glob(f"stages/*/parts/{part}"), key=lambda p: int(p.parts[-3].split("-")[0]))
    if not found:
        raise CheckpointError(
            f"load: {run} has no trained {part}",
            f"give a run folder whose strategy trained its {part}, or the part's own folder",
        )
    return found[-1]


def uses_language_model(config: Config) -> bool:
    """Whether any stage of a run asks the language model; an encoder alone builds none."""
    return any(s.task == "answer" for s in run_stages(config).values())


def backbone_of(folder: Path, config: Config) -> str:
    """Where a run's language model lies: its own folder for ``offline``, else the given name."""
    return str(folder / "llm") if config.llm.backbone == "offline" else config.llm.backbone
