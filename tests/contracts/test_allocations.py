"""Every tensor that training makes is counted: none is as large as batch × length × vocabulary."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.bench import encoder, language, random_prompts

VOCABULARY = 5_000


class Largest(TorchDispatchMode):
    """Entries of the largest tensor that any operation gives."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, torch.Tensor):
                self.entries = max(self.entries, one.numel())
        return made


@pytest.fixture
def in_the_checkout(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize(("part", "soft"), [("adapter", False), ("mapper", True)])
def test_no_stage_of_the_language_model_makes_logits_of_every_position(in_the_checkout, part, soft):
    model, p = random_prompts.built("tiny", VOCABULARY), random_prompts.prompts(16, VOCABULARY, 80)
    model.learn({part})
    rows = np.arange(16)
    whole = len(rows) * int(p.lengths.max()) * VOCABULARY
    with Largest() as usual:
        language.reference_way.train(model, p, rows, soft, len(rows))
    with Largest() as ours:
        language.train_ours(model, p, [rows], soft)
    assert usual.entries >= whole
    assert ours.entries < whole / 20  # the table of token vectors itself is smaller than that


@pytest.mark.parametrize("loss", ["softmax", "gbce"])
def test_no_loss_of_the_encoder_makes_all_logits_or_all_candidates_vectors(loss):
    lists = encoder.generated(200)
    candidates = 256 * encoder.WIDTH if loss == "gbce" else encoder.ITEMS
    questions = sum(len(row) - 1 for row in lists)
    with Largest() as usual:
        encoder.padded(lists[:128], loss)
    with Largest() as ours:
        encoder.public(lists, loss)
    asked = sum(len(row) - 1 for row in lists[:128])
    assert usual.entries >= asked * candidates
    assert ours.entries < questions * candidates / 8
