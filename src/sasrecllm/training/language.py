"""The small offline language model on training text.

Legend: B documents, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sasrecllm.llm.loading import POSITIONS, build_llama
from sasrecllm.llm.offline import lm_losses, train_tokenizer
from sasrecllm.machine.progress import Progress
from sasrecllm.prompts.answers import ANSWERS
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.template import TEXT, Template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.seeds import LANGUAGE_DOCUMENTS
from sasrecllm.settings import Offline
from sasrecllm.training.loop import Store, fit
from sasrecllm.training.task import Metrics, Task
from sasrecllm.types import BoolArray, FloatArray, Histories, IntArray, Questions

if TYPE_CHECKING:
    from sasrecllm.llm.backbone import Backbone

HELD_OUT = 0.05
"""Share of the training users whose documents are kept for early stopping."""


def pretrain_offline(
    titles: list[str],
    words: Mapping[str, str],
    questions: Questions,
    *,
    text_prompt: Template,
    soft_prompt: Template,
    settings: Offline | None = None,
    title_tokens: int = 48,
    seed: int = 0,
    stores: Sequence[Store | None] = (None, None),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Backbone:
    """Tokenizer and small Llama, from nothing but titles and the training split.

    Two phases, which a small model needs: first it reads lists of titles that one user liked, so that
    words which are liked together come to lie together; then it reads the prompt of the task with
    answered targets, where only the answers count.  Asked for both at once it learns neither in the
    same time (docs/log.md).  Validation and test rows are never read.

    Args:
        titles: the catalogue's titles.
        questions: the training split.
        settings: size of the model and of its training text, and how it is trained.
        title_tokens: longest title in tokens.
    """
    settings = settings or Offline()
    literals = _literals(text_prompt, words) + _literals(soft_prompt, words)
    spaced = [" " + title for title in titles]
    tokenizer = train_tokenizer([*titles, *spaced, *literals * 100], settings.vocabulary)
    builder = PromptBuilder(
        text_prompt,
        tokenizer,
        TitleTokens(tokenizer, titles, title_tokens, text_prompt.lead),
        words,
        history_length=settings.history,
        max_tokens=settings.positions,
    )
    backbone = build_llama(
        tokenizer,
        width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        positions=settings.positions * POSITIONS,
        seed=seed,
    ).to(device)
    writer = DocumentWriter(builder, questions, np.random.default_rng([seed, LANGUAGE_DOCUMENTS]))
    phases = (
        ("titles", 0, settings.titles_loop),
        ("answers", settings.answered, settings.answers_loop),
    )
    for (name, answered, loop), store in zip(phases, stores, strict=True):
        task = writer.task(f"language ({name})", backbone, settings.documents, answered, device)
        fit(task, loop.seeded(seed), store, progress, device)
    return backbone.eval()


class DocumentWriter:
    """Writes training text: a few liked titles of one user, then some answered targets of the same.

    Which titles and in which order is drawn anew for each document: a small model would otherwise
    learn the few real histories by heart.  A share of the users is kept for held-out documents.

    Args:
        questions: the training split; a user's rows are what is written about.
    """

    def __init__(self, builder: PromptBuilder, questions: Questions, rng: np.random.Generator) -> None:
        self.builder, self.rng = builder, rng
        order = np.argsort(questions.histories.users, kind="stable")
        self.items, self.labels = questions.targets[order], questions.labels[order]
        users = questions.histories.users[order]
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        self.ranges = list(zip(starts, np.append(starts[1:], len(users)), strict=True))
        out = rng.random(len(self.ranges)) < HELD_OUT
        sizes = np.array([b - a for a, b in self.ranges], dtype=np.float64)
        self.chances = [sizes * ~out, sizes * (out if out.any() else 1.0)]

    def write(self, answered: int, held_out: bool = False) -> IntArray:
        """Token ids of one document with ``answered`` targets; without any, a list of liked titles."""
        chance = self.chances[held_out]
        start, end = self.ranges[self.rng.choice(len(chance), p=chance / chance.sum())]
        rows = self.rng.permutation(np.arange(start, end))
        liked = rows[self.labels[rows] == 1]
        most = self.builder.history_length
        shown = liked[: self.rng.integers(min(3, most), most + 1) if answered else most]
        # Drawn apart from the history: in the order of ``rows`` the first ones left over would be
        # mostly disliked, and their place alone would give the answer away.
        asked = self.rng.permutation(rows[~np.isin(rows, shown)])[: max(1, answered)]
        if not len(asked):
            asked = rows[:1]
        history = _likes(self.items[shown])
        batch = self.builder.build(
            history.take(np.zeros(len(asked), dtype=np.int64)), self.items[asked]
        )
        prefix = batch.ids_BT[0, : batch.prefix_lengths_B[0]]
        if not answered:
            return prefix
        parts = [prefix]
        for ids, length, at, label in zip(
            batch.ids_BT, batch.lengths_B, batch.prefix_lengths_B, self.labels[asked], strict=True
        ):
            answer = self.builder.yes_id if label == 1 else self.builder.no_id
            parts += [ids[at:length], np.array([answer])]
        return np.concatenate(parts)

    def task(
        self, name: str, backbone: Backbone, count: int, answered: int, device: str
    ) -> LanguageTask:
        """A phase of training: ``count`` documents in all, a share of them of held-out users."""
        held = int(count * HELD_OUT)
        documents = [self.write(answered) for _ in range(count)]
        return LanguageTask(
            name,
            backbone,
            documents[held:],
            [self.write(answered, held_out=True) for _ in range(held)],
            only=(self.builder.yes_id, self.builder.no_id) if answered else None,
            device=device,
        )


def _likes(items: IntArray) -> Histories:
    """One history of liked items."""
    n = len(items)
    places = np.arange(n, dtype=np.int64)
    ones = np.ones(n, dtype=np.int8)
    return Histories(np.array([-1]), items, ones, places, np.array([0, n]), np.array([n]))


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
        only: the ids that count as next tokens (the answers); None for all.
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
        only: tuple[int, int] | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.name, self.backbone, self.device = name, backbone, device
        self.documents, self.held_out, self.only = documents, held_out, only
        self.lengths = np.array([len(d) for d in documents], dtype=np.int64)
        self.weights = np.array([self._counts(d)[1:].sum() for d in documents], dtype=np.float64)
        self.n_validation = len(held_out)
        backbone.requires_grad_(True)

    def learn(self) -> None:
        """Training mode for the whole model."""
        self.train()

    def forward(self, examples: IntArray) -> Tensor:
        """Cross-entropy of the tokens that count, in nats, summed over the documents ``examples``."""
        return self._sums([self.documents[i] for i in examples]).sum()

    def _sums(self, documents: list[IntArray]) -> Tensor:
        """Summed loss of each document, shape [B]."""
        ids_BT, counts_BT = (
            nn.utils.rnn.pad_sequence([torch.from_numpy(v) for v in values], batch_first=True)
            for values in (documents, [self._counts(d) for d in documents])
        )
        lengths_B = torch.tensor([len(d) for d in documents])
        return lm_losses(
            self.backbone,
            ids_BT.to(self.device),
            lengths_B.to(self.device),
            counts_BT.to(self.device),
        )

    def _counts(self, document: IntArray) -> BoolArray:
        """Which tokens count as the next one."""
        if self.only is None:
            return np.ones(len(document), dtype=np.bool_)
        return np.isin(document, self.only)

    def validation_scores(self, positions: IntArray) -> FloatArray:
        """Loss of each held-out document, in nats, [B]."""
        out = np.empty(len(positions))
        for start in range(0, len(positions), 64):
            part = [self.held_out[i] for i in positions[start : start + 64]]
            out[start : start + 64] = self._sums(part).double().cpu().numpy()
        return out

    def validation_metrics(self, scores: FloatArray) -> Metrics:
        """Loss of a token, in nats, over all tokens that count."""
        tokens = sum(int(self._counts(d)[1:].sum()) for d in self.held_out)
        return {"loss": float(scores.sum()) / max(1, tokens)}
