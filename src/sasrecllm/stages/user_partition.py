"""Which training users teach which part, so that no part is judged by what it knows by heart.

docs/protocol.md, "What a part may be taught on".
"""

from __future__ import annotations

import numpy as np

from sasrecllm.data.dataset import Dataset
from sasrecllm.runs.folder import Run
from sasrecllm.stages.plan import Stage, uses_crossfit
from sasrecllm.types import BoolArray, IntArray, Questions


def fold_of_user(run: Run, dataset: Dataset) -> IntArray:
    """Seeded fold of every user, [n_users]: which cross-fitted encoder never sees them."""
    rng = np.random.default_rng([run.config.seed, 7])
    return rng.permutation(dataset.n_users) % max(1, run.config.encoder.folds)


def text_questions(run: Run, dataset: Dataset) -> Questions:
    """Training questions of the language model and of text-only stages."""
    questions = dataset.questions("train")
    return questions.take(np.flatnonzero(~_fresh(run, questions)))


def answer_questions(run: Run, dataset: Dataset, stage: Stage) -> Questions:
    """Training questions of an answer stage.

    A language model knows by heart some of the answers that it was trained on, so a mapper that is
    taught on the same rows learns to trust the words and to leave the soft tokens alone
    (docs/findings.md).
    With ``mapper.llm_holdout_users``, cross-fitted soft tokens meet users whom neither their encoder
    nor the language model has seen.  A live encoder has seen all users anyway.
    """
    if stage.prompt == "text":
        return text_questions(run, dataset)
    questions = dataset.questions("train")
    fresh = _fresh(run, questions)
    if stage.vectors == "encoder" or not fresh.any():
        return questions
    return questions.take(np.flatnonzero(fresh))


def _fresh(run: Run, questions: Questions) -> BoolArray:
    """Whether each question's user is kept for the stages with cross-fitted soft tokens, [B]."""
    users = np.unique(questions.histories.users)
    wanted = uses_crossfit(run.stages.values())
    count = round(run.config.mapper.llm_holdout_users * len(users)) if wanted else 0
    rng = np.random.default_rng([run.config.seed, 11])
    return np.isin(questions.histories.users, rng.permutation(users)[:count])
