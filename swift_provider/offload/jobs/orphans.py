"""The job that removes files from the disk whose media Synapse does not know.

Where each process has a disk of its own, Synapse deletes media on one of them only, and the
other disks keep the files. A killed upload leaves a file, too. Synapse serves none of them.

What is to fear is a database that does not know this homeserver's media: an old copy, or that
of another homeserver. So the rules of ``prune`` apply (:mod:`.prune_rules`), and a file stays
until it is old enough: Synapse writes a file before its row. Even so nothing is lost: such a
file is uploaded like any other before it goes, and only ``prune`` deletes it from Swift.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from swift_provider.client import Store
from swift_provider.errors import LooksWrongError
from swift_provider.offload.batches import Batches
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected
from swift_provider.offload.disk_plan import DiskPlan, Orphan
from swift_provider.offload.jobs.offloading import Offloading
from swift_provider.offload.jobs.prunable import Options
from swift_provider.offload.jobs.prune_rules import (
    OF_FILES,
    Found,
    check_homeserver,
    objection,
)
from swift_provider.offload.media_ages import count
from swift_provider.offload.media_names import LOCAL, REMOTE, Media, is_plain_name, places
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress

PAGE_ORPHANS = 400
_OPTIONS = Options(delete=True, unmarked=False, max_share=None)


@dataclass(frozen=True)
class Search:
    """Finds the media that have files and no row. Blocks.

    :ivar plan: with the media on the disk, and what the database says.
    :ivar server_name: the homeserver.
    :ivar young_seconds: media with a file that was written to more recently stay.
    """

    plan: DiskPlan
    database: Database
    base_path: str
    server_name: str
    young_seconds: float

    def any_may_go(self) -> bool:
        """Whether there are any that are old enough.

        :raises LooksWrongError: if there are, and the database is probably the wrong one.
        :raises DatabaseUnavailableError: if the database fails.
        """
        if self._ignores_case():
            # The name of a folder on the disk may differ from the one in the database.
            return False
        now = datetime.now(timezone.utc)
        found = Found()
        for page in self._unknown():
            for orphan in page:
                kind, written = orphan.owner[0], _written(orphan)
                found.unknown_by_day[kind][f"{written:%Y-%m-%d}"] += 1
                if self._is_old(orphan, now):
                    found.doomed[kind] += 1
                    found.newest = max(found.newest, written)
        if not found.doomed.total():
            return False
        check_homeserver(self.server_name, self.database.homeserver(self.server_name), _OPTIONS)
        found.known_by_day[LOCAL] = self.database.local_media_by_day(now)
        found.known_by_day[REMOTE] = self.plan.known_by_day(REMOTE)
        for kind in (LOCAL, REMOTE):
            found.known[kind] = count(self.database, kind)
        activity = self.database.newest_activity(datetime.now(timezone.utc))
        reason = objection(found, activity, _OPTIONS, OF_FILES)
        if reason is not None:
            raise LooksWrongError(f"Files of media that Synapse does not know stay: {reason}")
        return True

    def old(self) -> Iterator[list[Media]]:
        """Those that are old enough, page by page. The media id is not known."""
        now = datetime.now(timezone.utc)
        for page in self._unknown():
            owners = [orphan.owner for orphan in page if self._is_old(orphan, now)]
            yield [Media(origin, name, name, kind) for kind, origin, name in owners]

    def _unknown(self) -> Iterator[list[Orphan]]:
        """Asks the database again: a media may have got its row since the plan was made."""
        for page in self.plan.orphans(PAGE_ORPHANS):
            for kind in (LOCAL, REMOTE):
                of_kind = [one for one in page if one.owner[0] == kind]
                known = self.database.known(kind, [one.owner[1:] for one in of_kind])
                yield [one for one in of_kind if one.owner[1:] not in known]

    def _is_old(self, orphan: Orphan, now: datetime) -> bool:
        return _written(orphan) < now - timedelta(seconds=self.young_seconds)

    def _ignores_case(self) -> bool:
        try:
            names = os.listdir(self.base_path)
            return any(
                os.path.samefile(f"{self.base_path}/{name}", f"{self.base_path}/{name.upper()}")
                for name in names
                if name != name.upper()
            )
        except FileNotFoundError:
            return False


def _written(orphan: Orphan) -> datetime:
    return datetime.fromtimestamp(orphan.written_ms / 1000, timezone.utc)


class Orphans(Offloading):
    """Uploads them if Swift lacks them, and removes them from the disk.

    :param search: which found that there are any that may go.
    :param database: another connection, for the last look before a file goes.
    """

    #: Nothing may go that one of them does not hold.
    needs_every_member = True

    def __init__(
        self, reactor: Any, store: Store, search: Search, database: Database, progress: Progress
    ) -> None:
        super().__init__(
            reactor,
            store,
            progress,
            search.base_path,
            delete=True,
            proof=True,
            young_seconds=search.young_seconds,
        )
        self._search = search
        self._database = database
        self._unknown = Batches(self._ask_unknown)

    async def _ask_unknown(self, media: set[Media]) -> set[Media]:
        return await self.threads.lookups.run(_without_row, self._database, media)

    async def _may_go(self, media: Media, file: Expected) -> bool:
        return await self._unknown.answer(media)

    async def _work(self) -> None:
        items = Items(self._pages())
        try:
            await in_parallel(self._store.width, items.take, self._handle, self._is_stopping)
        finally:
            await items.close()

    async def _pages(self) -> AsyncGenerator[list[Media], None]:
        pages = self._search.old()
        while (page := await self.threads.lookups.run(next, pages, None)) is not None:
            yield page

    async def _handle(self, media: Media) -> None:
        self.tally.media += 1
        for path in await self.threads.lookups.run(self._paths, media):
            if self._stopping:
                return
            file = Expected(path, frozenset())
            await self._attempt(path, self._offload(media, file, {}))

    def _paths(self, media: Media) -> list[str]:
        """Of the files that Synapse would take for those of this media. Blocks."""
        content, folder = places(media.origin, media.filesystem_id, media.kind)
        found = [content]
        with suppress(OSError):  # No thumbnails.
            names = os.listdir(f"{self._base_path}/{folder}")
            found += [f"{folder}/{name}" for name in sorted(names) if is_plain_name(name)]
        return found


def _without_row(database: Database, media: set[Media]) -> set[Media]:
    """Those of these media that Synapse still does not know. Blocks."""
    unknown: set[Media] = set()
    for kind in (LOCAL, REMOTE):
        names = {(one.origin, one.filesystem_id): one for one in media if one.kind == kind}
        known = database.known(kind, sorted(names))
        unknown |= {one for name, one in names.items() if name not in known}
    return unknown
