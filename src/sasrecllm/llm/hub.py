"""The hub of language models, and a block in which it is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "HF_HUB_OFFLINE"


@contextmanager
def cache_only() -> Iterator[None]:
    """A block in which no hub is asked: a language model by hub id is read from this machine's cache.

    The same as HF_HUB_OFFLINE=1 for so long.  A run is opened so, for it must give the answers of the
    language model that it was trained with, and its opening tells nobody.
    """
    from huggingface_hub import constants

    before, was = os.environ.get(VARIABLE), constants.HF_HUB_OFFLINE
    os.environ[VARIABLE], constants.HF_HUB_OFFLINE = "1", True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
