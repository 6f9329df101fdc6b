"""What ``llm.backbone`` names: a folder or a file on this machine, or a model on a hub."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sasrecllm.errors import ModelNotFoundError, did_you_mean
from sasrecllm.llm.gguf_file import is_gguf


def refuse_adapter(name: str, is_adapter: bool) -> None:
    """Refuse an adapter's folder, which transformers would load with its base and adapt in silence."""
    if is_adapter:
        raise ModelNotFoundError(
            f"llm.backbone {name!r} is an adapter (adapter_config.json), not a whole language model",
            "give the model that the adapter belongs to (base_model_name_or_path in that file), or"
            " merge the adapter into it (merge_and_unload) and give that folder",
        )


def backbone_path(name: str) -> str:
    """``name`` as a run keeps it: the absolute path of a folder or a GGUF file (``~`` is home)."""
    path = _path(name)
    return name if path is None else str(path)


def folder_of(name: str) -> Path | None:
    """The folder that ``name`` means from here, if there is one."""
    path = _path(name)
    return path if path is not None and path.is_dir() else None


def _path(name: str) -> Path | None:
    """The folder or GGUF file that ``name`` means from here, if there is one."""
    try:
        path = Path(name).expanduser()
        return path.absolute() if name.strip() and (path.is_dir() or is_gguf(path)) else None
    except (OSError, RuntimeError, ValueError):  # too long, a user without home, a zero byte
        return None


def refuse_unreachable(name: str) -> None:
    """Say at once what a missing folder or an unreachable hub would say after minutes of retries.

    Raises:
        ModelNotFoundError: neither a folder with a model nor a hub id that can be had.
    """
    if (path := folder_of(name)) is not None:
        refuse_adapter(name, (path / "adapter_config.json").is_file())
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(
                f"llm.backbone {name!r} is a folder without config.json",
                "give the folder that save_pretrained wrote",
            )
        return
    _refuse_no_hub_id(name)
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    why = ""
    if constants.HF_HUB_OFFLINE:
        why = "no hub is asked (HF_HUB_OFFLINE is on, or a finished run is opened)"
    elif not _hub_answers(constants.ENDPOINT):
        why = f"the hub ({constants.ENDPOINT}) cannot be reached"
    if why:
        raise ModelNotFoundError(
            f"llm.backbone {name!r} is no folder here, is not in the cache (HF_HOME="
            f"{os.environ.get('HF_HOME', '~/.cache/huggingface')}), and {why}",
            "download it where there is a network (hf download), give a local folder, or set"
            " llm.backbone: offline",
        )


def _refuse_no_hub_id(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    path = Path(name)
    with suppress(HFValidationError):
        validate_repo_id(name)
        if not (path.is_absolute() or name.startswith(".") or name.count("/") > 1):
            return
    near: list[str] = []
    with suppress(OSError, ValueError):  # too long for a path, or a zero byte in it
        if path.is_file():
            raise ModelNotFoundError(
                f"llm.backbone {name!r} is a file",
                "give the folder that holds config.json and *.safetensors, or a .gguf file",
            )
        near = [p.name for p in path.parent.glob("*/")] if path.name else []
    hints = {
        "@": "a revision is no part of a hub id: hf download NAME --revision REVISION --local-dir"
        " FOLDER, then give that folder",
        "://": "give the hub id alone: owner/name",
        "$": "variables are not replaced here: write the path out",
        ":": "names of other programs' models are no hub ids: give owner/name as the hub spells it, or"
        " the path of their .gguf file",
    }
    hint = next((hints[sign] for sign in hints if sign in name), "check the path, or give a hub id")
    raise ModelNotFoundError(
        f"llm.backbone {name!r}: no such folder, and no hub id" + did_you_mean(path.name, near), hint
    )


def _hub_answers(endpoint: str, timeout: float = 5.0) -> bool:
    """Whether the hub at ``endpoint`` takes a connection within seconds.

    Behind a proxy that is taken for granted: its host may be out of reach from here, and only a whole
    request would tell whether the proxy reaches it.
    """
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(endpoint)
    proxies = getproxies()
    if (proxies.get(url.scheme) or proxies.get("all")) and not proxy_bypass(url.netloc):
        return True
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        with socket.create_connection((url.hostname or "", port), timeout=timeout):
            return True
    except (OSError, ValueError):  # a port that is no number
        return False
