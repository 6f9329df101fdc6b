"""The digest of a language model covers every number it holds."""

import copy

import pytest
import torch

from sasrecllm.errors import CheckpointError
from sasrecllm.llm.digest import CHUNK, model_digest, weights_digest
from sasrecllm.llm.loading import build_llama, load_backbone, save_backbone


class Config:
    def to_dict(self):
        return {"model_type": "tiny", "vocab_size": 3, "other": 1}


class Model(torch.nn.Module):
    """Two tensors, one of them longer than what is looked at together."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.config = Config()
        self.long = torch.nn.Parameter(torch.linspace(-1, 1, CHUNK + 100).bfloat16().to(dtype))
        self.short = torch.nn.Parameter(torch.arange(6.0).view(2, 3).to(dtype))
        self.register_buffer("packed", torch.arange(5, dtype=torch.uint8))
        self.register_buffer("scalar", torch.tensor(2.0))


@pytest.mark.parametrize("at", [0, 32, 33, CHUNK // 2, CHUNK - 1, CHUNK, CHUNK + 99])
def test_every_bit_of_every_tensor_counts(at):
    model = Model()
    before = weights_digest(model)
    bits = model.long.detach().view(torch.int32)
    bits[at] ^= 1  # the least of all bits
    assert weights_digest(model) != before
    bits[at] ^= 1
    assert weights_digest(model) == before
    model.packed[at % 5] ^= 1
    assert weights_digest(model) != before


def test_shapes_and_names_count():
    model = Model()
    before = weights_digest(model)
    model.short = torch.nn.Parameter(torch.arange(6.0).view(3, 2))
    assert weights_digest(model) != before
    other = Model()
    other.brief = other.short
    del other.short
    assert weights_digest(other) != before


def test_equal_values_in_another_type_are_the_same_weights():
    assert weights_digest(Model(torch.bfloat16)) == weights_digest(Model())


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_its_name(wrong):
    model = Model()
    model.long.data[CHUNK + 1] = wrong
    with pytest.raises(CheckpointError, match="long of the language model") as refused:
        weights_digest(model)
    assert refused.value.exit_code == 5


def test_what_a_folder_says_of_its_weights_counts_and_what_it_says_beside_does_not(tokenizer, tmp_path):
    save_backbone(build_llama(tokenizer, width=16, layers=1, heads=2, positions=64), tmp_path)
    before = load_backbone(str(tmp_path)).digest
    (tmp_path / "README.md").write_text("words")
    assert load_backbone(str(tmp_path)).digest == before == load_backbone(str(tmp_path)).digest
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text + "\n")
        assert load_backbone(str(tmp_path)).digest != before, name
        (tmp_path / name).write_text(text)


def test_another_form_of_a_chat_is_another_model(tokenizer, tmp_path):
    spoken = copy.deepcopy(tokenizer)
    spoken.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    save_backbone(build_llama(spoken, width=16, layers=1, heads=2, positions=64), tmp_path)
    before = load_backbone(str(tmp_path))
    assert before.tokenizer.chat_template == spoken.chat_template
    spoken.chat_template += "\n"
    spoken.save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).digest != before.digest
    (tmp_path / "chat_template.jinja").unlink()
    assert load_backbone(str(tmp_path)).digest != before.digest


def test_the_description_and_the_weights_are_told_apart(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    one = model_digest("weights", tmp_path)
    assert model_digest("others", tmp_path) != one
    (tmp_path / "config.json").rename(tmp_path / "vocab.json")
    assert model_digest("weights", tmp_path) != one
