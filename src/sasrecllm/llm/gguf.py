"""GGUF files, the format of llama.cpp, turned once into ordinary Hugging Face folders.

The weights are de-quantised: what comes out is the model as llama.cpp computes with it, in a form that
can be trained.  Nothing is guessed: what the file says and this does not carry over is refused.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from sasrecllm.errors import (
    CheckpointError,
    EnvironmentRefusal,
    MissingExtraError,
    ModelNotFoundError,
)
from sasrecllm.llm import gguf_tokens
from sasrecllm.llm.ability import LEAST, refuse_unable
from sasrecllm.llm.gguf_config import OTHER, ROTATION, complete
from sasrecllm.llm.gguf_file import ABOUT, FORMAT, GgufFile, Report, read_gguf, refuse_cut
from sasrecllm.llm.loading import gguf_description, gguf_model, gguf_splits, load_backbone
from sasrecllm.llm.refusals import reading
from sasrecllm.manifest import file_digest

ARCHITECTURES = {
    "llama": "Llama, Mistral 7B, SmolLM2, TinyLlama",
    "qwen2": "Qwen2, Qwen2.5",
    "qwen3": "Qwen3",
    "gpt2": "GPT-2",
}
"""Families whose every key and tensor is known to be carried over (tests/llm/test_gguf.py), and
models that their files hold."""

TRANSFORMERS = "5.18"
"""The oldest transformers that names the rules of a GGUF file's tokenizer; in the extra ``gguf``."""

CARD = {
    "license": "general.license",
    "base_model": "general.base_model.0.repo_url",
    "language": "general.languages",
}


def convert(path: Path, folder: Path, *, origin: str = "", report: Report | None = None) -> None:
    """Write the model of a GGUF file into ``folder``, as ``save_pretrained`` would.

    Weights go to bf16, which quantised ones lose nothing in that counts, and to fp32 where the file
    has them in fp32 or fp16.

    Args:
        path: the file.
        folder: an empty folder.
        origin: where the file is from, for the model card: a package and its version, say.

    Raises:
        ModelNotFoundError: no GGUF file, or one that cannot be carried over whole.
        CheckpointError: a damaged file.
        MissingExtraError: the package gguf is not installed.
    """
    file = refuse(path)
    with tempfile.TemporaryDirectory(prefix="sasrecllm-") as apart:
        alone = Path(apart)
        (alone / "model.gguf").symlink_to(path.absolute())
        _convert(file, alone, folder, report or (lambda what, done, total: None))
    _write_card(file, folder, origin)


def refuse(path: Path) -> GgufFile:
    """Refuse a file that cannot be converted, before any weight is read; what any other one says.

    Raises:
        ModelNotFoundError, CheckpointError, MissingExtraError: as :func:`convert`.
    """
    file = read_gguf(path)
    _refuse_other_kinds(file)
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(f"{path} is a GGUF file, which needs the package gguf", "gguf")
    from gguf import GGML_QUANT_SIZES

    refuse_cut(file, {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()})
    return file


def _splits() -> frozenset[str]:
    try:
        return gguf_splits()
    except ImportError as error:
        here = importlib.metadata.version("transformers")
        raise EnvironmentRefusal(
            f"a GGUF file is read by transformers {TRANSFORMERS} or newer, and {here} is installed",
            f'pip install "transformers>={TRANSFORMERS}"',
        ) from error


def _refuse_other_kinds(file: GgufFile) -> None:
    family, kind = file.architecture, file.text("general.type")
    if kind not in ("", "model"):
        raise ModelNotFoundError(
            f"{file.path} holds no language model but a part of one (general.type is {kind!r})",
            "give the GGUF file of the whole model",
        )
    if family not in ARCHITECTURES:
        raise ModelNotFoundError(
            f"{file.path}: general.architecture is {family[:80]!r}, of which GGUF files are not read;"
            f" allowed: {'; '.join(f'{k} ({models})' for k, models in ARCHITECTURES.items())}",
            "give a GGUF file of one of these, or the publisher's own folder or hub id of this model,"
            " which transformers reads in any architecture",
        )
    parts = file.metadata.get("split.count", 1)
    if parts != 1:
        raise ModelNotFoundError(
            f"{file.path} is one of {parts} parts of a model", "join them: llama-gguf-split --merge"
        )


