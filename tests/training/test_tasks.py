"""What is frozen stays bit-identical and in evaluation mode; training text gives no answer away."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import sasrecllm.llm.beginnings as beginnings
from sasrecllm.data.interactions import Tables
from sasrecllm.data.prepare import prepare
from sasrecllm.data.sequences import windows
from sasrecllm.data.synthetic.world import known_world
from sasrecllm.encoders.table import ENCODERS, build_encoder
from sasrecllm.evaluation.metrics import auc
from sasrecllm.llm.backbone import add_lora
from sasrecllm.llm.beginnings import prefix_ids
from sasrecllm.llm.loading import build_llama, load_backbone, save_backbone
from sasrecllm.llm.mapper import build_mapper, slot_features
from sasrecllm.llm.model import SoftTokenLLM
from sasrecllm.llm.offline import train_tokenizer
from sasrecllm.ops import draws
from sasrecllm.prompts.batch import PromptBuilder
from sasrecllm.prompts.template import load_template
from sasrecllm.prompts.titles import TitleTokens
from sasrecllm.settings import LoopSettings
from sasrecllm.training.finetune import AnswerTask
from sasrecllm.training.language import DocumentWriter
from sasrecllm.training.loop import fit
from sasrecllm.training.pretrain import EncoderTask

WORLD = known_world(users=120, items=120, rows=14, seed=1)
WORDS = {"item": "film", "items": "films", "consumed": "seen"}
DATA = prepare(Tables(WORLD.interactions, WORLD.items, "world", WORDS), split="given")
QUICK = LoopSettings(epochs=1, batch_size=32, lr=0.01, warmup_steps=1)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([" " + t for t in DATA.catalog.titles] + ["Liked: Next: nothing yet"], 500)


def builder(tokenizer, prompt, **options):
    template = load_template(prompt)
    titles = TitleTokens(tokenizer, DATA.catalog.titles, 16, template.lead)
    return PromptBuilder(template, tokenizer, titles, WORDS, **options)


def encoder(kind="sasrec"):
    return build_encoder(
        kind, n_items=DATA.n_items, n_users=DATA.n_users, width=8, length=6, seen_items=DATA.seen_items
    )


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("loss", ["bce", "softmax", "sampled-softmax", "gbce"])
def test_every_encoder_learns_with_every_loss(kind, loss, touched):
    made = encoder(kind)
    cut = windows(DATA, length=6, likes_only=True, rows=DATA.rows("train"))
    task = EncoderTask(
        "e", made, cut, DATA.questions("valid"), loss=loss, negatives=8, touched_rows=touched
    )
    whole = np.arange(len(task.lengths))
    made.eval()
    torch.manual_seed(0)
    before = float(task(whole).detach()) / task.weights.sum()
    fit(task, LoopSettings(epochs=4, batch_size=16, lr=0.02, warmup_steps=1, patience=0))
    torch.manual_seed(0)
    assert float(task(whole).detach()) / task.weights.sum() < before


def gradients(task, batch, processes=1):
    """Of the summed loss of ``batch``, as one process computes them or as several add them up."""
    task.zero_grad()
    for rank in range(processes):
        mine = np.arange(rank, len(batch), processes)
        torch.manual_seed(7)
        task.learn()
        with draws.shared(batch, mine) if processes > 1 else nullcontext():
            task(batch[mine]).backward()
    return {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}


def assert_processes_add_up_to_one(task, batch):
    """Dropout and all.  Another order of sums rounds single precision at each of some 1,000 of them."""
    one = gradients(task, batch)
    assert any(g.abs().max() > 1e-3 for g in one.values())
    for processes in (2, 3):
        shared = gradients(task, batch, processes)
        assert shared.keys() == one.keys()
        for name, gradient in one.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(shared[name], gradient, rtol=1e-3, atol=1e-5 + 1e-4 * scale)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("loss", ["bce", "softmax", "sampled-softmax", "gbce"])
def test_an_encoders_step_is_the_same_however_many_processes_share_it(kind, loss):
    cut = windows(DATA, length=6, likes_only=True, rows=DATA.rows("train"))
    task = EncoderTask("e", encoder(kind), cut, DATA.questions("valid"), loss=loss, negatives=8)
    assert task.encoder.dropout > 0
    assert_processes_add_up_to_one(task, np.arange(3, 30))


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [("short-text", {"adapter"}), ("events-text", {"adapter"}), ("short-soft", {"mapper"}),
     ("short-soft", {"adapter", "mapper"}), ("short-soft", {"encoder", "adapter", "mapper"})],
)  # fmt: skip
@pytest.mark.parametrize("slots", [None, DATA.seen_items])
def test_a_step_of_the_language_model_is_the_same_however_many_processes_share_it(
    tokenizer, prompt, parts, slots
):
    backbone = build_llama(tokenizer, width=16, layers=2, heads=2, positions=256)
    add_lora(backbone, r=2, dropout=0.3)
    with torch.no_grad():  # an adapter begins as nothing, and its dropout would be too
        for parameter in backbone.adapter_parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(3))
    step = 4 if prompt == "events-text" else 1  # many questions in one text, or one
    build = builder(tokenizer, prompt, history_length=3, item_slots=slots, history_step=step)
    mapper = build_mapper("mlp", width=8, hidden=8, llm_width=16)
    model = SoftTokenLLM(backbone, mapper, build.yes_id, build.no_id)
    soft = {"encoder": encoder(), "cold_item_dropout": 0.3} if prompt == "short-soft" else {}
    asked = DATA.questions("train").take(np.arange(60 if step == 1 else 300))
    task = AnswerTask("a", model, build, asked, DATA.questions("valid"), parts=parts, **soft)
    assert_processes_add_up_to_one(task, np.arange(0, 33))  # users in common, whose text is read once
    assert_processes_add_up_to_one(task, np.arange(0, 60, 5))


def test_a_list_of_events_is_learnt_from_once_for_every_question_that_stands_in_it(tokenizer):
    backbone = build_llama(tokenizer, width=16, layers=2, heads=2, positions=256)
    add_lora(backbone, r=2, dropout=0.0)
    build = builder(tokenizer, "events-text", history_length=3, history_step=6)
    mapper = build_mapper("mlp", width=8, hidden=8, llm_width=16)
    model = SoftTokenLLM(backbone, mapper, build.yes_id, build.no_id)
    asked = DATA.questions("train").take(np.arange(200))
    task = AnswerTask("a", model, build, asked, DATA.questions("valid"), parts={"adapter"})
    assert sorted(task.asked) == list(range(200)) and task.weights.sum() == 200
    assert len(task.lengths) < 60
    loss = 0.0
    for one in range(200):
        rows = asked.take(np.array([one]))
        score = float(model(build.build(rows.histories, rows.targets)).detach())
        loss += np.logaddexp(0, score) - score * rows.labels[0]
    whole = float(task(np.arange(len(task.lengths))).detach())
    assert whole == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("loss", ["bce", "sampled-softmax", "gbce"])
def test_a_step_of_touched_rows_moves_no_other_item(kind, loss):
    made = encoder(kind)
    cut = windows(DATA, length=6, likes_only=True, rows=DATA.rows("train"))
    task = EncoderTask(
        "e", made, cut, DATA.questions("valid"), loss=loss, negatives=2, touched_rows=True
    )
    before = made.item_table.detach().clone()
    fit(task, LoopSettings(epochs=1, max_steps=1, batch_size=2, lr=0.02, warmup_steps=1))
    moved = (made.item_table != before).any(1)
    assert 0 < int(moved.sum()) < 2 * 7 * 4 < DATA.n_items
    # What trains the encoder next must not depend on whether this stage ran here or was loaded.
    made.pair(DATA.questions("valid").histories.take(np.arange(3)), np.arange(3))[0].sum().backward()
    assert not made.touched_rows and not made.item_table.grad.is_sparse


@pytest.mark.parametrize(
    "parts", [{"adapter"}, {"mapper"}, {"adapter", "mapper"}, {"encoder", "mapper"},
              {"encoder", "adapter", "mapper"}]
)  # fmt: skip
def test_frozen_parts_are_bit_identical_and_in_eval_mode_and_the_others_change(tokenizer, parts):
    backbone = build_llama(tokenizer, width=16, layers=1, heads=2, positions=256)
    add_lora(backbone, r=2)
    build = builder(tokenizer, "short-soft", history_length=3)
    mapper = build_mapper("mlp", width=8, hidden=8, llm_width=16)
    model, made = SoftTokenLLM(backbone, mapper, build.yes_id, build.no_id), encoder()
    asked = DATA.questions("train").take(np.arange(200))
    task = AnswerTask(
        "a",
        model,
        build,
        asked,
        DATA.questions("valid"),
        parts=parts,
        encoder=made,
        cold_item_dropout=0.2,
    )
    modules = {"encoder": made, "mapper": mapper, "adapter": backbone}
    frozen = [m for p, m in modules.items() if p not in parts]
    forward = task.forward

    def watched(examples):
        assert not any(x.training for m in frozen for x in m.modules())
        assert all(modules[p].training for p in parts - {"adapter"})
        return forward(examples)

    task.forward = watched
    before = {n: p.detach().clone() for n, p in task.named_parameters()}
    fit(task, QUICK)
    changed = set()
    for name, parameter in task.named_parameters():
        kind = "adapter" if "lora_" in name else name.split(".")[0 if name.startswith("encoder") else 1]
        if not torch.equal(parameter, before[name]):
            changed.add(kind)
    assert changed == parts


@pytest.mark.parametrize("slots", [None, DATA.seen_items])
def test_a_training_target_is_shown_as_a_new_item_is(tokenizer, slots):
    """With the unseen item's vector in its slot; or, where new items have no slot, without one."""
    made, backbone = (
        encoder(),
        build_llama(tokenizer, width=16, layers=1, heads=2, positions=128, seed=0),
    )
    add_lora(backbone, r=2, alpha=4, dropout=0.0, targets=["q_proj"], seed=0)
    mapper = build_mapper(
        "mlp", width=8, hidden=8, llm_width=16, tokens=1, embedding_norm=backbone.embedding_norm, seed=0
    )
    soft = builder(tokenizer, "short-soft", max_tokens=128, item_slots=slots)
    model = SoftTokenLLM(backbone, mapper, soft.yes_id, soft.no_id)
    built = []
    model.register_forward_pre_hook(lambda module, inputs: built.append(inputs))
    train, valid = DATA.questions("train"), DATA.questions("valid")
    task = AnswerTask(
        "m", model, soft, train, valid, parts=["mapper"], encoder=made, cold_item_dropout=0.999999
    )
    task(np.arange(8))
    batch, _, item_BE = built[-1]
    items = int((batch.slot_kinds == 1).sum())
    if slots is None:
        nobodys = made.pair(train.histories.take(np.arange(8)), np.full(8, -1))
        assert items == 8
        torch.testing.assert_close(item_BE, slot_features(*nobodys)[1])
        torch.testing.assert_close(item_BE[:, :-1], made.item_vectors(torch.full((8,), -1)))
    else:
        assert items == 0 and (batch.slot_kinds == 0).sum() == 8


