"""The command ``stats``: what media there are and where, and what offloading would free."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime

from swift_provider.offload.command.console import print_json
from swift_provider.offload.command.durations import cut_off, milliseconds
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED, UNREACHABLE
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.command.slow import told_if_stalled
from swift_provider.offload.command.stats_text import as_mapping, text
from swift_provider.offload.command.tables import terminal_width
from swift_provider.offload.database import Database
from swift_provider.offload.media_names import LOCAL, REMOTE, shown
from swift_provider.offload.media_walk import walk_with_sizes
from swift_provider.offload.print_line import print_line
from swift_provider.offload.progress import Progress
from swift_provider.offload.stats import thumbnails_that_stay
from swift_provider.offload.stats.figures import DatabaseFigures, DiskFigures, Figures
from swift_provider.offload.stats.inventory import Inventory
from swift_provider.offload.stats.media_rows import media_rows, thumbnails

#: What is told about, the shortest first. ``update`` takes them, too.
DURATIONS = ("1w", "1m", "2m", "6m", "1y")


def stats(inputs: Inputs) -> int:
    """``stats [BASE_PATH] [CONTAINER]``.

    :returns: :data:`SOME_FAILED` if a part of the disk cannot be read, :data:`UNREACHABLE` if
        a place in Swift cannot be listed.
    """
    base_path = inputs.media_store()
    swift = inputs.settings_if(inputs.arguments.swift)
    inputs.announce()
    with (
        closing(inputs.database()) as database,
        closing(Inventory()) as inventory,
        closing(inputs.progress(None)) as progress,
    ):
        if swift is not None:
            # Not above: without Swift, this command starts at once.
            from swift_provider.offload.command.stats_of_swift import ListPlaces

            listing = ListPlaces(swift, inventory, progress, inputs.watch)
        count = _Count(inventory, database, progress)
        figures = count.figures(base_path, inputs.waits_for)
        if swift is not None:
            figures.places = listing.run()
        progress.close()
    status = SOME_FAILED if count.unreadable else DONE
    if any(place.error is not None for place in figures.places):
        status = UNREACHABLE
    if inputs.arguments.json:
        print_json({**as_mapping(figures, DURATIONS), "unreadable": count.unreadable}, status)
    else:
        print_line("\n".join(text(figures, DURATIONS, terminal_width())))
    return status


class _Count:
    """Counts what is on the disk and in the database.

    :ivar unreadable: how many folders and files of the disk are not counted.
    """

    def __init__(self, inventory: Inventory, database: Database, progress: Progress) -> None:
        self.unreadable = 0
        self._inventory = inventory
        self._database = database
        self._progress = progress
        self._files = self._taken = 0

    def figures(self, base_path: str | None, waits_for: Callable[[], str]) -> Figures:
        """All but Swift's.

        :param base_path: the media store; ``None`` if there is none on this machine.
        :param waits_for: says what the run waits for, if it makes no progress.
        :raises DatabaseUnavailableError: if the database fails.
        """
        inventory, database = self._inventory, self._database
        now = datetime.now()
        before_ms = [milliseconds(cut_off(duration, now)) for duration in DURATIONS]
        with told_if_stalled(self._progress, waits_for):
            if base_path is not None:
                inventory.add_files(walk_with_sizes(base_path, self._fail), self._advance_files)
            for kind in (LOCAL, REMOTE):
                inventory.add_media(media_rows(database, kind, before_ms), self._advance)
            by_step = thumbnails(database, before_ms)
        disk = None
        if base_path is not None:
            inventory.match()
            with told_if_stalled(self._progress, waits_for):
                thumbnails_that_stay.keep(inventory, database)
            disk = DiskFigures.of(inventory, base_path, len(by_step))
        return Figures(DatabaseFigures.of(inventory, by_step), disk, [])

    def _advance_files(self, files: int, taken: int) -> None:
        self._files, self._taken = files, taken
        self._advance(0)

    def _advance(self, media: int) -> None:
        self._progress.advance(media, self._files, self.unreadable, self._taken)

    def _fail(self, path: str, reason: str) -> None:
        self.unreadable += 1
        self._progress.note(f"Failed: {shown(path)}: {reason}")