def _convert(file: GgufFile, alone: Path, folder: Path, report: Report) -> None:
    """Configuration, tokenizer and weights into ``folder``, from the file in the folder ``alone``."""
    name = str(file.path)
    gguf_tokens.refuse_unknown_split(file, _splits())
    with reading("metadata", name, of=""):
        config, tokenizer = gguf_description(alone, "model.gguf")
    complete(config, file)
    with reading("tokenizer", name, of=""):
        tokenizer = gguf_tokens.mended(tokenizer, file)
        tokenizer.model_max_length = config.max_position_embeddings
        gguf_tokens.refuse_lossy(tokenizer, file)
    dtype = _dtype(file)
    with reading("weights", name, of=""):
        causal, info, taken = gguf_model(alone, "model.gguf", config, dtype, report)
    _refuse_other_tensors(file, info, taken)
    with reading("weights", name, of=""):
        causal.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    del causal
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("transformers_version", "_model_name_or_path", "quantization_config"):
        described.pop(key, None)  # the same file gives the same folder under the next version too
    text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    report("trying the model", 0, 1)
    refuse_unable(load_backbone(str(folder), dtype=dtype), name, LEAST)
    report("trying the model", 1, 1)


def _dtype(file: GgufFile) -> str:
    """bf16, unless most values are in fp32 or fp16, of which bf16 would lose digits."""
    single = half = 0
    for _, dimensions, kind, _ in file.tensors:
        single += prod(dimensions) if kind in (0, 1) else 0
        half += prod(dimensions)
    return "fp32" if 2 * single > half else "bf16"


def _refuse_other_tensors(file: GgufFile, info: Mapping[str, Any], taken: frozenset[str]) -> None:
    """transformers fills missing tensors with random numbers and passes over others, and only warns."""
    again = "take another copy of the model, or the publisher's own folder"
    for key, there, wanted in info.get("mismatched_keys", ()):
        raise CheckpointError(
            f"{file.path}: its tensors and its metadata disagree: {key} has the shape {list(there)},"
            f" the metadata ask for {list(wanted)}",
            again,
        )
    if lost := sorted(map(str, info["missing_keys"])):
        raise CheckpointError(
            f"{file.path} lacks {len(lost)} tensors of its model: {', '.join(lost[:3])}", again
        )
    if more := sorted({e.name for e in file.tensors} - taken - {ROTATION}):
        raise ModelNotFoundError(
            f"{file.path} has {len(more)} tensors that are not carried over:"
            f" {', '.join(more[:3])[:200]}",
            OTHER,
        )


def _write_card(file: GgufFile, folder: Path, origin: str) -> None:
    """README.md: what this is, where from, under which licence; gguf.json: the same for programs."""
    import yaml
    from gguf import GGMLQuantizationType as Kind

    kinds = Counter(Kind(kind).name for _, _, kind, _ in file.tensors)
    about = {
        "file": file.path.name,
        "sha256": file_digest(file.path),
        "bytes": file.size,
        "from": origin,
        "tensors": dict(kinds.most_common()),
        "dtype": _dtype(file),
        "format": FORMAT,
        "versions": {p: importlib.metadata.version(p) for p in ("sasrecllm", "transformers", "gguf")},
        "metadata": {
            key: value
            for key, value in file.metadata.items()
            if key.startswith("general.") and isinstance(value, str | int | float)
        },
    }
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    (folder / ABOUT).write_text(text, encoding="utf-8")
    head = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    for key, source in CARD.items():
        if value := file.metadata.get(source):
            head[key] = value
    name = file.text("general.name") or file.path.stem
    lines = [
        "---", yaml.safe_dump(head, sort_keys=True, allow_unicode=True).strip(), "---", "",
        f"# {name[:200]}", "",
        f"Converted from `{file.path.name}` by `sasrecllm convert`: the weights of that GGUF file,"
        f" de-quantised and stored in {about['dtype']}. They are that file's numbers, not the"
        " publisher's originals.", "",
        "| | |", "|---|---|",
        f"| source | `{file.path.name}`, {file.size} bytes{', of ' + origin if origin else ''} |",
        f"| SHA-256 | `{about['sha256']}` |",
        f"| tensors there | {', '.join(f'{n} {k}' for k, n in kinds.most_common())} |",
        f"| licence | {file.text('general.license') or 'the file does not say'} |",
        *(f"| {key} | {str(value)[:300]} |" for key, value in _provenance(file)),
    ]  # fmt: skip
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _provenance(file: GgufFile) -> list[tuple[str, str]]:
    """What the file says of its makers, one line each."""
    keys = sorted(k for k in file.metadata if k.startswith("general."))
    shown = ("organization", "author", "basename", "finetune", "size_label", "version", "url", "source")
    wanted = [k for k in keys if k.split(".")[1] in (*shown, "base_model")]
    return [(k.removeprefix("general."), file.text(k)) for k in wanted if file.text(k)]
