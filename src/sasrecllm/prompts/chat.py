"""A prompt in the words of a chat: what a tokenizer's chat template writes around one question.

The chat template is rendered around a mark, never around a title, and what stands before and after
the mark becomes literal text of the prompt's template.  So places stay places, and a title stays text:
of the whole prompt, only these literals may hold control tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sasrecllm.errors import ConfigError
from sasrecllm.prompts.template import TEXT, Segment, Template
from sasrecllm.prompts.titles import Tokenizer, begins_with_bos

MARK = "SASRECLLM-QUESTION"
DAY = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}{{ '' }}"
"""A chat template that says today's date says this one: a run must ask the same words every day."""


def in_chat(template: Template, tokenizer: Tokenizer, chat: str = "auto") -> Template:
    """The template as one user's message in the tokenizer's chat format, up to the model's answer.

    Args:
        chat: ``auto``, in a chat where the tokenizer has a chat template; ``off``, never.

    Raises:
        ConfigError: the chat template cannot be rendered around one message.
    """
    if chat == "off" or not getattr(tokenizer, "chat_template", None):
        return template
    opening, closing = _around(tokenizer)
    bos = getattr(tokenizer, "bos_token", None)
    if bos and begins_with_bos(tokenizer):  # every prompt has it already
        opening = opening.removeprefix(bos)
    first, *others = template.segments
    if first.kind == TEXT:
        first = replace(first, text=opening + first.text)
    else:
        others.insert(0, first)
        first = Segment(TEXT, text=opening)
    last = others.pop()
    return replace(template, segments=(first, *others, replace(last, text=last.text + closing)))


def _around(tokenizer: Any) -> tuple[str, str]:
    """What a chat has before and after a user's message that is answered next."""
    try:
        said = tokenizer.apply_chat_template(
            [{"role": "user", "content": MARK}],
            tokenize=False,
            chat_template=DAY + tokenizer.get_chat_template(),
            add_generation_prompt=True,
            enable_thinking=False,  # the next token is the answer
        )
    except Exception as error:  # the template is a program, of whoever made the tokenizer
        raise _refusal(f"{type(error).__name__}: {error}") from error
    if said.count(MARK) != 1:
        raise _refusal(f"it writes the user's message {said.count(MARK)} times")
    opening, closing = said.split(MARK)
    return opening, closing


def _refusal(why: str) -> ConfigError:
    return ConfigError(
        f"the tokenizer's chat template cannot be written around a question ({why})",
        "set llm.chat=off, which asks in plain words",
    )
