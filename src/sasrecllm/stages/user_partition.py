"""Which users teach which part, so that no part is judged by what it knows by heart, and who chooses
the best state of one.

docs/protocol.md, "What a part may be taught on".
"""

from __future__ import annotations

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.seeds import LLM_HOLDOUT_USERS, VALIDATION_USERS
from sasrecllm.settings import Config
from sasrecllm.stages.kind import Stage, Stages
from sasrecllm.types import BoolArray, IntArray, Questions


def uses_crossfit(stages: Stages) -> bool:
    """Whether a stage has cross-fitted soft tokens; only there users kept from the words are of use."""
    return any(s.reads_crossfit for s in stages.values())


def holdout_share(config: Config, stages: Stages) -> float:
    """Share of the training users kept for the stages with cross-fitted soft tokens."""
    return config.mapper.llm_holdout_users if uses_crossfit(stages) else 0.0


def text_questions(dataset: Dataset, share: float, seed: int) -> Questions:
    """Training questions of the language model and of text-only stages.

    Args:
        share: of :func:`holdout_share`; these users are left out.
    """
    questions = dataset.questions("train")
    return questions.take(np.flatnonzero(~_held_out(dataset, questions, share, seed)))


def answer_questions(dataset: Dataset, stage: Stage, share: float, seed: int) -> Questions:
    """Training questions of an answer stage.

    A language model knows by heart some of the answers that it was trained on, so a mapper that is
    taught on the same rows learns to trust the words and to leave the soft tokens alone
    (docs/findings.md).
    With ``mapper.llm_holdout_users``, cross-fitted soft tokens meet users whom neither their encoder
    nor the language model has seen.  A live encoder has seen all users anyway.

    Args:
        share: of :func:`holdout_share`.
    """
    if stage.prompt == "text":
        return text_questions(dataset, share, seed)
    questions = dataset.questions("train")
    kept = _held_out(dataset, questions, share, seed)
    if stage.vectors == "encoder" or not kept.any():
        return questions
    return questions.take(np.flatnonzero(kept))


def choosing_questions(validation: Questions, share: float, seed: int) -> Questions:
    """Of the validation questions those of a seeded ``share`` of the users, each with all of theirs.

    They choose the best state of an answer stage; what is measured of it is measured on all.  However
    small the share, both answers are among them, for without both nothing could be chosen.
    """
    place_B, users = _order(validation, seed, VALIDATION_USERS)
    both = max(place_B[validation.labels == label].min(initial=users) for label in (0, 1))
    return validation.take(np.flatnonzero(place_B < max(round(share * users), both + 1)))


def held_out_users(dataset: Dataset, share: float, seed: int) -> BoolArray:
    """Users who are kept from the language model, [n_users]."""
    if not share and dataset.former is None:
        return np.zeros(dataset.n_users, dtype=bool)
    questions = dataset.questions("train", last=0)
    out = np.zeros(dataset.n_users, dtype=bool)
    out[questions.histories.users[_held_out(dataset, questions, share, seed)]] = True
    return out


def _held_out(dataset: Dataset, questions: Questions, share: float, seed: int) -> BoolArray:
    """Whether each question's user is kept for the stages with cross-fitted soft tokens, [B]."""
    if dataset.former is not None:  # whom the language model knows, it goes on knowing
        return dataset.former.kept[questions.histories.users]
    place_B, users = _order(questions, seed, LLM_HOLDOUT_USERS)
    return place_B < round(share * users)


def _order(questions: Questions, seed: int, draw: int) -> tuple[IntArray, int]:
    """The place of each question's user in a seeded order of the users, [B], and how many users."""
    users, own_B = np.unique(questions.histories.users, return_inverse=True)
    order = np.random.default_rng([seed, draw]).permutation(len(users))
    return np.argsort(order)[own_B.reshape(-1)], len(users)
