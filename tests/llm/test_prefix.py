"""Candidates that share a history: the same scores as one whole prompt each, for far fewer tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

import sasrecllm.llm.model as llm_model
from sasrecllm.llm import batches
from sasrecllm.llm.backbone import Backbone, add_lora
from sasrecllm.llm.batches import of_candidates, of_like_length
from sasrecllm.llm.beginnings import held_prompts
from sasrecllm.llm.loading import build_llama
from sasrecllm.llm.mapper import build_mapper, slot_features
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.prefix import part_of, shares_prefix
from sasrecllm.llm.scorer import LLMScorer
from sasrecllm.types import Histories

NOT_APART = None
FAMILIES = ["llama", "gpt2", "qwen2", "gpt_neox", "gemma2"]
N_TITLES = 9


class Vectors:
    """Stands for an encoder: vectors that name their user and their item."""

    def eval(self):
        return self

    def encode(self, histories):
        return torch.from_numpy(np.outer(np.cos(histories.users + 1.0), np.ones(6))).float()

    def item_vectors(self, items):
        return torch.outer(torch.sin(items + 1.0), torch.linspace(-1, 1, 6)).float()

    def pair(self, histories, targets):
        user, item = self.encode(histories), self.item_vectors(torch.from_numpy(targets))
        return user, item, (user * item).sum(1)

    def logits(self, histories, candidates):
        return torch.stack([self.pair(histories, column)[2] for column in candidates.T], 1)


def causal(kind, vocabulary):
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size = {"vocab_size": vocabulary, "hidden_size": 16}
    configs = {
        "gpt2": lambda: transformers.GPT2Config(vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2),
        "qwen2": lambda: transformers.Qwen2Config(num_key_value_heads=1, **size, **small),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**size, **small),
        # A sliding window shorter than the prompts: the cache drops what a later token cannot see.
        "gemma2": lambda: transformers.Gemma2Config(
            num_key_value_heads=1, head_dim=8, sliding_window=16, **size, **small
        ),
    }
    return transformers.AutoModelForCausalLM.from_config(configs[kind]())


def histories(rows):
    items = np.array([i for r in rows for i in r], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    users = np.arange(len(rows))
    ones = np.ones(len(items), dtype=np.int8)
    return Histories(users, items, ones, np.arange(len(items)), offsets, users + 100)


@pytest.fixture(scope="module", params=FAMILIES)
def scorers(request, tokenizer):
    """Prompt name -> scorer, over one randomly weighted model of the family."""
    from sasrecllm.prompts.batch import PromptBuilder
    from sasrecllm.prompts.template import load_template
    from sasrecllm.prompts.titles import TitleTokens

    torch.manual_seed(0)
    if request.param == "llama":
        backbone = build_llama(tokenizer, width=16, layers=2, heads=2, positions=256, seed=0)
    else:
        backbone = Backbone(causal(request.param, len(tokenizer)), tokenizer)
    add_lora(backbone, r=2, seed=0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    mapper = build_mapper(
        "mlp", width=6, hidden=8, llm_width=16, tokens=2, encoder_logit=True, embedding_norm=1.5
    )
    titles = [
        f"{a} {b} {c}"
        for a in ("Old", "The", "A")
        for b, c in (("Sea", ""), ("Tide", "of Reefs"), ("X", "Y"))
    ]
    words = {"item": "movie", "items": "movies", "consumed": "watched"}
    out = {}
    for name in ("paper-text", "paper-soft", "events-text"):
        template = load_template(name)
        lead = TitleTokens(tokenizer, titles, 16, template.lead)
        builder = PromptBuilder(template, tokenizer, lead, words, soft_tokens=2)
        model = SoftTokenLLM(backbone, mapper, builder.yes_id, builder.no_id).eval()
        encoder = Vectors() if name == "paper-soft" else None
        out[name] = LLMScorer(name, model, builder, encoder=encoder, batch_size=4)
    return out


def one_by_one(scorer, asked, candidates):
    return np.concatenate(
        [scorer.score(asked, candidates[:, c : c + 1]) for c in range(candidates.shape[1])], 1
    )


# A prompt read in two parts, and batches of other sizes, round single precision (1e-7) otherwise at
# each of some thousand additions; logits are of the order of 1 to 10.
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
rows = st.lists(st.lists(st.integers(0, N_TITLES - 1), max_size=6), min_size=1, max_size=3)


@given(rows=rows, count=st.integers(2, 7), seed=st.integers(0, 99))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_shared_path_equals_whole_prompts_in_every_family(scorers, rows, count, seed):
    rng = np.random.default_rng(seed)
    asked, candidates = histories(rows), rng.integers(0, N_TITLES, (len(rows), count))
    for scorer in scorers.values():
        plain, shared = one_by_one(scorer, asked, candidates), scorer.score(asked, candidates)
        np.testing.assert_allclose(shared, plain, **CLOSE)
        order = rng.permutation(count)
        turned = scorer.score(asked, candidates[:, order])
        np.testing.assert_allclose(turned, shared[:, order], **CLOSE)


def test_zeroed_soft_tokens_are_zero_in_both_halves(scorers):
    scorer = scorers["paper-soft"]
    zeroed = LLMScorer("z", scorer.model, scorer.builder, encoder=scorer.encoder, zero_soft=True)
    asked, candidates = histories([[1, 2], []]), np.array([[3, 4, 5], [6, 7, 8]])
    shared = zeroed.score(asked, candidates)
    np.testing.assert_allclose(shared, one_by_one(zeroed, asked, candidates), **CLOSE)
    assert np.abs(shared - scorer.score(asked, candidates)).max() > 1e-4


def test_the_prefix_is_read_once_and_candidates_cost_their_own_tokens(scorers, monkeypatch):
    scorer = scorers["paper-soft"]
    tokens = 0
    inner = scorer.model.backbone.causal.base_model.forward

    def counted(*args, inputs_embeds, **kwargs):
        nonlocal tokens
        tokens += inputs_embeds.shape[0] * inputs_embeds.shape[1]
        return inner(*args, inputs_embeds=inputs_embeds, **kwargs)

    monkeypatch.setattr(scorer.model.backbone.causal.base_model, "forward", counted)
    asked, targets = histories([[0, 1, 2, 3, 4]]), np.arange(8)
    scorer.score(asked, targets[None, :])
    batch = scorer.builder.build(asked.take(np.zeros(8, dtype=np.int64)), targets)
    prefix = int(batch.prefix_lengths_B[0])
    longest = [int(batch.lengths_B[s : s + 4].max()) - prefix for s in (0, 4)]
    assert tokens == prefix + 4 * longest[0] + 4 * longest[1]


def test_a_slot_before_the_target_is_seen_and_parts_keep_their_places(scorers):
    builder = scorers["paper-soft"].builder
    batch = builder.build(histories([[0, 1], [0, 1]]), np.array([2, 3]))
    assert shares_prefix(batch)
    early = batch.slot_columns.copy()
    early[batch.slot_kinds == 1] = 0
    assert not shares_prefix(replace(batch, slot_columns=early))
    prefix = int(batch.prefix_lengths_B[1])
    rest = part_of(batch, np.array([1]), prefix, int(batch.lengths_B[1]))
    assert (rest.slot_kinds == 1).all() and (rest.slot_rows == 0).all() and len(rest.slot_rows) == 2
    np.testing.assert_array_equal(rest.ids_BT[0], batch.ids_BT[1, prefix : batch.lengths_B[1]])


def test_a_frozen_language_model_keeps_no_graph_before_the_first_slot(scorers, monkeypatch):
    """Mapper alone: the same loss and gradients as through the whole prompt, for fewer tokens."""
    scorer = scorers["paper-soft"]
    model = scorer.model
    asked, targets = histories([[0, 1, 2], [3, 4, 5, 6], []]), np.array([7, 8, 0])
    batch = scorer.builder.build(asked, targets)
    found = []
    for whole in (False, True):
        model.learn({"mapper"})
        model.training_mode({"mapper"})
        if whole:
            monkeypatch.setattr(model, "read_once", lambda batch: NOT_APART)
        nested, texts = model.backbone.reads_nested, batch.text_lengths_B
        wanted = texts if nested else np.full(3, texts.min())
        assert whole or ((model.read_once(batch).shares == wanted).all() and texts.min() > 8)
        model.zero_grad()
        scores = model(batch, *slot_features(*scorer.encoder.pair(asked, targets)))
        scores.square().sum().backward()
        gradients = [p.grad.clone() for p in model.mapper.parameters()]
        found.append((scores.detach(), gradients))
    monkeypatch.undo()
    torch.testing.assert_close(found[0][0], found[1][0], **CLOSE)
    for ours, plain in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-3)
    model.learn({"adapter", "mapper"})
    apart = model.read_once(batch)  # three texts: the words before them
    start = apart.width
    assert len(apart.rows) == 1 and start < int(batch.text_lengths_B.min())
    assert (batch.ids_BT[:, :start] == batch.ids_BT[0, :start]).all()
    assert len(set(batch.ids_BT[:, start])) > 1
    model.learn(set())
    model.eval()


@pytest.mark.parametrize("parts", [{"adapter"}, {"adapter", "mapper"}, {"mapper"}])
@pytest.mark.parametrize(
    ("rows", "read_apart"),
    [
        ([[0, 1, 2, 3]] * 6 + [[4, 5, 6]] * 2, 2),
        # Eight histories: only the words before them are the same.
        ([[n, n + 1] for n in range(7)] + [[8, 0]], 1),
        # Titles of one user, liked one after the other: the longest is read for all.
        ([[4, 5, 6, 7, 0, 1, 2, 3, 8][: n + 1] for n in range(8)], 1),
    ],
)
def test_text_that_prompts_share_is_read_once_with_equal_gradients(
    scorers, monkeypatch, parts, rows, read_apart
):
    scorer = scorers["paper-soft"]
    model = scorer.model
    if parts == {"mapper"} and read_apart == 1:
        read_apart = 8  # each beginning apart, so that none has a graph
    asked = histories(rows)
    targets = np.array([7, 8, 0, 6, 4, 5, 1, 2])
    batch = scorer.builder.build(asked, targets)
    found, widths, read = [], [], model.backbone.read
    monkeypatch.setattr(model.backbone, "read", lambda e: (widths.append(len(e)), read(e))[1])
    for whole in (False, True):
        model.learn(parts)
        model.training_mode(parts)
        if whole:
            monkeypatch.setattr(model, "read_once", lambda batch: NOT_APART)
        for module in model.modules():  # dropout would draw other masks for other shapes
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.zero_grad()
        scores = model(batch, *slot_features(*scorer.encoder.pair(asked, targets)))
        scores.square().sum().backward()
        learning = [p for p in model.parameters() if p.requires_grad]
        found.append((scores.detach(), [p.grad.clone() for p in learning]))
    assert widths == [read_apart]
    monkeypatch.undo()
    torch.testing.assert_close(found[0][0], found[1][0], **CLOSE)
    for ours, plain in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-3)
    model.learn(set())
    model.eval()


def test_a_continuation_may_begin_inside_what_was_read_but_in_windows_of_keys(scorers):
    backbone = scorers["paper-text"].model.backbone
    assert backbone.reads_prefixes
    assert backbone.reads_nested == (backbone.causal.config.model_type != "gemma2")


@pytest.mark.parametrize("name", ["paper-text", "paper-soft"])
def test_questions_of_one_user_in_time_read_the_longest_history_once(scorers, monkeypatch, name):
    scorer = scorers[name]
    likes = [4, 5, 6, 7, 0, 1, 2, 3, 8, 4, 5, 6]
    asked = histories([likes[:n] for n in range(7, 12)])
    builder = replace_step(scorer.builder, 5, 4)
    stepped = LLMScorer("a", scorer.model, builder, encoder=scorer.encoder, batch_size=8)
    counted, read = [], scorer.model.backbone.read
    monkeypatch.setattr(
        scorer.model.backbone, "read", lambda e: (counted.append(e.shape[:2]), read(e))[1]
    )
    once = stepped.score(asked, np.arange(5)[:, None])
    # Of 4 titles and up to 4 more: 7, 8 and, moved on by five, 4, 5, 6.
    if scorer.model.backbone.reads_nested and name == "paper-text":
        assert sum(rows for rows, _ in counted) == 2
    monkeypatch.setattr(scorer.model, "read_once", lambda batch: NOT_APART)
    np.testing.assert_allclose(once, stepped.score(asked, np.arange(5)[:, None]), **CLOSE)


def replace_step(builder, step, length):
    from sasrecllm.prompts.batch import PromptBuilder

    return PromptBuilder(
        builder.template, builder.tokenizer, builder.titles, builder.words, length,
        soft_tokens=builder.soft_tokens, history_step=step,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["paper-text", "paper-soft"])
def test_questions_about_one_history_read_it_once_wherever_they_stand_among_others(
    scorers, monkeypatch, name
):
    """A like and what is drawn beside it, one candidate a row: judged for the price of a list."""
    scorer = scorers[name]
    model = scorer.model
    rows = [[0, 1, 2, 3]] * 5 + [[4, 5, 6]] * 5 + [[7, 8, 0, 1, 2]] * 5
    asked, targets = histories(rows), np.arange(15) % 9
    asked = replace(asked, users=np.arange(15) // 5, asked_at=np.arange(15) // 5 + 100)
    apart = LLMScorer("a", model, scorer.builder, encoder=scorer.encoder, batch_size=15)
    widths, read = [], model.backbone.read
    monkeypatch.setattr(model.backbone, "read", lambda e: (widths.append(len(e)), read(e))[1])
    once = apart.score(asked, targets[:, None])
    assert sum(widths) == 3
    monkeypatch.setattr(model, "read_once", lambda batch: NOT_APART)
    np.testing.assert_allclose(once, apart.score(asked, targets[:, None]), **CLOSE)
    assert sum(widths) == 3


def test_questions_whose_histories_differ_by_what_no_prompt_shows_read_it_once(scorers, monkeypatch):
    """Rows of a log with dislikes: each has a history of its own, and many list the same likes."""
    scorer = scorers["paper-text"]
    rows = [[0, 1, 2], [0, 1, 2, 5], [0, 1, 2, 5, 6], [3, 4], [3, 7, 4]]
    asked = histories(rows)
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 1])
    asked = replace(asked, labels=labels.astype(asked.labels.dtype), asked_at=np.arange(5) + 100)
    _ = scorer.model.backbone.reads_nested  # tried now: trying reads too
    widths, read = [], scorer.model.backbone.read
    monkeypatch.setattr(scorer.model.backbone, "read", lambda e: (widths.append(len(e)), read(e))[1])
    once = scorer.score(asked, np.array([8, 2, 5, 8, 2])[:, None])
    assert sum(widths) == 2
    monkeypatch.setattr(scorer.model, "read_once", lambda batch: NOT_APART)
    np.testing.assert_allclose(once, scorer.score(asked, np.array([8, 2, 5, 8, 2])[:, None]), **CLOSE)


def test_prompts_that_begin_alike_stand_together_in_batches_of_like_length():
    alike = np.array([0, 2, 0, 7, 2])
    lengths = np.array([10, 30, 14, 12, 11])
    assert [list(p) for p in of_like_length(lengths, 2)] == [[0, 4], [3, 2], [1]]
    assert [list(p) for p in of_like_length(lengths, 2, alike)] == [[3], [0, 2], [4, 1]]
    # 12 and 14 differ by more than a tenth: what is read once is as long as the shortest of a batch.
    near = np.array([12, 14, 12, 13, 13])
    assert [list(p) for p in of_like_length(near, 3, alike)] == [[0, 2, 3], [4, 1]]
    alone = alike[[0, 1, 3]]
    assert [list(p) for p in of_like_length(lengths[[0, 1, 3]], 2, alone)] == [[0, 2], [1]]
    assert not list(of_like_length(lengths[:0], 2, alike[:0]))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.integers(1, 12), st.integers(0, 200), st.integers(0, 2**16),
)  # fmt: skip
def test_batches_keep_to_rows_and_tokens_and_hold_what_begins_alike_whole_where_it_fits(
    handfuls, most, tokens, seed
):
    whose = np.repeat(np.arange(len(handfuls)), handfuls)
    lengths = np.random.default_rng(seed).integers(1, 60, len(whose))
    parts = [list(part) for part in of_like_length(lengths, most, whose, tokens)]
    assert sorted(np.concatenate(parts)) == list(range(len(whose)))
    for part in parts:
        assert len(part) <= most
        assert len(part) == 1 or not tokens or len(part) * lengths[part].max() <= tokens
    for history, count in enumerate(handfuls):
        holding = [part for part in parts if history in whose[part]]
        longest = lengths[whose == history].max()
        if count <= most and (not tokens or count * longest <= tokens):
            assert len(holding) == 1


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=200), st.integers(1, 150), st.integers(600, 4000)
)
def test_candidates_of_like_length_stand_together_on_a_cpu(own, most, tokens):
    lengths = np.array(own)
    parts = list(of_candidates(lengths, most, tokens))
    assert sorted(np.concatenate(parts)) == list(range(len(own)))
    assert (np.diff(lengths[np.concatenate(parts)]) >= 0).all()
    for part in parts:
        padded = len(part) * lengths[part].max()
        assert len(part) <= most and padded <= tokens
        assert padded <= batches.WORTH_A_PASS or lengths[part].max() <= 1.1 * lengths[part].min()
    assert [len(part) for part in of_candidates(lengths, 200)] == [len(own)]  # a card


def test_prompts_that_stand_inside_others_are_answered_by_one_pass_over_these(scorers, monkeypatch):
    """A timeline of events asks what its prompts ask; two questions of one moment are two texts."""
    scorer = scorers["events-text"]
    asked, targets = (
        histories([[0, 1, 2], [0, 1], [], [0], [0, 1, 2], [3]]),
        np.array([4, 2, 0, 1, 5, 8]),
    )
    batch = scorer.builder.build(asked, targets)
    held = held_prompts(batch)
    assert sorted(held.rows) == [0, 4, 5]
    holds = batch.ids_BT[held.rows[held.owners]]
    for own, other, length in zip(batch.ids_BT, holds, batch.lengths_B, strict=True):
        assert (own[:length] == other[:length]).all()
    seen, hidden = [], scorer.model.backbone.hidden
    monkeypatch.setattr(scorer.model.backbone, "hidden", lambda e: (seen.append(len(e)), hidden(e))[1])
    once = scorer.model(batch).detach().numpy()
    assert seen == [3]
    mine = scorer.model(batch, mine=np.array([1, 5, 2])).detach().numpy()
    monkeypatch.setattr(llm_model, "held_prompts", lambda batch: None)
    np.testing.assert_allclose(once, scorer.model(batch).detach().numpy(), **CLOSE)
    np.testing.assert_allclose(once[[1, 5, 2]], mine, **CLOSE)
    assert held_prompts(scorers["paper-soft"].builder.build(asked, targets)) is None
    likes = scorers["paper-text"].builder.build(asked.take(np.arange(4)), targets[:4])
    assert held_prompts(likes) is None


def test_scoring_on_a_cpu_is_bounded_by_tokens_and_by_rows_alone_elsewhere(scorers, monkeypatch):
    scorer = scorers["paper-text"]
    asked = histories([[0, 1, 2], [3], [4, 5], [6, 7, 8, 0]])
    targets = np.arange(4)
    longest = int(scorer.builder.lengths(asked, targets).max())
    seen, embeds = [], scorer.model.embeds
    monkeypatch.setattr(
        scorer.model, "embeds", lambda b, *a: (seen.append(b.ids_BT.shape), embeds(b, *a))[1]
    )
    whole = scorer.score(asked, targets[:, None])
    assert len(seen) == 1
    monkeypatch.setattr(batches, "SCORED_ON_A_CPU", longest * 2)
    seen.clear()
    np.testing.assert_allclose(scorer.score(asked, targets[:, None]), whole, **CLOSE)
    assert len(seen) > 1 and all(rows * width <= longest * 2 for rows, width in seen)
    candidates = np.arange(8)[None]
    listed = scorer.score(asked.take(np.array([0])), candidates)
    seen.clear()
    monkeypatch.setattr(batches, "SCORED_ON_A_CPU", 20)
    again = scorer.score(asked.take(np.array([0])), candidates)
    np.testing.assert_allclose(again, listed, **CLOSE)
    own = seen[1:]  # the shared beginning is read first, alone
    assert sum(rows for rows, _ in own) == 8 and len(own) > 1
    assert all(rows == 1 or rows * width <= 20 for rows, width in own)
    assert batches.tokens_at_once("cuda:1") == 0


def test_keys_of_continuations_are_laid_out_for_one_block_at_a_time(scorers, monkeypatch):
    """All blocks' at once, for a batch of long prompts, are half a gigabyte where there are 30."""
    scorer = scorers["paper-text"]
    held, at = [], scorer.model.backbone._at

    def noted(at_B, **inputs):
        found = at(at_B, **inputs)
        layers = getattr(inputs.get("past_key_values"), "layers", [])
        held.extend(len(layer.keys) for layer in layers if type(layer) is DynamicLayer)
        return found

    monkeypatch.setattr(scorer.model.backbone, "_at", noted)
    scorer.score(histories([[0, 1, 2]]), np.arange(8)[None])
    assert held and set(held) == {1}


def test_without_anything_before_the_target_whole_prompts_are_read_in_bounded_passes(
    scorers, monkeypatch
):
    scorer = scorers["events-text"]
    asked, candidates = histories([[], [1, 2]]), np.array([np.arange(9), np.arange(9)[::-1]])
    assert not shares_prefix(scorer.builder.build(asked.take(np.array([0])), np.array([3])))
    widths, whole = [], SoftTokenLLM.forward

    def noted(self, batch, *args, **kwargs):
        widths.append(len(batch))
        return whole(self, batch, *args, **kwargs)

    monkeypatch.setattr(SoftTokenLLM, "forward", noted)
    scores = scorer.score(asked, candidates)
    assert sorted(widths) == [1, 4, 4]
    np.testing.assert_allclose(scores, one_by_one(scorer, asked, candidates), **CLOSE)