@pytest.mark.parametrize("prompt", ["short-text", "short-soft"])
def test_prompts_have_one_beginning_exactly_when_the_text_before_slot_and_target_is_one(
    tokenizer, prompt
):
    build = builder(tokenizer, prompt, history_length=3)
    train = DATA.questions("train").take(np.arange(300))
    batch = build.build(train.histories, train.targets)
    texts = [tuple(ids[:n]) for ids, n in zip(batch.ids_BT, batch.text_lengths_B, strict=True)]
    numbers = prefix_ids(build, train.histories, train.targets, chunk=64)
    assert 1 < len(set(texts)) < 300
    assert len(set(zip(texts, numbers, strict=True))) == len(set(texts)) == len(set(numbers))


def test_prompts_whose_window_moves_on_in_steps_are_known_by_their_first_titles(tokenizer, monkeypatch):
    monkeypatch.setattr(beginnings, "FIRST", 4)
    build = builder(tokenizer, "short-text", history_length=3, history_step=4)
    train = DATA.questions("train").take(np.arange(300))
    batch = build.build(train.histories, train.targets)
    most = build.before_titles + 4
    assert 0 < build.before_titles < batch.text_lengths_B.min()
    assert (batch.ids_BT[:, : build.before_titles] == batch.ids_BT[0, : build.before_titles]).all()
    first = [
        tuple(ids[: min(n, most)]) for ids, n in zip(batch.ids_BT, batch.text_lengths_B, strict=True)
    ]
    numbers = prefix_ids(build, train.histories, train.targets, chunk=64)
    assert len(set(zip(first, numbers, strict=True))) == len(set(first)) == len(set(numbers)) > 1


