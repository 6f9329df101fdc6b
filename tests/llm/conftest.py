"""Small language models in Hugging Face format, built on the spot."""

import importlib.util
from pathlib import Path

import pytest

TITLES = [f"The {a} {b}" for a in ("Silent", "Golden", "Last") for b in ("Harbour", "Tide", "Reef")]
WORDS = {"item": "movie", "items": "movies", "consumed": "watched"}


@pytest.fixture(scope="session")
def tokenizer():
    from sasrecllm.llm.offline import train_tokenizer

    return train_tokenizer([*TITLES, "Liked: nothing yet. Next: Like it? Answer: Yes No"], 400)


@pytest.fixture
def backbone(tokenizer):
    from sasrecllm.llm.backbone import add_lora
    from sasrecllm.llm.loading import build_llama

    built = build_llama(tokenizer, width=16, layers=2, heads=2, positions=256, seed=0)
    add_lora(built, r=2, alpha=4, seed=0)
    return built.eval()


@pytest.fixture
def builders(tokenizer):
    from functools import cache

    from sasrecllm.prompts.batch import PromptBuilder
    from sasrecllm.prompts.template import load_template
    from sasrecllm.prompts.titles import TitleTokens

    titles = cache(lambda lead: TitleTokens(tokenizer, TITLES, 16, lead))

    def build(name, **options):
        template = load_template(name)
        return PromptBuilder(template, tokenizer, titles(template.lead), WORDS, **options)

    return build


@pytest.fixture
def model(backbone, builders):
    from sasrecllm.llm.mapper import build_mapper
    from sasrecllm.llm.model import SoftTokenLLM

    mapper = build_mapper("mlp", width=6, hidden=8, llm_width=16, tokens=2, embedding_norm=1.5)
    builder = builders("paper-soft", soft_tokens=2)
    return SoftTokenLLM(backbone, mapper, builder.yes_id, builder.no_id).eval()


@pytest.fixture(scope="session")
def gguf_writer():
    """The module beside this file that writes GGUF files; a skip where its package is not installed."""
    pytest.importorskip("gguf", reason='needs pip install "sasrecllm[gguf]"')
    where = Path(__file__).with_name("gguf_writer.py")
    spec = importlib.util.spec_from_file_location("gguf_writer", where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
