"""The small offline language model on training text.

Legend: B documents, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.llm.backbone import build_llama
from sasrecllm.llm.offline import lm_losses, train_tokenizer
from sasrecllm.prompts.answers import ANSWERS
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.template import TEXT, Template, load_template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.runtime import Progress
from sasrecllm.training.loop import Metrics, Store, Task, fit
from sasrecllm.training.settings import LoopSettings
from sasrecllm.types import FloatArray, IntArray, Questions

if TYPE_CHECKING:
    from sasrecllm.llm.backbone import Backbone

HELD_OUT = 0.05
"""Share of the training users whose documents are kept for early stopping."""


def pretrain_offline(
    titles: list[str],
    words: Mapping[str, str],
    questions: Questions,
    *,
    text_prompt: str,
    soft_prompt: str,
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    dropout: float,
    positions: int,
    documents: int,
    history: int,
    title_tokens: int,
    answer_weight: float,
    loop: LoopSettings,
    store: Store | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Backbone:
    """Tokenizer and small Llama, from nothing but titles and the training split.

    A document is the text prompt of a training question followed by its true answer.  So the model
    meets sequences of liked titles, the form of the question, and what follows from the one for the
    other.  Validation and test rows are never read.

    Args:
        titles: the catalogue's titles.
        questions: the training split.
        documents: how many questions are written out (seeded choice).
        history: titles in one document.
        answer_weight: tokens that the answer counts for in the loss.
    """
    template = load_template(text_prompt)
    literals = _literals(template, words) + _literals(load_template(soft_prompt), words)
    tokenizer = train_tokenizer([*titles, *[" " + t for t in titles], *literals * 100], vocabulary)
    builder = PromptBuilder(
        template,
        tokenizer,
        TitleTokens(tokenizer, titles, title_tokens),
        words,
        history_length=history,
        max_tokens=positions,
    )
    rng = np.random.default_rng([loop.seed, 3])
    chosen = rng.permutation(len(questions))[:documents]
    asked = questions.take(np.sort(chosen))
    held_users = np.unique(asked.histories.users)
    held_users = held_users[rng.random(len(held_users)) < HELD_OUT]
    written = write_documents(builder, asked)
    held = np.isin(asked.histories.users, held_users)
    backbone = build_llama(
        tokenizer,
        width=width,
        layers=layers,
        heads=heads,
        positions=positions + title_tokens,
        dropout=dropout,
        seed=loop.seed,
    ).to(device)
    task = LanguageTask(
        "language",
        backbone,
        [d for d, h in zip(written, held, strict=True) if not h],
        [d for d, h in zip(written, held, strict=True) if h],
        answers=(builder.yes_id, builder.no_id),
        answer_weight=answer_weight,
        device=device,
    )
    fit(task, loop, store, progress, device)
    return backbone.eval()


def write_documents(builder: PromptBuilder, questions: Questions) -> list[IntArray]:
    """Token ids of every question's prompt and its true answer."""
    documents = []
    for start in range(0, len(questions), 1024):
        part = questions.take(np.arange(start, min(start + 1024, len(questions))))
        batch = builder.build(part.histories, part.targets)
        answers = np.where(part.labels == 1, builder.yes_id, builder.no_id)
        for ids, length, answer in zip(batch.ids_BT, batch.lengths_B, answers, strict=True):
            documents.append(np.append(ids[:length], answer))
    return documents


def _literals(template: Template, words: Mapping[str, str]) -> list[str]:
    """The fixed words of a template, with both answers after its cue."""
    spoken = template.spoken(words)
    texts = [s.text for s in spoken.segments if s.kind == TEXT]
    return [*texts, *[spoken.cue + answer for answer in ANSWERS]]


class LanguageTask(Task):
    """Next-token prediction on documents of token ids; every weight of the language model learns.

    Args:
        documents: token ids of each training document, without padding.
        held_out: documents of other training users, for early stopping.
        answers: the ids of Yes and No, which count ``answer_weight`` tokens each.
    """

    monitor = "loss"
    lower_is_better = True

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        documents: list[IntArray],
        held_out: list[IntArray],
        *,
        answers: tuple[int, int] = (-1, -1),
        answer_weight: float = 1.0,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.name, self.backbone, self.device = name, backbone, device
        self.documents, self.held_out = documents, held_out
        self.answers, self.answer_weight = np.array(answers), answer_weight
        self.lengths = np.array([len(d) for d in documents], dtype=np.int64)
        self.weights = np.array([self._token_weights(d)[1:].sum() for d in documents])
        self.n_validation = len(held_out)
        backbone.requires_grad_(True)

    def learn(self) -> None:
        self.train()

    def forward(self, examples: IntArray) -> Tensor:
        return self._sums([self.documents[i] for i in examples]).sum()

    def _sums(self, documents: list[IntArray]) -> Tensor:
        """Summed loss of each document, shape [B]."""
        tensors = [torch.from_numpy(d) for d in documents]
        ids_BT = nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        lengths_B = torch.tensor([len(d) for d in documents])
        weights_BT = nn.utils.rnn.pad_sequence(
            [torch.from_numpy(self._token_weights(d)).float() for d in documents], batch_first=True
        )
        return lm_losses(
            self.backbone,
            ids_BT.to(self.device),
            lengths_B.to(self.device),
            weights_BT.to(self.device),
        )

    def _token_weights(self, document: IntArray) -> FloatArray:
        """What each token counts: an answer more than a word of a title."""
        return np.where(np.isin(document, self.answers), self.answer_weight, 1.0)

    def validation_scores(self, positions: IntArray) -> FloatArray:
        out = np.empty(len(positions))
        for start in range(0, len(positions), 64):
            chunk = positions[start : start + 64]
            out[start : start + 64] = (
                self._sums([self.held_out[i] for i in chunk]).double().cpu().numpy()
            )
        return out

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        weight = sum(self._token_weights(d)[1:].sum() for d in self.held_out)
        return {"loss": float(scores.sum()) / max(1.0, weight)}
