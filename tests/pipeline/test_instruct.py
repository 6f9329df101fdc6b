"""An instruct model in a run: asked as it is in its own chat format, then with all weights learning."""

from pathlib import Path

import pytest
import torch

from sasrecllm.checkpoint import read_json
from sasrecllm.llm.loading import build_llama, load_backbone, save_backbone
from sasrecllm.llm.offline import train_tokenizer

TINY = Path(__file__).parents[1] / "tiny.yaml"
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STAGES = (
    "strategy=[{name: asked, task: answer, train: []}, {name: whole, task: answer, train: [adapter]}]"
)
FAST = (
    "fusion.enabled=false", "lists.enabled=false", "evaluation.ablations=false",
    "evaluation.ranking.when=never", "llm.max_tokens=256", "llm.loop.max_steps=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def instruct(tmp_path_factory):
    """A folder of a tiny instruct model with random weights."""
    tokenizer = train_tokenizer(["Liked: The Silent Harbour. Next: Yes No assistant user"] * 3, 400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    folder = tmp_path_factory.mktemp("instruct") / "model"
    save_backbone(build_llama(tokenizer, width=16, layers=1, heads=2, positions=1024), folder)
    return folder


@pytest.fixture(scope="module")
def trained(instruct, tmp_path_factory, cli):
    out = tmp_path_factory.mktemp("runs") / "run"
    cli("run", "--config", TINY, "--out", out, "--quiet", f"llm.backbone={instruct}", STAGES,
        "llm.lora.r=0", *FAST)  # fmt: skip
    return out


def test_a_stage_that_trains_nothing_asks_the_model_as_it_is(trained, instruct):
    asked = read_json(trained / "stages" / "1-asked" / "stage.json")
    assert asked["train"] == [] and asked["result"] == {"steps": 0}
    costs = read_json(trained / "run.json")["costs"]
    weights = sum(p.numel() for p in load_backbone(str(instruct)).parameters())
    assert costs["asked"]["trained_parameters"] == 0
    assert costs["whole"]["trained_parameters"] == weights
    rows = read_json(trained / "results.json")["rows"]
    assert rows["asked"]["metrics"] != rows["whole"]["metrics"]


def test_all_weights_go_out_as_a_model_and_answer_in_its_chat(trained, instruct, tmp_path, cli):
    cli("export", trained, tmp_path / "out", "--merged")
    prompt = read_json(tmp_path / "out" / "prompt.json")
    assert prompt["answer_words"] == ["Yes", "No"]
    assert prompt["words"].startswith("<|im_start|>user\nLiked:")
    assert prompt["words"].endswith("?<|im_end|>\n<|im_start|>assistant\n")
    assert "`Yes` or `No`" in (tmp_path / "out" / "README.md").read_text()
    before, after = (load_backbone(str(f)).causal.state_dict() for f in (instruct, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[k], after[k]) for k in before if k.endswith("proj.weight"))
    said = cli("export", trained, tmp_path / "adapter", "--adapter", expect=2)
    assert "--merged" in said and not (tmp_path / "adapter").exists()


def test_weights_without_room_for_small_steps_are_not_trained_whole(instruct, tmp_path, cli):
    said = cli("run", "--config", TINY, "--out", tmp_path / "run", f"llm.backbone={instruct}",
               "llm.dtype=bf16", STAGES, "llm.lora.r=0", *FAST, expect=2)  # fmt: skip
    assert "llm.lora.r is 0" in said and "llm.dtype=fp32" in said
