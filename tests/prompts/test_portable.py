"""A prompt as keys and values is the prompt that is trained, in the card's own lines of Python."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.inference.export_card import ASKING
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.portable import portable
from sasrecllm.prompts.template import FOLDER, load_template, parse_template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.types import Histories

WORDS = {"item": "book", "items": "books", "consumed": "read"}
TOKENIZER = train_tokenizer(["The Silent Harbour", "Liked: Next: Answer: Yes No"] * 3, 320)
TOKENIZER.add_tokens(["[Film]", "[F"])  # as plain text; a title may hold them
TITLES = ["Emma", "The Silent Harbour", "Dune", "</s> <pad>", "", "x" * 200, "Ulysses (1922)", "A\nB"]
TITLES += ["[Film] and [F[Film]", "\ud800"]  # and half a character
BOTH = "Liked: {history|; |none}. Disliked: {dislikes|, |nobody}. Next: {target}? Answer:"


def built(name, **options):
    template = parse_template(BOTH) if name == "both" else load_template(name)
    titles = TitleTokens(TOKENIZER, TITLES, 12, template.lead)
    return PromptBuilder(template, TOKENIZER, titles, WORDS, **options)


def asked(prompt):
    """The functions of a card."""
    code = "SOFT = -1\n" + ASKING
    space = {"prompt": prompt, "tokenizer": TOKENIZER, "re": re}
    exec(code, space)
    return space


@pytest.mark.parametrize("name", [*sorted(p.stem for p in FOLDER.glob("*.txt")), "both"])
@given(data=st.data())
@settings(max_examples=25)
def test_the_card_builds_the_prompt_of_the_builder(name, data):
    entries = data.draw(st.lists(st.tuples(st.integers(0, len(TITLES) - 1), st.booleans()), max_size=9))
    least = 2_000 - built(name, max_tokens=2_000, soft_tokens=2).history_tokens
    room = least + data.draw(st.integers(0, 60))
    length = data.draw(st.integers(1, 4))
    step = data.draw(st.integers(1, 3))
    builder = built(name, history_length=length, history_step=step, max_tokens=room, soft_tokens=2)
    target = data.draw(st.integers(0, len(TITLES) - 1))
    n = len(entries)
    history = Histories(
        np.array([0]),
        np.array([i for i, _ in entries], dtype=np.int64),
        np.array([liked for _, liked in entries], dtype=np.int8),
        np.arange(n),
        np.array([0, n]),
        np.array([n]),
    )
    batch = builder.build(history, np.array([target]))
    wanted = batch.ids_BT[0].copy()
    wanted[batch.slot_columns] = -1
    card = asked(portable(builder))
    got = card["prompt_ids"]([(TITLES[i], liked) for i, liked in entries], TITLES[target])
    assert got == wanted.tolist()


def test_what_people_read_is_the_template_in_the_domains_words():
    prompt = portable(built("short-soft"))
    assert prompt["words"] == "Liked: {history|; |nothing yet}. {user}Next: {target}{item}?"
    assert prompt["lead"] == " " and prompt["answer_words"] == [" Yes", " No"]
    assert [p["soft"] for p in prompt["pieces"] if "soft" in p] == ["user", "item"]
    assert "books" in portable(built("paper-text"))["words"]
