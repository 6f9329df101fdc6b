"""The two tokens that answer: found with the tokenizer, never written as numbers."""

from __future__ import annotations

from typing import NamedTuple

from sasrecllm.errors import ConfigError
from sasrecllm.prompts.titles import Tokenizer, token_ids

ANSWERS = (" Yes", " No")


class AnsweredCue(NamedTuple):
    """The ids of a cue such that the very next token is the answer, and the two answer tokens."""

    cue: list[int]
    yes_id: int
    no_id: int
    answers: tuple[str, str]


def answered_cue(tokenizer: Tokenizer, cue: str) -> AnsweredCue:
    """Where the two answered cues part.

    An answer begins with a space, except at the beginning of a line.

    Some tokenizers put a token of its own (a bare space) between cue and answer; it belongs to the
    cue then, so that the model is asked exactly where its two answers part.

    Raises:
        ConfigError: the tokenizer cannot tell the answers apart, or joins them with the cue.
    """
    answers = (ANSWERS[0].strip(), ANSWERS[1].strip()) if cue[-1:].isspace() else ANSWERS
    yes, no, alone = token_ids(tokenizer, [cue + answers[0], cue + answers[1], cue], foreign=False)
    at = next((i for i, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), -1)
    unknown = getattr(tokenizer, "unk_token_id", None)
    if at < 0 or (unknown is not None and unknown in (yes[at], no[at])):
        raise ConfigError(
            f"the tokenizer does not tell {answers[0]!r} from {answers[1]!r} after {cue[-40:]!r}:"
            f" token ids {yes[-4:]} and {no[-4:]}",
            "choose a language model whose tokenizer knows both answers",
        )
    if at < len(alone) or yes[: len(alone)] != alone:
        raise ConfigError(
            f"the tokenizer joins the end of the cue {cue[-40:]!r} with the answer:"
            f" {alone[-4:]} becomes {yes[-5:]}",
            "end the template's cue with punctuation and without a space, for example 'Answer:'",
        )
    return AnsweredCue(yes[:at], yes[at], no[at], answers)
