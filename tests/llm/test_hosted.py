"""The request to a server that takes vectors gives the scores of the run, as such a server reads it."""

import json
import math

import numpy as np
import pytest
import torch

from sasrecllm.llm.hosted import score_request
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.types import Histories

HISTORY = Histories(
    np.array([0]), np.array([1, 3, 4]), np.array([1, 0, 1], dtype=np.int8), np.arange(3),
    np.array([0, 3]), np.array([3]),
)  # fmt: skip
TARGETS = np.array([0, 2, 7, 2])


class Encoder:
    """Vectors of width 6 that differ for each item."""

    def eval(self):
        pass

    def encode(self, histories):
        return torch.linspace(-1, 1, 6).expand(len(histories), -1)

    def item_vectors(self, items):
        return torch.sin(torch.outer(items.float() + 1, torch.arange(1.0, 7.0)))

    def logits(self, histories, candidates):
        return torch.from_numpy(candidates).float() / 7

    def pair(self, histories, targets):
        users, items = self.encode(histories), self.item_vectors(torch.from_numpy(targets))
        return users, items, self.logits(histories, targets[:, None])[:, 0]


def served(causal, request):
    """What the server answers: places are found by the token that marks them, one vector for each."""
    assert set(request) <= {
        "query", "items", "label_token_ids", "apply_softmax", "embed_override_token_id",
        "query_embed_overrides", "item_embed_overrides",
    }  # fmt: skip
    shares = []
    mark = request.get("embed_override_token_id", -1)
    for n, item in enumerate(request["items"]):
        ids = torch.tensor([request["query"] + item])
        embeds = causal.get_input_embeddings()(ids.clamp(min=0)).clone()
        places = [i for i, token in enumerate(ids[0].tolist()) if token == mark]
        own = request.get("item_embed_overrides", [None] * len(request["items"]))[n] or []
        vectors = [*request.get("query_embed_overrides", []), *own]
        assert len(places) == len(vectors)
        for place, vector in zip(places, vectors, strict=True):
            embeds[0, place] = torch.tensor(vector)
        logits = causal(inputs_embeds=embeds).logits[0, -1].log_softmax(-1)
        shares.append(logits[request["label_token_ids"]].softmax(-1).tolist())
    return shares


@pytest.mark.parametrize("slotless", [(), (2,)])
@pytest.mark.parametrize(
    "template", ["paper-soft", "short-soft", "events-soft", "paper-text", "events-text"]
)
@torch.no_grad()
def test_the_request_gives_the_scores(model, builders, template, slotless):
    has_slot = np.ones(9, dtype=bool)
    has_slot[list(slotless)] = False
    builder = builders(template, soft_tokens=2, item_slots=has_slot)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, p in model.backbone.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn_like(p) * 0.3)
    scorer = LLMScorer("llm", model, builder, encoder=Encoder() if "soft" in template else None)
    request = json.loads(json.dumps(score_request(scorer, HISTORY, TARGETS)))
    assert ("embed_override_token_id" in request) == ("soft" in template)
    assert request.get("query_embed_overrides") is None or len(request["query_embed_overrides"]) == 2
    scores = [math.log(yes / no) for yes, no in served(model.backbone.causal, request)]
    wanted = scorer.score(HISTORY, TARGETS[None, :])[0]
    assert np.ptp(wanted) > 1e-3, "targets differ, or this tells nothing"
    # Single precision (1e-7 of logits near 1), summed over the layers in another order.
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-4)


def test_the_mark_is_a_token_that_stands_nowhere_else(model, builders):
    scorer = LLMScorer("llm", model, builders("short-soft", soft_tokens=2), encoder=Encoder())
    request = score_request(scorer, HISTORY, TARGETS)
    mark = request["embed_override_token_id"]
    assert 0 <= mark < len(model.backbone.causal.get_input_embeddings().weight)
    assert request["query"].count(mark) == 2 and all(i.count(mark) == 2 for i in request["items"])
