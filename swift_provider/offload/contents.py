"""The media that Synapse knows: which files there should be, and whether they still should."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TypeVar

from twisted.internet.defer import DeferredLock

from swift_provider.client import Threads
from swift_provider.errors import UnsafeNameError
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, is_thumbnail
from swift_provider.offload.feed import PAGE_MEDIA, reason_to_skip
from swift_provider.offload.media_names import Media, media_of_object, places
from swift_provider.offload.sorted_media import SortedMedia

#: Why a file is left out that there should have been when the run came to it.
DELETED_MEANWHILE = "Synapse has deleted it meanwhile"

Answer = TypeVar("Answer")


class _Batch:
    """Paths to ask for together, and which of them Synapse knows, once that is known."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.known: set[str] | None = None


class KnownMedia:
    """The database and a plan, asked one question at a time: they allow no more.

    :param plan: empty; :meth:`contents` fills it with all media.
    """

    def __init__(self, lookups: Threads, database: Database, plan: SortedMedia) -> None:
        self._lookups = lookups
        self._database = database
        self._plan = plan
        self._turn = DeferredLock()
        self._next = _Batch()

    async def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function in a thread while nothing else uses the database or the plan."""
        async with self._turn:
            return await self._lookups.run(question, *arguments)

    async def contents(
        self, pass_over: Callable[[str], None]
    ) -> AsyncGenerator[list[Expected], None]:
        """All contents, page by page, without thumbnails.

        :param pass_over: called with the reason for each media that is left out.
        :raises LooksWrongError: if the database has no media at all.
        :raises DatabaseUnavailableError: if the database fails.
        """
        await self.ask(self._plan.read_all_known, self._database)
        pages = self._plan.pages(PAGE_MEDIA)
        while page := await self.ask(next, pages, None):
            expected, reasons = await self.ask(_expected, self._database, page)
            for reason in reasons:
                pass_over(reason)
            yield expected

    async def still_has(self, file: Expected) -> bool:
        """Whether Synapse still knows the media of a file of the plan.

        A page of media is read long before its last file is handled. One query answers for
        all files that were waiting for the one before it.

        :raises DatabaseUnavailableError: if the database fails.
        """
        batch = self._next
        batch.paths.add(file.path)
        async with self._turn:
            if batch.known is None:
                self._next = _Batch()
                batch.known = await self._lookups.run(self._known_now, batch.paths)
        return file.path in batch.known

    def _known_now(self, paths: Iterable[str]) -> set[str]:
        owners = {path: media_of_object(path) for path in paths}
        planned = self._plan.media_of({owner for owner in owners.values() if owner is not None})
        facts = self._database.facts(list(planned.values()))
        known = set()
        for path, owner in owners.items():
            media = None if owner is None else planned.get(owner)
            if media is not None:
                found = facts.get((media.origin, media.media_id))
                if reason_to_skip(media, found) is None:
                    known.add(path)
        return known


def _expected(database: Database, page: list[Media]) -> tuple[list[Expected], list[str]]:
    """The files that should exist, and why others are left out."""
    facts = database.facts(page)
    expected, reasons = [], []
    for media in page:
        known = facts.get((media.origin, media.media_id))
        if known is None or known.length is None or reason_to_skip(media, known) is not None:
            reasons.append("Synapse waits for its upload, or is purging it")
            continue
        try:
            path = places(media.origin, media.filesystem_id, media.kind).content
        except UnsafeNameError:
            reasons.append("a name that Synapse would not use")
            continue
        expected.append(Expected(path, frozenset((known.length,)), known.sha256))
    return expected, reasons


def known_lengths(database: Database, plan: SortedMedia, path: str) -> frozenset[int] | None:
    """The lengths in bytes that an object may have. Blocks.

    :param plan: with all media that Synapse knew when the run began.
    :returns: empty if the database does not say; ``None`` if Synapse does not know the media,
        nor did when the run began.
    :raises DatabaseUnavailableError: if the database fails.
    """
    owner = media_of_object(path)
    if owner is None:
        return None
    media = plan.media_of([owner]).get(owner)
    if media is None:
        kind, origin, filesystem_id = owner
        return frozenset() if database.known(kind, [(origin, filesystem_id)]) else None
    facts = database.facts([media]).get((media.origin, media.media_id))
    if facts is None or facts.filesystem_id != media.filesystem_id:
        return frozenset()  # Synapse has deleted it since
    if is_thumbnail(path):
        return frozenset(facts.thumbnails.get(path.rpartition("/")[2], ()))
    return frozenset() if facts.length is None else frozenset((facts.length,))
