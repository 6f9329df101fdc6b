"""Templates: cut at their slots, checked on load, refused by the slot that breaks a rule."""

import pytest

from sasrecllm.errors import ConfigError
from sasrecllm.prompts.template import FOLDER, load_template, parse_template

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.txt"))


def test_a_template_is_cut_at_its_slots_and_titles_own_the_space_before_them():
    made = parse_template("Liked: {history|; |none}. Next: {target}? Answer:\r\n", "mine")
    assert [(s.kind, s.text) for s in made.segments] == [
        ("text", "Liked:"), ("history", ""), ("text", ". Next:"), ("target", ""), ("text", "? Answer:"),
    ]  # fmt: skip
    liked = made.segments[1]
    assert (made.lead, liked.joiner, liked.empty) == (" ", ";", " none")
    assert made.cue == "? Answer:" and made.has("history") and not made.has("user")
    glued = parse_template("({history}) ({target})? Answer:")
    assert glued.lead == "" and glued.segments[1].joiner == "; "


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_template_keeps_the_rules_and_takes_the_words_of_the_domain(name):
    words = {"item": "book", "items": "books", "consumed": "read"}
    filled = load_template(name).spoken(words)
    assert filled.name == name and filled.cue.strip()
    assert not any("-word>" in segment.text for segment in filled.segments)


def test_words_of_the_domain_are_taken_inside_a_list_too():
    words = {"item": "book", "items": "books", "consumed": "read"}
    text = "{events|, a good <item-word>; |, a bad <item-word>; |no <items-word>} {target}? Answer:"
    found = parse_template(text).spoken(words).segments[0]
    assert (found.joiner, found.disliked) == (", a good book; ", ", a bad book; ")
    assert found.empty == "no books"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{history} {target} {usr}? Answer:", "did you mean 'user'"),
        ("{target} {history}? Answer:", "stands after {target}"),
        ("{history} {target} {user}? Answer:", "stands after {target}"),
        ("{history} {item} {target}? Answer:", "before {target}"),
        ("{history} {target} {target}? Answer:", "occurs twice"),
        ("{history}? Answer:", "{target} is missing"),
        ("{target}? Answer:", "{history} is missing"),
        ("{history} {target}", "not the answer cue"),
        ("{history} {target}?\\nAnswer:", "backslash"),
        ("{history {target}? Answer:", "brace without its partner"),
        ("{history} {target} <itm-word>? Answer:", "did you mean 'item'"),
        ("{history|, |no <itm-word> yet} {target}? Answer:", "did you mean 'item'"),
        ("{history|, |no\\nthing} {target}? Answer:", "backslash"),
        ("{events|.|\\n|none} {target}? Answer:", "backslash"),
        ("{events|a} {target}? Answer:", "write {events|"),
    ],
)
def test_bad_templates_are_refused_by_slot(template, says):
    with pytest.raises(ConfigError) as refused:
        parse_template(template, "mine.txt")
    assert says in str(refused.value) and "mine.txt" in str(refused.value)


def test_a_template_may_be_a_file(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("{history}: {target}? Answer:\n", encoding="utf-8")
    assert load_template(path).cue == "? Answer:"
    with pytest.raises(ConfigError, match="did you mean 'paper-soft'"):
        load_template("paper-sotf")
