"""Prompts: places known by construction, titles that stay text, the oldest history cut first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.errors import ConfigError, DataError
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.prompts.answers import answered_cue
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.template import load_template, parse_template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.types import Histories

WORDS = {"item": "book", "items": "books", "consumed": "read"}
TOKENIZER = train_tokenizer(["The Silent Harbour", "Liked: Next: Answer: Yes No"] * 3, 320)


def history(items, labels=None):
    n = len(items)
    labels = np.ones(n, dtype=np.int8) if labels is None else np.array(labels, dtype=np.int8)
    return Histories(
        np.array([0]), np.array(items, dtype=np.int64), labels, np.arange(n), np.array([0, n]),
        np.array([n]),
    )  # fmt: skip


def builder(titles, template="paper-soft", tokenizer=TOKENIZER, **options):
    made = load_template(template) if isinstance(template, str) else template
    shown = TitleTokens(tokenizer, titles, lead=made.lead)
    return PromptBuilder(made, tokenizer, shown, WORDS, **options)


def text(built, row=0):
    return TOKENIZER.decode(built.ids_BT[row, : built.lengths_B[row]])


def test_a_prompt_reads_as_the_template_says():
    titles = ["Emma", "Dune", "Ulysses"]
    shown = text(builder(titles, "paper-text").build(history([0, 1]), np.array([2])))
    assert shown == (
        'A user has read the following books and given them high ratings: "Emma", "Dune". From this,'
        ' predict whether the user would enjoy the book titled "Ulysses". Answer with "Yes" or "No".'
        " Answer:"
    )
    assert "nothing yet" in text(builder(titles, "short-text").build(history([]), np.array([2])))


def test_events_show_likes_and_dislikes_in_their_order():
    template = parse_template("{events|? Yes\n|? No\n|}{target}?")
    built = builder(["A", "B", "C"], template).build(history([1, 0], [0, 1]), np.array([2]))
    assert text(built) == "B? No\nA? Yes\nC?"


def test_a_window_that_moves_on_in_steps_begins_alike_for_as_many_likes():
    titles = [chr(65 + n) for n in range(26)]
    stepped = builder(titles, "short-text", history_length=4, history_step=3)
    plain = builder(titles, "short-text", history_length=4)
    shown, usual = [], []
    for n in range(1, 14):
        shown.append(text(stepped.build(history(list(range(n))), np.array([25]))).split("Next")[0])
        usual.append(text(plain.build(history(list(range(n))), np.array([25]))).split("Next")[0])
    lists = [line.removeprefix("Liked: ").rstrip(". ").split("; ") for line in shown]
    assert lists[:4] == [line.removeprefix("Liked: ").rstrip(". ").split("; ") for line in usual[:4]]
    for n, listed in enumerate(lists, 1):
        first = max(0, n - 4) // 3 * 3
        assert listed == titles[first:n], "four to six of the newest"
    # Dislikes count in no list of likes.
    labels = [1, 0] * 6
    mixed = text(stepped.build(history(list(range(12)), labels), np.array([25]))).split("Next")[0]
    assert mixed.removeprefix("Liked: ").rstrip(". ").split("; ") == ["A", "C", "E", "G", "I", "K"]


NASTY = st.text(max_size=60) | st.sampled_from(
    ["<pad>", "</s>", "<s>", "<unk>", "<|im_end|>", "{user}", "[UserEmb]", "\u202e gnirts",
     "👩‍👩‍👧", "x" * 10_000,
     "<s></s><s>", "<pa<pad>d>", "Yes", " No", "\ud800", ""]
)  # fmt: skip


@settings(max_examples=300)
@given(
    titles=st.lists(NASTY, min_size=4, max_size=6),
    shown=st.lists(st.integers(0, 3), max_size=6),
    soft=st.integers(1, 3),
    limit=st.integers(330, 450),
)
def test_titles_never_become_control_tokens_and_slots_stand_where_planned(titles, shown, soft, limit):
    made = builder(titles, max_tokens=limit, soft_tokens=soft)
    built = made.build(history(shown), np.array([3]))
    length = int(built.lengths_B[0])
    assert length <= limit and made.lengths(history(shown), np.array([3]))[0] == length
    # Two slots of k places each; nothing else in the prompt is a control token.
    places = list(zip(built.slot_kinds, built.slot_index, strict=True))
    assert places == [(kind, i) for kind in (0, 1) for i in range(soft)]
    control = set(TOKENIZER.all_special_ids)
    ids = list(built.ids_BT[0, :length])
    outside = [t for c, t in enumerate(ids) if c not in set(built.slot_columns)]
    assert not control & set(outside)
    user, item = built.slot_columns[:soft], built.slot_columns[soft:]
    assert list(np.diff(user)) == list(np.diff(item)) == [1] * (soft - 1)
    target = list(TitleTokens(TOKENIZER, titles).of(3))
    at = int(built.prefix_lengths_B[0])
    assert ids[at : at + len(target)] == target and user[-1] < at <= item[0]
    assert TOKENIZER.decode(ids).endswith("Answer:")


def test_the_oldest_history_goes_first_and_the_target_never():
    titles = [f"title {i} " + "word " * 5 for i in range(12)]
    wide = builder(titles, "short-text", max_tokens=1000).build(history(range(10)), np.array([11]))
    tight = builder(titles, "short-text", max_tokens=170).build(history(range(10)), np.array([11]))
    assert "title 0" in text(wide)
    assert "title 0" not in text(tight) and "title 9" in text(tight) and "title 11" in text(tight)


def test_what_stands_before_the_target_is_the_same_for_every_target():
    titles = ["a", "b" * 40, "c", "d"]
    built = builder(titles, "short-soft").build(
        history([0, 2]).take(np.array([0, 0])), np.array([1, 3])
    )
    at = built.prefix_lengths_B
    assert at[0] == at[1] and list(built.ids_BT[0, : at[0]]) == list(built.ids_BT[1, : at[0]])


def test_an_item_without_a_slot_has_the_same_prompt_less_its_soft_tokens():
    titles = ["Emma", "Dune", "Ulysses"]
    asked = history([0, 1]).take(np.zeros(3, dtype=np.int64)), np.array([0, 1, 2])
    whole = builder(titles, soft_tokens=2).build(*asked)
    some = builder(titles, soft_tokens=2, item_slots=np.array([True, False])).build(*asked)
    assert list(whole.slot_rows[whole.slot_kinds == 1]) == [0, 0, 1, 1, 2, 2]
    assert list(some.slot_rows[some.slot_kinds == 1]) == [0, 0]  # 1 has none, 2 stands behind the array
    assert list(whole.lengths_B - some.lengths_B) == [0, 2, 2]
    at = whole.slot_columns[whole.slot_rows == 1][-2:]
    cut = np.delete(whole.ids_BT[1, : whole.lengths_B[1]], at)
    assert list(some.ids_BT[1, : some.lengths_B[1]]) == list(cut)
    # A row may lose its slot on its own (training shows known items as new ones).
    drawn = builder(titles, soft_tokens=2).build(*asked, np.array([True, False, False]))
    assert list(drawn.slot_rows[drawn.slot_kinds == 1]) == [1, 1, 2, 2]


def test_refusals():
    with pytest.raises(ConfigError, match="max_tokens"):
        builder(["a"], "paper-soft", max_tokens=40)
    with pytest.raises(DataError, match="has no title"):
        builder(["a"]).build(history([]), np.array([1]))
    with pytest.raises(ConfigError, match="no domain word"):
        PromptBuilder(load_template("paper-text"), TOKENIZER, TitleTokens(TOKENIZER, ["a"]), {})


def test_answer_tokens_come_from_the_tokenizer():
    found = answered_cue(TOKENIZER, "Answer:")
    assert TOKENIZER.convert_ids_to_tokens([found.yes_id, found.no_id]) == ["ĠYes", "ĠNo"]


def test_a_prompt_may_have_vectors_and_not_one_title():
    made = builder(["Emma", "Dune"], "vectors-soft", soft_tokens=2)
    built = made.build(history([0]).take(np.zeros(2, dtype=np.int64)), np.array([0, 1]))
    assert not any(title in text(built) for title in ("Emma", "Dune"))
    assert list(built.slot_kinds) == [0] * 4 + [1] * 4 and not np.ptp(built.lengths_B)
    assert list(built.prefix_lengths_B) == list(built.slot_columns[[4, 6]])  # both begin alike
    for wrong in ("{item} and {user}? Answer:", "{user} {target} {item}? Answer:", "{user}? Answer:"):
        with pytest.raises(ConfigError):
            parse_template(wrong)
