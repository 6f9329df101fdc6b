"""Settings stand once: components have the same defaults, and each is described where it stands."""

import inspect
from pathlib import Path

import pytest

from sasrecllm.baselines.features import ItemFeatures
from sasrecllm.config import load_config
from sasrecllm.data.ingest.sources import SOURCES, load_tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.splits import SPLITS
from sasrecllm.encoders.gru4rec import GRU4Rec
from sasrecllm.encoders.losses import LOSSES
from sasrecllm.encoders.sasrec import SASRec
from sasrecllm.encoders.sequence import EncoderArguments, SequentialEncoder
from sasrecllm.encoders.table import ENCODERS
from sasrecllm.fusion.score_fusion import fit_fusion
from sasrecllm.llm.backbone import add_lora
from sasrecllm.llm.loading import build_llama
from sasrecllm.llm.mapper import Mapper
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.stored import stored_data
from sasrecllm.runs.system import System
from sasrecllm.settings import Config, LoopSettings, Section
from sasrecllm.stages.strategies import STRATEGIES
from sasrecllm.training.finetune import AnswerTask
from sasrecllm.training.language import pretrain_offline
from sasrecllm.training.pretrain import EncoderTask

TINY = Path(__file__).parent / "tiny.yaml"
CONFIG = Config()
OTHER_NAMES = {
    "history_length": "history",
    "soft_tokens": "tokens",
    "batch_size": "score_batch",
    "most": "new_item_words",
}
"""Argument of a component -> the setting, where they are called differently."""
COMPONENTS = [
    *((cls, CONFIG.encoder) for cls in (SequentialEncoder, SASRec, GRU4Rec, EncoderTask)),
    (Mapper, CONFIG.mapper),
    (AnswerTask, CONFIG.mapper),
    (AnswerTask, CONFIG.llm),
    (PromptBuilder, CONFIG.llm),
    (PromptBuilder, CONFIG.mapper),
    (LLMScorer, CONFIG.llm),
    (pretrain_offline, CONFIG.llm),
    (add_lora, CONFIG.llm.lora),
    (build_llama, CONFIG.llm.offline),
    (fit_fusion, CONFIG.fusion),
    (ItemFeatures.fit, CONFIG.item_features),
    (load_tables, CONFIG.data),
    (prepare, CONFIG.data),
    (prepare, CONFIG.recommend),
]


@pytest.mark.parametrize(
    ("component", "section"),
    COMPONENTS,
    ids=lambda p: type(p).__name__ if isinstance(p, Section) else p.__qualname__,
)
def test_a_component_has_the_defaults_of_its_settings(component, section):
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(component).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in ("seed", "vocabulary")
    }
    both = {n: OTHER_NAMES.get(n, n) for n in defaults if hasattr(section, OTHER_NAMES.get(n, n))}
    assert both
    for argument, setting in both.items():
        wanted = getattr(section, setting)
        # No signature may hold an empty list or mapping: None stands for one.
        assert defaults[argument] == (None if wanted in ([], {}) else wanted), argument


def test_what_encoders_share_is_a_setting_or_comes_from_the_data():
    of_data = {"n_items", "n_users", "seen_items"}
    assert set(EncoderArguments.__annotations__) - of_data <= set(type(CONFIG.encoder).model_fields)


def test_every_encoder_built_in_a_notebook_is_the_one_that_yaml_builds():
    for kind, cls in ENCODERS.items():
        made = cls(n_items=5, width=8).config
        wanted = CONFIG.encoder.model_dump() | {"kind": kind, "n_items": 5, "n_users": 0, "width": 8}
        assert made == {key: wanted[key] for key in made}


class Scaled(SASRec):
    """An encoder with an argument that no setting knows."""

    kind = ""

    def __init__(self, *, scale: float = 1.0, **shared):
        super().__init__(**shared)
        self.scale = scale


def test_arguments_of_an_encoder_of_ones_own_come_from_its_settings(run):
    kind = f"{Scaled.__module__}:Scaled"
    config = load_config(TINY, [f"encoder.kind={kind}", "encoder.args={scale: 2.5}"])
    folder = RunFolder(run)
    system = System.new(folder, config, stored_data(folder), "cpu")
    assert system.new_encoder(seed=0).scale == 2.5


def test_a_loop_gets_a_seed_and_is_otherwise_the_same():
    loop = CONFIG.llm.loop
    assert loop.seeded(7) == LoopSettings(**loop.model_dump(), seed=7)
    assert LoopSettings().model_dump(exclude={"seed"}) == loop.model_dump()


@pytest.mark.parametrize(
    ("section", "key", "rows"),
    [
        (CONFIG.data, "source", SOURCES),
        (CONFIG.data, "split", SPLITS),
        (CONFIG.encoder, "kind", ENCODERS),
        (CONFIG.encoder, "loss", LOSSES),
        (CONFIG, "strategy", STRATEGIES),
    ],
    ids=lambda p: p if isinstance(p, str) else "",
)
def test_the_meaning_of_a_setting_names_every_row_of_its_table(section, key, rows):
    said = type(section).model_fields[key].description.replace(",", " ").split()
    assert not [row for row in rows if row not in said]


def sections(section, path=""):
    yield path or "run", section
    for name in type(section).model_fields:
        if isinstance(inner := getattr(section, name), Section):
            yield from sections(inner, f"{path}.{name}".removeprefix("."))


@pytest.mark.parametrize(
    ("path", "section"), [*sections(CONFIG)], ids=lambda p: p if isinstance(p, str) else ""
)
def test_every_setting_is_described_and_every_section_explained(path, section):
    assert (type(section).__doc__ or "").strip()
    assert not [name for name, field in type(section).model_fields.items() if not field.description]
