"""What all tests share: the development data where there is some, and a closed door to the hub."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of development datasets, or a skip that says what is missing."""
    where = os.environ.get("SASRECLLM_DATA")
    if not where or not Path(where).is_dir():
        pytest.skip("SASRECLLM_DATA names no folder with the development datasets")
    return Path(where)
