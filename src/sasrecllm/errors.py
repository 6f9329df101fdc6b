"""Refusals in the user's words.  Each kind has its exit code; none of them ends in a traceback.

0 ok, 1 a bug of ours (traceback), 2 usage or config, 3 environment, 4 data or model not found or
invalid, 5 damaged or foreign checkpoint, 6 resources, 7 diverged, 130 Ctrl-C, 143 terminated.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SasrecllmError(Exception):
    """Base of every refusal: ``what`` went wrong (culprit, value, allowed) and the ``remedy``.

    >>> print(ConfigError("loop.epochs is -1; allowed: 1 or more", "set loop.epochs: 3"))
    loop.epochs is -1; allowed: 1 or more
      -> set loop.epochs: 3
    """

    exit_code = 1

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  -> {self.remedy}"


class ConfigError(SasrecllmError):
    """A flag or a key of the configuration is wrong."""

    exit_code = 2


class EnvironmentRefusal(SasrecllmError):
    """A package is missing or of the wrong build."""

    exit_code = 3


class MissingExtraError(EnvironmentRefusal):
    """An optional dependency is needed; the remedy is the pip command."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, f'pip install "sasrecllm[{extra}]"')


class DataError(SasrecllmError):
    """A file, row, column or value of the user's data is missing or invalid."""

    exit_code = 4


class ModelNotFoundError(DataError):
    """A language model or a run folder is not where it was said to be."""


class CheckpointError(SasrecllmError):
    """A checkpoint is damaged, incomplete or made for something else."""

    exit_code = 5


class ResourceError(SasrecllmError):
    """Disk or memory ran out, or a process of the job was lost."""

    exit_code = 6


class DivergedError(SasrecllmError):
    """Training produced a number that is not finite."""

    exit_code = 7


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """A hint to append to a refusal, or an empty string.

    >>> did_you_mean("epoch", ["epochs", "seed"]), did_you_mean("SEED", ["epochs", "seed"])
    ("; did you mean 'epochs'?", "; did you mean 'seed'?")
    """
    close = nearest_name(got, allowed)
    return f"; did you mean {close!r}?" if close else ""


def nearest_name(got: str, allowed: Iterable[str]) -> str:
    """The allowed name that is most like ``got``, in another case if need be; may be empty."""
    names = list(allowed)
    folded = {name.casefold(): name for name in reversed(names)}
    if got in names or got.casefold() in folded:
        return got if got in names else folded[got.casefold()]
    if close := difflib.get_close_matches(got, names, n=1, cutoff=0.6):
        return close[0]
    close = difflib.get_close_matches(got.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else ""
