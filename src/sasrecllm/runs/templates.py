"""The prompt templates of a run: it keeps copies, so that its answers hang on nothing outside it.

``RUN/prompts/`` holds the words of both prompts as they were when the run began, whether they ship with
the package or are files of the user's.
"""

from __future__ import annotations

from pathlib import Path

from sasrecllm.checkpoint import commit_folder, is_whole
from sasrecllm.errors import ConfigError
from sasrecllm.llm.sources import source_of
from sasrecllm.manifest import verify_folder
from sasrecllm.prompts.template import (
    Template,
    is_shipped,
    load_template,
    parse_template,
    template_text,
)
from sasrecllm.runs.folder import RunFolder, run_before
from sasrecllm.runs.loaded import copy_folder
from sasrecllm.settings import Config

AUTO = "auto"


def named_templates(config: Config) -> dict[str, str]:
    """``text`` and ``soft`` -> name or path of that prompt's template."""
    asked = {"text": config.llm.text_prompt, "soft": config.llm.soft_prompt}
    # What knows no words yet learns as much from few of them, and reads these sooner.
    kind = "short" if source_of(config.llm.backbone).in_run else "paper"
    return {prompt: f"{kind}-{prompt}" if name == AUTO else name for prompt, name in asked.items()}


def keep_templates(folder: RunFolder, config: Config) -> None:
    """Copy the templates into a run folder that has none yet.

    Raises:
        ConfigError: a template cannot be read, or breaks a rule.
    """
    if is_whole(folder.prompts):
        return
    before = run_before(config)
    if before is not None:  # whatever became of the files since
        copy_folder(before.prompts, folder.prompts)
        return
    texts = {prompt: template_text(name) for prompt, name in named_templates(config).items()}
    for prompt, name in named_templates(config).items():
        parse_template(texts[prompt], name)

    def write(temporary: Path) -> None:
        for prompt, text in texts.items():
            (temporary / _file(prompt)).write_text(text, encoding="utf-8", newline="")

    commit_folder(folder.prompts, write)


def stored_templates(folder: RunFolder | None, config: Config) -> dict[str, Template]:
    """``text`` and ``soft`` -> template: a run's own copies; what the settings name where it has none.

    Args:
        folder: of the run; None for what the settings name.

    Raises:
        CheckpointError: a copy is damaged.
        ConfigError: the settings name a template that is not there.
    """
    kept = folder.prompts if folder is not None and folder.prompts.exists() else None
    if kept is not None:
        verify_folder(kept)
    found = {}
    for prompt, name in named_templates(config).items():
        own = None if kept is None else _read(kept / _file(prompt))
        found[prompt] = load_template(name) if own is None else parse_template(own, name)
    return found


def edited_template(folder: RunFolder, config: Config) -> str:
    """How a template given by path differs from the copy that a run keeps; empty where it does not.

    A file that is no longer there differs in nothing: the copy is what the run goes by.
    """
    for prompt, name in named_templates(config).items():
        copy = folder.prompts / _file(prompt)
        if is_shipped(name) or not copy.is_file():
            continue
        try:
            now = template_text(name)
        except ConfigError:
            continue
        if now != _read(copy):
            return f"llm.{prompt}_prompt: {name} was changed since; the run keeps its words in {copy}"
    return ""


def _file(prompt: str) -> str:
    return f"{prompt}.txt"


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as stream:  # to the letter
        return stream.read()
