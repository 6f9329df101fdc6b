"""GGUF files as llama.cpp's own converter would write them, from small models with random weights.

Written after the rules of ``convert_hf_to_gguf.py``: tensor names from the package gguf, the rows of
Llama's queries and keys interleaved, GPT-2's Conv1D matrices transposed.
"""

import json

import gguf
import numpy as np
import torch
from gguf.quants import quantize

SIZES = {"vocab_size": 400, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPES = {"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 128}


def build(family, tied=True, **more):
    """A small causal language model of ``family`` with random weights."""
    import transformers

    sizes = SIZES | SHAPES | {"tie_word_embeddings": tied} | more
    config = {
        "llama": lambda: transformers.LlamaConfig(**sizes),
        "qwen2": lambda: transformers.Qwen2Config(**sizes),
        "qwen3": lambda: transformers.Qwen3Config(**sizes, head_dim=32),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=400, n_embd=64, n_layer=2, n_head=4, n_positions=128, n_inner=96
        ),
    }[family]()
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # biases and norms too, which begin as zeros and ones
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def write(path, model, tokenizer, *, kind="F32", split="smollm", bos=False, change=None):
    """Write ``model`` and its tokenizer.

    Args:
        tokenizer: byte-level BPE; or the pieces of a SentencePiece vocabulary: (text, score, type).
        kind: how matrices are stored (F32, F16, BF16, Q8_0, Q4_1); vectors are F32.
        split: ``tokenizer.ggml.pre``; None leaves the key out.
        bos: ``tokenizer.ggml.add_bos_token`` of byte-level BPE; None leaves the key out.
        change: called with the writer before the tensors are added.
    """
    config, family = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, family)
    writer.add_type("model")
    writer.add_name("Tiny\nfilms")
    writer.add_license("mit")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner)
    writer.add_head_count(config.num_attention_heads)
    if family == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if family == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if isinstance(tokenizer, list):
        _pieces(writer, tokenizer)
    else:
        _vocabulary(writer, tokenizer, split, bos)
    if change is not None:
        change(writer)
    for name, tensor in _tensors(model):
        matrix = tensor.ndim > 1
        stored = gguf.GGMLQuantizationType[kind if matrix else "F32"]
        writer.add_tensor(name, quantize(tensor, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _pieces(writer, pieces):
    texts, scores, types = zip(*pieces, strict=True)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _vocabulary(writer, tokenizer, split, bos):
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    special = {t["id"] for t in described["added_tokens"] if t["special"]}
    writer.add_tokenizer_model("gpt2")
    if split is not None:
        writer.add_tokenizer_pre(split)
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([3 if i in special else 1 for _, i in tokens])
    writer.add_token_merges([" ".join(pair) for pair in described["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if bos is not None:
        writer.add_add_bos_token(bos)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def _tensors(model):
    config, family = model.config, model.config.model_type
    arch = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == family)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        tensor = value.float().numpy().copy()
        if family == "llama" and (".q_proj." in key or ".k_proj." in key):
            heads = config.num_attention_heads if ".q_proj." in key else config.num_key_value_heads
            split = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
            tensor = split.swapaxes(1, 2).reshape(tensor.shape)
        if family == "gpt2" and tensor.ndim == 2 and "blk." in name:
            tensor = np.ascontiguousarray(tensor.T)
        yield name, tensor
