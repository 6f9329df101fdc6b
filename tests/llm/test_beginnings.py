"""Text that prompts share is found whatever stands in it, and costs what is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrecllm.llm.beginnings import common_text, nested_text, same_text

text = st.lists(st.integers(1, 3), min_size=1, max_size=9)


class Batch(SimpleNamespace):
    """What is asked of a batch of prompts."""

    def __len__(self):
        return len(self.lengths_B)


def prompts(texts, own=7):
    """Prompts of ``texts`` with a token behind each, padded with 0."""
    lengths = np.array([len(text) + 1 for text in texts])
    ids = np.zeros((len(texts), lengths.max()), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text) + 1] = [*text, own]
    return Batch(ids_BT=ids, lengths_B=lengths, text_lengths_B=lengths - 1)


@given(st.lists(text, min_size=1, max_size=12), st.sampled_from([0.0, 0.5, 0.75, 1.0]))
def test_each_prompt_continues_what_it_begins_with(texts, kept):
    batch = prompts(texts)
    for way in (nested_text(batch, kept), same_text(batch), common_text(batch)):
        assert way.width == way.shares.max() and way.rest == (batch.lengths_B - way.shares).max()
        assert set(way.owners) == set(range(len(way.rows)))
        for row, (owner, share) in enumerate(zip(way.owners, way.shares, strict=True)):
            lead = way.rows[owner]
            assert share <= min(len(texts[row]), len(texts[lead]))
            assert texts[row][:share] == texts[lead][:share]
        assert way.tokens() == len(way.rows) * way.width + len(texts) * way.rest
    nested = nested_text(batch, kept)
    for row, share in enumerate(nested.shares):
        assert share >= kept * len(texts[row])
    assert len(nested.rows) <= len({tuple(t) for t in texts})


def test_of_texts_that_contain_each_other_the_longest_is_read():
    """And what ends otherwise, as every list of titles does, is each prompt's own."""
    longest = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1]
    texts = [[*longest[:n], 9] for n in range(8, 11)] + [[5, 5, 5, 5]] + [[*longest[:9], 9]]
    found = nested_text(prompts(texts))
    assert [texts[row] for row in found.rows] == [[*longest, 9], [5, 5, 5, 5]]
    assert list(found.shares) == [8, 9, 11, 4, 9] and found.rest == 2
    alone = nested_text(prompts(texts), kept=1.0)
    assert len(alone.rows) == 4 and list(alone.shares) == [len(t) for t in texts]


def test_what_is_read_for_some_prompts_is_of_the_width_of_all():
    """Or processes that share a batch would not draw the same random numbers."""
    texts = [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8, 9, 9]]
    whole = nested_text(prompts(texts))
    read, part = whole.of(np.array([0, 1]))
    assert (part.width, part.rest) == (whole.width, whole.rest) == (6, 1)
    assert list(part.owners) == [0, 0] and len(part.rows) == len(read) == 1
    assert not part.whole and list(part.shares) == [4, 4]


@pytest.mark.parametrize("way", [nested_text, same_text, common_text])
def test_a_single_prompt_is_its_own_beginning(way):
    found = way(prompts([[1, 2, 3]]))
    assert (found.width, list(found.shares), found.rest, found.whole) == (3, [3], 1, True)
