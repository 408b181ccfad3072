"""The job that adds the listing of one place in Swift to the inventory of ``stats``."""

from __future__ import annotations

from typing import Any

from swift_provider.client import ListedObject, Place
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import ROOTS
from swift_provider.offload.progress import Progress
from swift_provider.offload.stats.figures import PlaceFigures
from swift_provider.offload.stats.inventory import Inventory
from swift_provider.offload.tally import Tally


class ListPlace(Job[Tally]):
    """One run.

    :param inventory: nothing else uses it meanwhile.
    :param number: of the place in the inventory.
    :ivar figures: of the place, after :meth:`run`.
    """

    def __init__(
        self, reactor: Any, place: Place, inventory: Inventory, number: int, progress: Progress
    ) -> None:
        super().__init__(reactor, place, progress, Tally())
        self.figures = PlaceFigures(place.name, place.container)
        self._place = place
        self._inventory = inventory
        self._number = number

    async def _work(self) -> None:
        for root in ROOTS:
            async for page in self._place.list(f"{root}/"):
                if self._stopping:
                    return
                self.figures.not_media += await self.threads.lookups.run(self._add, page)
                self.progress.advance(len(page))
        await self.threads.lookups.run(self.figures.count, self._inventory, self._number)

    def _add(self, page: list[ListedObject]) -> int:
        return self._inventory.add_objects(self._number, ((one.name, one.size) for one in page))