def test_a_document_is_a_prompt_with_true_answers_of_one_user(tokenizer):
    build = builder(tokenizer, "short-text", history_length=4)
    train = DATA.questions("train")
    writer = DocumentWriter(build, train, np.random.default_rng(0))
    text = tokenizer.decode(writer.write(3))
    assert text.startswith("Liked: ") and text.count("Next: ") <= 3
    allowed = {DATA.catalog.title(int(i)) for i in train.targets}
    for piece in text.split("Next: ")[1:]:
        title, _, answer = piece.partition("?")
        assert title in allowed and answer.strip().split()[0] in ("Yes", "No")
    assert "?" not in tokenizer.decode(writer.write(0))


def test_the_place_of_an_answer_does_not_give_it_away(tokenizer):
    """Taking the first rows left over would put dislikes first: training would learn the place."""
    build = builder(tokenizer, "short-text", history_length=4)
    writer = DocumentWriter(build, DATA.questions("train"), np.random.default_rng(0))
    places, answers = [], []
    for _ in range(1500):
        document = writer.write(4)
        found = [t for t in document if t in (build.yes_id, build.no_id)]
        places += range(len(found))
        answers += [int(t == build.yes_id) for t in found]
    score = np.array(places, dtype=np.float64)
    assert auc(score, np.array(answers, dtype=np.int8)) == pytest.approx(0.5, abs=0.03)


