"""Titles as token ids: each alone, cut to a length, and never a control token."""

import numpy as np
import pytest

from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.prompts.titles import TitleTokens

TITLES = ["The Silent Harbour", "Emma", "A title that goes on and on", "Dune \ud800", ""]
TOKENIZER = train_tokenizer(["The Silent Harbour", "Emma and Dune, a title"] * 3, 320)


def rows(titles):
    return [titles.of(item).tolist() for item in range(len(titles))]


@pytest.mark.parametrize("lead", ["", " "])
def test_each_title_is_tokenised_alone_behind_its_lead_and_cut_to_a_length(lead):
    whole, cut = TitleTokens(TOKENIZER, TITLES, 100, lead), TitleTokens(TOKENIZER, TITLES, 3, lead)
    shown = [TOKENIZER.decode(row) for row in rows(whole)]
    assert shown == [lead + title.replace("\ud800", "?") for title in TITLES]
    assert rows(cut) == [row[:3] for row in rows(whole)] and cut.lengths.max() == 3


def test_titles_that_come_later_are_those_that_were_there_at_once():
    whole = TitleTokens(TOKENIZER, TITLES, 5)
    grown = TitleTokens(TOKENIZER, TITLES[:2], 5).extended(TITLES[2:])
    assert rows(grown) == rows(whole) and grown.offsets.tolist() == whole.offsets.tolist()


def test_ablations_take_every_title_away_or_give_it_to_another_item():
    titles = TitleTokens(TOKENIZER, TITLES)
    blank = TitleTokens(TOKENIZER, ["something"]).of(0).tolist()
    assert rows(titles.blanked()) == [blank] * len(TITLES)
    swapped = titles.swapped(seed=1)
    assert sorted(rows(swapped)) == sorted(rows(titles)) and rows(swapped) != rows(titles)
    assert rows(titles.swapped(seed=1)) == rows(swapped) and np.all(np.diff(swapped.offsets) >= 0)


def test_a_plain_added_token_in_a_title_stays_text():
    tokenizer = train_tokenizer(["The Silent Harbour"] * 3, 320)
    tokenizer.add_tokens(["[UserEmb]"])
    ids = TitleTokens(tokenizer, ["about [UserEmb] and </s>"]).of(0)
    assert not set(ids) & set(tokenizer.added_tokens_decoder)
    assert tokenizer.decode(ids) == "about [UserEmb] and </s>"
