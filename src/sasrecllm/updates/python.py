"""``sasrecllm.update`` and ``system.update``: the same run as ``sasrecllm update`` makes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.inference.arguments import folder_of, shown
from sasrecllm.inference.recommender import SASRecLLM
from sasrecllm.inference.saving import Place
from sasrecllm.machine.signals import interruptible
from sasrecllm.runs.folder import RunFolder
from sasrecllm.updates.promote import PROMOTE, Promote
from sasrecllm.updates.update import update as update_run


def update(
    run: str | Path,
    interactions: Any,
    items: Any = None,
    *,
    out: str | Path | None = None,
    promote: Promote = "never",
    quiet: bool = False,
    force: bool = False,
    temporary: bool = False,
    **settings: Any,
) -> SASRecLLM:
    """A trained system that goes on from a run with new rows, users and items; the run stays as it is.

    Args:
        run: a finished run folder, or a link to one.
        interactions: the rows that came since, as :func:`sasrecllm.fit` takes them, with the columns
            that the run was trained on.
        items: ids and titles of new items; None where there are none, or where their titles stand in
            ``interactions``.
        out: folder of the new run; the next number behind ``run`` without.
        promote: ``auto`` and ``always`` move the link that a server was started on.
        temporary: the new run lies in a temporary folder for as long as the system is in use.
        settings: those in which an update may differ: ``update={"epochs": 5}``, or
            ``**{"data.columns.user_id": "who"}``.

    Raises:
        SasrecllmError: as ``sasrecllm update`` refuses; a :class:`~sasrecllm.errors.DataError` where
            every row is known already.
    """
    if promote not in PROMOTE:
        raise ConfigError(
            f"promote is {shown(promote)}; allowed: {', '.join(PROMOTE)}"
            + did_you_mean(str(promote), PROMOTE),
            "choose one of these",
        )
    folder = None if out is None else folder_of(out)
    if temporary:
        folder = Path(tempfile.mkdtemp(prefix="sasrecllm-"))
    try:
        with interruptible():
            done = update_run(
                folder_of(run),
                interactions,
                items,
                folder,
                promote=promote,
                given=[(key, value, f"setting {key}") for key, value in _leaves(settings)],
                quiet=quiet,
                force=force,
            )
        system = SASRecLLM.load(RunFolder(done.folder))
    except BaseException:
        if temporary and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if temporary:
        system.place = Place(done.folder, temporary=True)
    return system


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting in nested ones."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key, value
