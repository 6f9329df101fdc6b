"""A trained system in Python: what it answers, and what is done with its run (keep, export, update)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sasrecllm.checkpoint import read_json
from sasrecllm.inference.arguments import folder_of, ids_of
from sasrecllm.inference.export import Form, export_run, request_of
from sasrecllm.inference.id_lookup import items_of
from sasrecllm.inference.recommender import Recommender
from sasrecllm.inference.requests import Entry, Id, NewItem
from sasrecllm.inference.results import Results
from sasrecllm.inference.saving import Place, copy_run, refuse_added
from sasrecllm.machine.signals import interruptible
from sasrecllm.runs.folder import RunFolder
from sasrecllm.settings import Config
from sasrecllm.updates.promote import Promote, checked
from sasrecllm.updates.update import update as update_run


class SASRecLLM(Recommender):
    """A trained run: it scores, recommends and explains, and is kept, exported and updated."""

    place = Place()
    """Where the run lies; nowhere for a system that was put together in memory."""

    @classmethod
    def of_run(cls, folder: RunFolder, device: str = "auto", config: Config | None = None) -> Self:
        """See :meth:`.Recommender.of_run`."""
        system = super().of_run(folder, device, config)
        system.place = Place(folder.path.absolute())
        return system

    def with_items(self, items: Sequence[NewItem]) -> Self:
        """See :meth:`.Recommender.with_items`; the run stays where it is, without them."""
        system = super().with_items(items)
        system.place = self.place
        return system

    def evaluate(self) -> Results:
        """What the run measured on its whole test split; prints as the table."""
        return Results(read_json(RunFolder(self.place.folder).results, rows=dict, ranking=dict))

    def save(self, folder: str | Path) -> None:
        """Keep the run in a folder, which :meth:`from_pretrained` and every command take.

        Raises:
            ConfigError: something stands there, or the system has items that its run has not.
            ResourceError: the disk is full.
        """
        refuse_added(self.catalog.n_items - self.dataset.n_items)
        copy_run(self.place.folder, folder_of(folder))

    def export(self, folder: str | Path, form: Form = "adapter") -> None:
        """Write the run's language model for other programs; see :func:`~.export.export_run`.

        Raises:
            ConfigError: something stands there, or the run has nothing of this form.
            ResourceError: the disk is full.
        """
        export_run(self.place.folder, folder_of(folder), form, self.parts.config)

    def score_request(
        self, items: Sequence[Id], history: Sequence[Entry] | None = None, user: Id | None = None
    ) -> dict[str, Any]:
        """Body of the request that gives the language model's scores of ``items`` on another server.

        docs/serving.md has the server, the answer, and what to mind.

        Raises:
            ConfigError: the run asks no language model.
            DataError: an unknown item or user, or neither user nor history is given.
        """
        system, histories = self._asked(history, user, True)
        targets = items_of(system.catalog, ids_of(items, "items"), "items")
        return request_of(self.parts, system.catalog, histories, targets)

    def update(
        self, interactions: Any, items: Any = None, out: str | Path | None = None, **how: Any
    ) -> SASRecLLM:
        """A new system that goes on from this one's run with new rows; see :func:`update`.

        Without ``out`` its run lies beside this one's; in a temporary folder where this one's does.

        Raises:
            SasrecllmError: as :func:`update`.
        """
        temporary = out is None and self.place.temporary
        return update(self.place.folder, interactions, items, out=out, temporary=temporary, **how)


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

    The same run as ``sasrecllm update`` makes.

    Args:
        run: a finished run folder, or a link to one.
        interactions: the rows that came since, as :func:`sasrecllm.fit` takes them, with the columns
            that the run was trained on.
        items: ids and titles of new items; None where there are none, or where their titles stand in
            ``interactions``.
        out: folder of the new run; the next number behind ``run`` without.
        promote: ``never`` moves no link; ``always`` moves the one that a server was started on,
            ``auto`` does unless the new run is surely worse.
        temporary: the new run lies in a temporary folder for as long as the system is in use.
        settings: those in which an update may differ: ``update={"epochs": 5}``, or
            ``**{"data.columns.user_id": "who"}``.

    Raises:
        SasrecllmError: as ``sasrecllm update`` refuses; a :class:`~sasrecllm.errors.DataError` where
            every row is known already.
    """
    promote = checked(promote, "promote")
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
        system = SASRecLLM.of_run(RunFolder(done.folder))
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
