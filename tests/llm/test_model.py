"""Soft tokens land where they are meant to, the score is what the whole head would say, and no score
depends on its batch."""

import numpy as np
import pytest
import torch

from sasrecllm.errors import CheckpointError
from sasrecllm.llm.injection import inject
from sasrecllm.llm.mapper import build_mapper, slot_features
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.types import Histories


def histories(rows):
    """Liked item lists to Histories."""
    lengths = [len(r) for r in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.array([i for r in rows for i in r], dtype=np.int64)
    ones = np.ones(len(items), dtype=np.int8)
    users = np.arange(len(rows))
    return Histories(users, items, ones, np.arange(len(items)), offsets, users + 100)


class Vectors:
    """Stands for an encoder: vectors that name their user and their item."""

    def eval(self):
        return self

    def pair(self, histories, targets):
        user = torch.from_numpy(np.outer(histories.users + 1.0, np.ones(6))).float()
        item = torch.from_numpy(np.outer(targets + 1.0, np.linspace(-1, 1, 6))).float()
        return user, item, (user * item).sum(1)


# Logits of a tiny model are below 1; a batch of another size takes other kernels, which round single
# precision (1e-7) otherwise at each of some hundred additions.
CLOSE = 1e-5
ASKED = histories([[0, 1, 2], [], [3], [4, 5, 6, 7, 8, 0, 1], [2, 2]])
TARGETS = np.array([3, 4, 5, 6, 7])


def test_injection_writes_exactly_the_given_rows_and_their_gradients():
    embeds = torch.zeros(2, 4, 3, requires_grad=True)
    soft = torch.arange(6.0).view(2, 3).requires_grad_()
    out = inject(embeds, torch.tensor([0, 1]), torch.tensor([3, 1]), soft)
    assert torch.equal(out[0, 3], soft[0]) and torch.equal(out[1, 1], soft[1])
    assert out.abs().sum() == soft.abs().sum() == 15 and not embeds.detach().any()
    out.sum().backward()
    assert torch.equal(soft.grad, torch.ones(2, 3)) and embeds.grad.sum() == 24 - 6
    with pytest.raises(ValueError, match="one each"):
        inject(embeds, torch.tensor([0]), torch.tensor([3]), soft)


def test_mapped_vectors_stand_in_the_slots_of_their_own_row(model, builders):
    batch = builders("paper-soft", soft_tokens=2).build(ASKED, TARGETS)
    user, item, _ = Vectors().pair(ASKED, TARGETS)
    seen = {}
    model.read_once = lambda batch: None
    model.backbone.hidden_last = lambda embeds, lengths: seen.setdefault("embeds", embeds)[:, -1]
    with torch.no_grad():
        model(batch, user, item)
    want_user = model.mapper(user, torch.zeros(5, dtype=torch.long))
    want_item = model.mapper(item, torch.ones(5, dtype=torch.long))
    assert len(batch.slot_rows) == 5 * 2 * 2
    for row, column, kind, index in zip(
        batch.slot_rows, batch.slot_columns, batch.slot_kinds, batch.slot_index, strict=True
    ):
        want = (want_user, want_item)[kind][row, index]
        # Not bit for bit: the model maps users and items in one product, this test in two.
        torch.testing.assert_close(seen["embeds"][row, column], want, atol=1e-5, rtol=1e-5)


def test_score_equals_the_difference_of_the_full_heads_logits(model, builders):
    batch = builders("short-text").build(ASKED, TARGETS)
    score = model(batch)
    for row, length in enumerate(batch.lengths_B):
        ids = torch.from_numpy(batch.ids_BT[row : row + 1, :length])
        logits = model.backbone.causal(input_ids=ids).logits[0, -1]
        assert float(score[row]) == pytest.approx(
            float(logits[model.yes_id] - logits[model.no_id]), abs=CLOSE
        )


def test_the_head_is_never_called_and_no_tensor_has_a_vocabulary_axis(model, builders):
    def refuse(*_):
        raise AssertionError("the LM head was called")

    model.backbone.causal.get_output_embeddings().register_forward_pre_hook(refuse)
    scorer = LLMScorer("x", model, builders("paper-soft", soft_tokens=2), encoder=Vectors())
    assert scorer.score(ASKED, TARGETS[:, None]).shape == (5, 1)


@pytest.mark.parametrize("prompt", ["short-text", "paper-soft"])
def test_batch_size_order_and_padding_change_no_score(model, builders, prompt):
    builder = builders(prompt, soft_tokens=2)
    encoder = Vectors() if prompt == "paper-soft" else None
    whole = LLMScorer("x", model, builder, encoder=encoder, batch_size=64).score(
        ASKED, TARGETS[:, None]
    )
    single = LLMScorer("x", model, builder, encoder=encoder, batch_size=1).score(
        ASKED, TARGETS[:, None]
    )
    assert np.abs(whole - single).max() <= CLOSE
    order = np.array([3, 1, 4, 0, 2])
    turned = LLMScorer("x", model, builder, encoder=encoder).score(
        ASKED.take(order), TARGETS[order, None]
    )
    assert np.abs(turned - whole[order]).max() <= CLOSE
    batch = builder.build(ASKED.take(np.array([1])), TARGETS[1:2])
    padded = type(batch)(
        np.pad(batch.ids_BT, ((0, 0), (0, 40)), constant_values=7),
        batch.lengths_B, batch.slot_rows, batch.slot_columns, batch.slot_kinds, batch.slot_index,
        batch.prefix_lengths_B,
    )  # fmt: skip
    vectors = Vectors().pair(ASKED.take(np.array([1])), TARGETS[1:2])[:2] if encoder else (None, None)
    assert model(padded, *vectors).item() == pytest.approx(float(whole[1, 0]), abs=CLOSE)


def test_many_candidates_equal_one_at_a_time(model, builders):
    scorer = LLMScorer("x", model, builders("short-text"))
    grid = np.tile(np.arange(9), (5, 1))
    together = scorer.score(ASKED, grid)
    for column in range(9):
        alone = scorer.score(ASKED, grid[:, column : column + 1])
        assert np.abs(together[:, column : column + 1] - alone).max() <= CLOSE


@pytest.mark.parametrize("parts", [{"adapter"}, {"mapper"}, {"adapter", "mapper"}])
def test_only_what_learns_changes_and_only_it_is_in_training_mode(model, builders, parts):
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.learn(parts)
    model.training_mode(parts)
    for name, module in model.named_modules():
        frozen = not ("lora_dropout" in name and "adapter" in parts) and not (
            name.startswith("mapper") and "mapper" in parts
        )
        assert module.training is not frozen or not name
    batch = builders("paper-soft", soft_tokens=2).build(ASKED, TARGETS)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.1)
    for _ in range(2):  # LoRA's second matrix starts at zero: the first step cannot move the first
        user, item, _ = Vectors().pair(ASKED, TARGETS)
        model(batch, user, item).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in model.named_parameters():
        part = "adapter" if "lora_" in name else "mapper" if name.startswith("mapper") else "base"
        assert torch.equal(parameter, before[name]) is (part not in parts), name


