"""The media that Synapse knows: which files there should be, and whether they still should."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from twisted.internet.defer import DeferredLock

from swift_provider.client import Threads
from swift_provider.errors import UnsafeNameError
from swift_provider.offload.batches import Batches
from swift_provider.offload.database import Database, reason_to_skip
from swift_provider.offload.disk import Expected, is_thumbnail
from swift_provider.offload.feed import PAGE_MEDIA
from swift_provider.offload.media_names import Media, media_of_object, places
from swift_provider.offload.sorted_media import SortedMedia
from swift_provider.offload.wanted_media import Wanted

#: Why a file is left out that there should have been when the run came to it.
DELETED_MEANWHILE = "Synapse has deleted it meanwhile"

Answer = TypeVar("Answer")


class KnownMedia:
    """The database and a plan, asked one question at a time: they allow no more.

    :param plan: empty; :meth:`read` fills it.
    :param wanted: which media to know.
    """

    def __init__(
        self,
        lookups: Threads,
        database: Database,
        plan: SortedMedia,
        wanted: Wanted | None = None,
    ) -> None:
        self._wanted = wanted or Wanted()
        self._lookups = lookups
        self._database = database
        self._plan = plan
        self._turn = DeferredLock()
        self._known = Batches(self._ask_known, self._turn)

    async def ask(self, question: Callable[..., Answer], *arguments: object) -> Answer:
        """Call a function in a thread while nothing else uses the database or the plan."""
        async with self._turn:
            return await self._lookups.run(question, *arguments)

    async def read(self) -> int:
        """Fill the plan. Call once, before all else.

        :returns: how many media there are.
        :raises LooksWrongError: if the database has no media at all.
        :raises ConfigError: if it knows none of those that are wanted.
        :raises DatabaseUnavailableError: if the database fails.
        """
        return await self.ask(self._wanted.read, self._plan, self._database)

    async def contents(
        self, pass_over: Callable[[str], None]
    ) -> AsyncGenerator[list[Expected], None]:
        """All contents, page by page, without thumbnails.

        :param pass_over: called with the reason for each media that is left out.
        :raises DatabaseUnavailableError: if the database fails.
        """
        pages = self._plan.pages(PAGE_MEDIA)
        while page := await self.ask(next, pages, None):
            expected, reasons = await self.ask(_expected, self._database, page)
            for reason in reasons:
                pass_over(reason)
            yield expected

    async def thumbnails(self) -> AsyncGenerator[list[Expected], None]:
        """All thumbnails that the database mentions, page by page.

        :raises DatabaseUnavailableError: if the database fails.
        """
        pages = self._plan.pages(PAGE_MEDIA)
        while page := await self.ask(next, pages, None):
            yield await self.ask(_thumbnails, self._database, page)

    async def still_has(self, file: Expected) -> bool:
        """Whether Synapse still knows the media of a file of the plan.

        A page of media is read long before its last file is handled.

        :raises DatabaseUnavailableError: if the database fails.
        """
        return await self._known.answer(file.path)

    async def _ask_known(self, paths: set[str]) -> set[str]:
        return await self._lookups.run(self._known_now, paths)

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


def _thumbnails(database: Database, page: list[Media]) -> list[Expected]:
    """The thumbnails that may exist."""
    facts = database.facts(page)
    expected = []
    for media in page:
        known = facts.get((media.origin, media.media_id))
        if known is None or reason_to_skip(media, known) is not None:
            continue
        with suppress(UnsafeNameError):
            folder = places(media.origin, media.filesystem_id, media.kind).thumbnails
            expected += [
                Expected(f"{folder}/{name}", frozenset(lengths))
                for name, lengths in known.thumbnails.items()
            ]
    return expected


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
