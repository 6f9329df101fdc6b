"""What is asked of the language model and of the prompts before anything is trained on them."""

from __future__ import annotations

from sasrecllm.checkpoint import PART, load_part, read_json, refuse_other
from sasrecllm.data.dataset import Dataset
from sasrecllm.encoders.crossfit import fold_of_user
from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.llm.ability import refuse_longer, refuse_unable
from sasrecllm.llm.backbone import Backbone
from sasrecllm.llm.loading import llama_shape, load_tokenizer
from sasrecllm.llm.sources import located
from sasrecllm.llm.targets import lora_targets
from sasrecllm.machine.device import pick_device
from sasrecllm.pipeline.prepare import asked_templates
from sasrecllm.prompts.answers import answered_cue
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.chat import in_chat
from sasrecllm.prompts.template import Template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.runs.choice import with_choice
from sasrecllm.runs.folder import folds_beside
from sasrecllm.runs.language_model import base_model, is_own, with_adapter
from sasrecllm.runs.loaded import foreign_part, loaded_part, run_of
from sasrecllm.runs.opening import Run
from sasrecllm.runs.parts import DIVISION, division_of
from sasrecllm.runs.stored import stored_config
from sasrecllm.settings import READ_TITLES, Config
from sasrecllm.stages.settle import crossfitted_from, loaded_parts, loaded_settings
from sasrecllm.stages.strategies import asks_language_model, planned


def check_language_model(run: Run) -> None:
    """Ask the run's language model whether it can do what the stages will ask of it.

    It is loaded for that as it will be loaded for training, and let go again: seconds against hours.

    Raises:
        ConfigError: prompts longer than it reads, layers that LoRA cannot go to, sizes that do not fit.
        ModelNotFoundError: it is not there, or is not a causal language model.
        EnvironmentRefusal: a package, or the device, is missing.
        CheckpointError: it is damaged, or an adapter that a stage loads is of another model.
    """
    c = run.config
    if c.item_features.vectors == READ_TITLES:
        _check_reading(run)
    if not asks_language_model(c):
        return
    if is_own(c):
        _check_offline(c)
        return
    model = base_model(c, c.llm.backbone, pick_device(c.device), run.progress.report)
    refuse_unable(model, c.llm.backbone, c.llm.max_tokens)
    for template in templates(run):
        answered_cue(model.tokenizer, in_chat(template, model.tokenizer, c.llm.chat).cue)
    with_adapter(model, with_choice(c, loaded_settings(run)))
    _check_adapters(run, model)


def _check_reading(run: Run) -> None:
    """What reads titles for their vectors must have read something before."""
    c = run.config
    if is_own(c):
        raise ConfigError(
            f"item_features.vectors is {READ_TITLES}, but llm.backbone is {c.llm.backbone!r}: it is"
            " built of this very data and knows no more of a title than its words",
            "give a pretrained one (llm.backbone=FOLDER), a file of vectors, or leave the vectors out",
        )
    if not asks_language_model(c):  # else it is loaded below
        base_model(c, c.llm.backbone, pick_device(c.device), run.progress.report)


def _check_adapters(run: Run, model: Backbone) -> None:
    """An adapter of another model or rank would only be met at its stage."""
    for part in loaded_parts(run, "adapter"):
        model.load_adapter(*load_part(part, {"backbone": model.digest}))


def check_loaded(run: Run, dataset: Dataset) -> None:
    """Ask whether what stages load knows this catalogue, and whether the fold encoders beside a loaded
    encoder never saw the users that they will read.

    Only the stage would notice, after those before it have been trained.

    Raises:
        CheckpointError: trained with another catalogue; the users were divided by another ``seed`` or
            ``encoder.folds``.
    """
    c = run.config
    if not c.update.of:  # whose parts are grown to its catalogue
        for stage_folder, stage in run.folder.of_stages(planned(c)):
            for part, place in stage.load.items():
                refuse_other(
                    loaded_part(stage_folder, part, place), {"catalog": dataset.catalog.digest}
                )
    wanted = division_of(fold_of_user(dataset.n_users, c.encoder.folds, c.seed))
    for stage, place in crossfitted_from(run):
        encoder = foreign_part("encoder", place)
        (fold, *_), there = folds_beside(encoder), run_of(encoder)
        if read_json(fold / PART, requires=dict)["requires"].get(DIVISION, wanted) == wanted:
            continue
        made = None if there is None else stored_config(there, None)
        theirs = f"seed={made.seed} encoder.folds={made.encoder.folds}" if made else ""
        raise CheckpointError(
            f"stage {stage.name!r}: the fold encoders of {place} were trained with another {DIVISION},"
            f" so they have seen users that they would read here (seed={c.seed}"
            f" encoder.folds={c.encoder.folds} here" + (f", {theirs} there)" if theirs else ")"),
            "give "
            + (theirs or "the seed and encoder.folds that they were trained with")
            + ", or train the encoder here",
        )


def _check_offline(config: Config) -> None:
    c, o = config.llm, config.llm.offline
    if o.width % o.heads or (o.width // o.heads) % 2:
        raise ConfigError(
            f"llm.offline.width is {o.width} and llm.offline.heads {o.heads}: each head needs an even"
            " number of columns of its own",
            f"set llm.offline.width={2 * o.heads * max(1, round(o.width / (2 * o.heads)))}",
        )
    shape = llama_shape(o.vocabulary, o.width, o.layers, o.heads, o.positions)
    refuse_longer(shape.config, "offline", c.max_tokens)
    lora_targets(shape, c.lora.targets)


def templates(run: Run) -> list[Template]:
    """The templates of the prompts that the run's stages ask."""
    asked = {s.prompt for s in planned(run.config).values() if s.kind.asks_language_model}
    found = asked_templates(run)
    return [found[prompt] for prompt in sorted(asked)]


def check_prompts(run: Run, dataset: Dataset) -> None:
    """Ask whether the prompts about this data fit ``llm.max_tokens``, before anything is trained.

    An offline model gets its tokenizer from the data, so its prompts are asked when it is built.

    Raises:
        ConfigError: a prompt without any history is too long already, or a domain word is missing.
    """
    c = run.config.llm
    if not asks_language_model(run.config) or is_own(run.config):
        return
    tokenizer = load_tokenizer(located(c.backbone))
    for plain in templates(run):
        template = in_chat(plain, tokenizer, c.chat)
        titles = TitleTokens(tokenizer, dataset.catalog.titles, c.title_tokens, template.lead)
        PromptBuilder(
            template,
            tokenizer,
            titles,
            dataset.words,
            max_tokens=c.max_tokens,
            soft_tokens=run.config.mapper.tokens,
        )
