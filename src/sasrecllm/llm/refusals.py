"""What the libraries of language models raise, in the user's words.

transformers, tokenizers, safetensors, the hub's client and the packages of quantised weights raise what
they like: ImportError, KeyError, a bare Exception.  Every call of theirs that reads a model stands
inside :func:`reading`, so that each of these becomes one refusal with a next step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sasrecllm.errors import (
    CheckpointError,
    ConfigError,
    EnvironmentRefusal,
    ModelNotFoundError,
    SasrecllmError,
)
from sasrecllm.machine.os_errors import lacks_room

_PIP = re.compile(r"pip install ([^`\n]*)`|pip install (?:-\S+ )*(\S+)")
_WHOLE = "give a local folder with config.json, *.safetensors and a tokenizer, or another hub id"
_SLOW = ("sentencepiece", "tiktoken", "protobuf")
_PACKAGES_OF = {"hqq": ["hqq"], "gptq": ["optimum", "gptqmodel"]}
"""Methods of quantisation whose error names no package, or one of two."""


@contextmanager
def reading(
    what: str, name: str, about: Mapping[str, Any] | None = None, of: str = "llm.backbone "
) -> Iterator[None]:
    """A block of library calls that read ``what`` of the backbone ``name``.

    Args:
        what: ``config.json``, ``tokenizer`` or ``weights``.
        about: what config.json says, once it is known.
        of: stands before the name in a refusal.

    Raises:
        EnvironmentRefusal: a package is missing, too old, or needs another machine.
        ModelNotFoundError: files are missing, or are not what such a model has.
        CheckpointError: the weights are damaged.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SasrecllmError:
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"the weights of {of}{name!r} are damaged: {_line(error)}",
            "copy or download the *.safetensors files again",
        ) from error
    except Exception as error:
        if lacks_room(error):  # not the model's fault
            raise
        said = f"the {what} of {of}{name!r} cannot be read: {_line(error)}"
        if pip := _pip_line(error, what, name, about or {}):
            raise EnvironmentRefusal(said, pip) from error
        if isinstance(error, ImportError | NotImplementedError) or "PyTorch is not linked" in said:
            raise EnvironmentRefusal(
                said,
                "choose a copy of the model that this machine can run, for example an unquantised one",
            ) from error
        raise ModelNotFoundError(said, _remedy(what, name)) from error


def _line(error: Exception) -> str:
    """The library's own words in one line, with the kind of error where they alone say nothing."""
    from safetensors import SafetensorError

    words = " ".join(str(error).split())
    plain = isinstance(error, OSError | ValueError | ImportError | SafetensorError)
    said = (
        words if words and (plain or type(error) is Exception) else f"{type(error).__name__}: {words}"
    )
    return said if len(said) <= 300 else said[:300] + " ..."


def _pip_line(error: Exception, what: str, name: str, about: Mapping[str, Any]) -> str:
    """The command that installs what is missing; empty where none would help."""
    said = str(error)
    packages: list[str] = []
    if isinstance(error, ImportError) and quantisation(about) in _PACKAGES_OF:
        packages = _PACKAGES_OF[quantisation(about)]
    elif found := _PIP.search(said):
        words = (found[1] or found[2]).split()
        packages = [w.strip("'\".,)") for w in words if not w.startswith("-")]
    elif isinstance(error, ModuleNotFoundError) and error.name:
        packages = [error.name.partition(".")[0]]
    slow = what == "tokenizer" and any(n in said for n in _SLOW)
    if slow and (set(packages) & set(_SLOW) or _has_slow_tokenizer(name)):
        packages = list(_SLOW)
    if packages:
        return "pip install " + " ".join(f'"{p}"' if re.search(r"[^\w.-]", p) else p for p in packages)
    if type(error) is Exception and _is_of_a_newer_library(name):  # all that tokenizers ever raises
        return "pip install --upgrade tokenizers transformers"
    return ""


def _has_slow_tokenizer(name: str) -> bool:
    """Whether a folder has a tokenizer that must be converted, and no converted one."""
    folder = Path(name)
    models = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
    return not (folder / "tokenizer.json").is_file() and any((folder / m).is_file() for m in models)


