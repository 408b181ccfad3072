"""Lists the places in Swift for ``stats``."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor

from swift_provider.client import Observer, Patience, Place
from swift_provider.config import Settings
from swift_provider.offload.command.run_job import run
from swift_provider.offload.jobs.list_place import ListPlace
from swift_provider.offload.progress import Progress
from swift_provider.offload.stats.figures import PlaceFigures
from swift_provider.offload.stats.inventory import Inventory


class ListPlaces:
    """Lists each place that a configuration names, one after the other.

    :param watch: makes what is told about the work of each place.
    :raises ConfigError: if a cloud, its credentials or a certificate file cannot be found.
    """

    def __init__(
        self,
        settings: Settings,
        inventory: Inventory,
        progress: Progress,
        watch: Callable[[Settings], Observer],
    ) -> None:
        places = [
            Place.from_settings(
                reactor,
                member,
                patience=Patience.SCRIPT,
                shares_reactor=False,
                observer=watch(member),
            )
            for member in settings.members
        ]
        self._jobs = [
            (place, ListPlace(reactor, place, inventory, number, progress))
            for number, place in enumerate(places)
        ]
        self._progress = progress
        self._interrupted = False

    def run(self) -> list[PlaceFigures]:
        """Start the reactor; a process can do this once.

        :returns: also of the places that cannot be listed, with the error.
        :raises KeyboardInterrupt: if a signal came.
        """
        run(reactor, self._list, self._stop, lambda: None, self._progress.note)
        if self._interrupted:
            raise KeyboardInterrupt
        return [job.figures for _, job in self._jobs]

    async def _list(self) -> None:
        for place, job in self._jobs:
            try:
                if not self._interrupted:
                    await job.run()
            finally:
                await place.close()
            job.figures.error = job.tally.stopped

    def _stop(self) -> None:
        self._interrupted = True
        for _, job in self._jobs:
            job.stop()
