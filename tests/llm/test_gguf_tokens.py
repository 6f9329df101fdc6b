"""A GGUF file's tokenizer begins a text as llama.cpp does."""

import pytest
from transformers import AutoTokenizer

from sasrecllm.llm.sources import convert
from sasrecllm.prompts.titles import TitleTokens


@pytest.mark.parametrize(
    ("split", "said", "begins"),
    [
        ("llama-bpe", None, True),  # files of Llama 3 often say nothing, and llama.cpp adds BOS
        ("tekken", None, True),
        ("llama-bpe", False, False),
        ("smollm", None, False),
        ("smollm", True, True),
        ("qwen2", None, False),
    ],
)
def test_a_text_begins_with_bos_where_the_file_or_its_rule_says_so(
    split, said, begins, tokenizer, tmp_path, gguf_writer
):
    model = gguf_writer.build("llama")
    path = gguf_writer.write(tmp_path / "m.gguf", model, tokenizer, split=split, bos=said)
    convert(str(path), tmp_path / "out")
    got = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = got("The Reef", add_special_tokens=True)["input_ids"]
    title = TitleTokens(got, ["The Reef"]).of(0).tolist()
    assert ids == [got.bos_token_id] * begins + title and got.bos_token_id not in title