def _is_of_a_newer_library(name: str) -> bool:
    """Whether a folder's tokenizer.json is whole, so that what is unknown in it must be newer."""
    try:
        found = json.loads((Path(name) / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get("model"), dict)


def _remedy(what: str, name: str) -> str:
    folder = Path(name)
    if what == "weights" and folder.is_dir() and not any(folder.glob("*.safetensors*")):
        kinds = sorted({p.suffix for p in folder.iterdir()} & {".bin", ".pt", ".pth", ".gguf", ".h5"})
        found = f" (it has {', '.join(kinds)}, which are not read)" if kinds else ""
        return f"give a folder with *.safetensors{found}; load and save_pretrained writes them"
    if what == "config.json":
        return (
            "correct or download config.json again; where the model is newer than the installed"
            " transformers: pip install --upgrade transformers"
        )
    if what == "tokenizer":
        return "save the tokenizer into the same folder (tokenizer.save_pretrained), or copy it again"
    return _WHOLE


def quantisation(about: Mapping[str, Any]) -> str:
    """How the weights are quantised already, as config.json says; empty where they are not."""
    found = about.get("quantization_config")
    return str(found.get("quant_method") or "unknown") if isinstance(found, dict) else ""


def refuse_own_code(name: str, what: str) -> None:
    """Refuse what transformers would ask about on the terminal: to run the repository's own code.

    Raises:
        ModelNotFoundError: always, with ``what`` needs it.
    """
    raise ModelNotFoundError(
        f"llm.backbone {name!r} ({what}) needs code of its own repository, which is never run",
        "choose a model that transformers itself supports",
    )


def refuse_unfit(
    name: str, about: Mapping[str, Any], causal: Container[str], quantize: str | None
) -> None:
    """Refuse what config.json alone says to be no causal language model, or quantised already.

    Args:
        about: what config.json says.
        causal: the ``model_type`` of every causal language model that transformers has.
        quantize: how the weights shall be quantised.

    Raises:
        ModelNotFoundError: another kind of model.
        ConfigError: its weights are quantised, and shall be again.
    """
    kind = about["model_type"]
    if about.get("is_encoder_decoder") or kind not in causal:
        what = "an encoder-decoder model" if about.get("is_encoder_decoder") else "no language model"
        raise ModelNotFoundError(
            f"llm.backbone {name!r} (model_type {kind!r}) is {what}; a causal language model is needed",
            "choose a decoder-only model, for example of the family of Llama, Qwen, Gemma or GPT-2",
        )
    if quantize and (method := quantisation(about)):
        raise ConfigError(
            f"llm.quantize is {quantize}, but llm.backbone {name!r} is quantised already ({method})",
            "set llm.quantize=none, or give the model that is not quantised",
        )


def refuse_other_weights(name: str, info: Mapping[str, Any], model_keys: Iterable[str]) -> None:
    """Refuse weights that transformers would fill up with random numbers or pass over in part.

    Args:
        info: what loading them said (``missing_keys``, ``unexpected_keys``, ``mismatched_keys``).
        model_keys: names of the model's own tensors.

    Raises:
        CheckpointError: with the first tensor that is missing, left over or of another shape.
    """
    shapes = {
        key: (list(there), list(wanted)) for key, there, wanted in info.get("mismatched_keys", ())
    }
    if shapes:
        key, (there, wanted) = sorted(shapes.items())[0]
        raise CheckpointError(
            f"llm.backbone {name!r}: config.json and the weights disagree: {key} has the shape {there},"
            f" config.json asks for {wanted} ({len(shapes)} tensors differ)",
            "correct config.json (vocab_size, hidden_size, ...), or copy the whole model again",
        )
    lost = sorted(map(str, info["missing_keys"]))
    if lost:
        raise CheckpointError(
            f"llm.backbone {name!r} lacks {len(lost)} tensors of its model: {', '.join(lost[:3])}",
            "copy or download the whole model again; it must be a causal language model with its head",
        )
    wanted_keys = {re.sub(r"\d+", "N", key) for key in model_keys}
    more = sorted(k for k in info["unexpected_keys"] if re.sub(r"\d+", "N", str(k)) in wanted_keys)
    if more:
        raise CheckpointError(
            f"llm.backbone {name!r}: the weights have {len(more)} tensors of layers that config.json"
            f" leaves out: {', '.join(more[:3])}",
            "correct config.json (num_hidden_layers), or copy the whole model again",
        )