def test_training_text_holds_no_title_that_training_did_not_show(tokenizer):
    build = builder(tokenizer, "short-text", history_length=4)
    writer = DocumentWriter(build, DATA.questions("train"), np.random.default_rng(0))
    text = " ".join(tokenizer.decode(writer.write(3)) for _ in range(500))
    new = [DATA.catalog.title(i) for i in np.flatnonzero(~DATA.seen_items)]
    assert new and not [t for t in new if f" {t}?" in text or f" {t};" in text]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_answer_stage_learns_in_bf16(tokenizer, tmp_path, dtype):
    """Autocast over fp32 or bf16 weights of the language model; both end near the fp32 loss."""
    save_backbone(build_llama(tokenizer, width=16, layers=1, heads=2, positions=256), tmp_path)
    asked = DATA.questions("train").take(np.arange(200))
    losses = {}
    for kind, precision in (("fp32", "fp32"), (dtype, "bf16")):
        backbone = load_backbone(str(tmp_path), dtype=kind)
        add_lora(backbone, r=2, dropout=0.0)
        build = builder(tokenizer, "short-soft", history_length=3)
        model = SoftTokenLLM(
            backbone, build_mapper("mlp", width=8, hidden=8, llm_width=16), build.yes_id, build.no_id
        )
        task = AnswerTask(
            "a", model, build, asked, DATA.questions("valid"), parts={"adapter", "mapper"},
            encoder=encoder(),
        )  # fmt: skip
        before = float(task(np.arange(200)).detach()) / 200
        fit(task, QUICK.model_copy(update={"epochs": 3, "precision": precision}))
        losses[kind, precision] = float(task(np.arange(200)).detach()) / 200
        assert losses[kind, precision] < before
        assert all(p.dtype == torch.float32 for p in task.parameters() if p.requires_grad)
    (plain, mixed) = losses.values()
    assert mixed == pytest.approx(plain, abs=0.02)