def test_slots_without_vectors_are_refused(model, builders):
    with pytest.raises(ValueError, match="no vectors"):
        model(builders("paper-soft", soft_tokens=2).build(ASKED, TARGETS))


def test_soft_tokens_are_as_loud_as_words(model):
    model.mapper.fit_normalisation(torch.randn(50, 6) * 9, torch.randn(50, 6) * 0.01)
    soft = model.mapper(torch.randn(4, 6) * 9, torch.tensor([0, 0, 1, 1]))
    assert soft.shape == (4, 2, 16)
    assert torch.allclose(soft.norm(dim=-1), torch.tensor(1.5), atol=1e-3)


def test_the_logit_is_as_loud_as_the_vector_and_reaches_the_items_slot_alone():
    features = slot_features(
        torch.randn(400, 6) * 3, torch.randn(400, 6) * 0.1, torch.randn(400) * 7 + 2
    )
    mapper = build_mapper("linear", width=6, llm_width=16, encoder_logit=True)
    mapper.fit_normalisation(*features)
    for kind, loud in ((0, 0.0), (1, 6.0)):
        normal = (features[kind] - mapper.means_2D[kind]) / mapper.stds_2D[kind]
        assert normal[:, :6].square().sum(1).mean() == pytest.approx(6.0, rel=1e-3)
        assert normal[:, 6].square().mean() == pytest.approx(loud, rel=1e-3)
    deaf = build_mapper("linear", width=6, llm_width=16)
    louder = features[1] + torch.tensor([0.0] * 6 + [5.0])
    items = torch.ones(400, dtype=torch.int64)
    torch.testing.assert_close(deaf(features[1], items), deaf(louder, items))
    assert not torch.allclose(mapper(features[1], items), mapper(louder, items), atol=1e-2)


def test_a_mapper_saved_before_it_could_read_logits_loads_into_one_that_does_not():
    old = build_mapper("mlp", width=6, llm_width=16, seed=3)
    config = {k: v for k, v in old.config.items() if k != "encoder_logit"}
    fresh = build_mapper("mlp", width=6, llm_width=16)
    fresh.load_checked(old.state_dict(), config)
    assert torch.equal(fresh.layers[0].weight, old.layers[0].weight)
    with pytest.raises(CheckpointError, match="logit = False, this run has True"):
        build_mapper("mlp", width=6, llm_width=16, encoder_logit=True).load_checked(
            old.state_dict(), config
        )
