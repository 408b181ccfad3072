"""The content of each media that Synapse knows: which file there should be, and what is in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from swift_provider.client import Threads
from swift_provider.errors import UnsafeNameError
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected
from swift_provider.offload.feed import PAGE_MEDIA, reason_to_skip
from swift_provider.offload.media_names import Media, places
from swift_provider.offload.sorted_media import SortedMedia


async def known_contents(
    lookups: Threads, database: Database, plan: SortedMedia, pass_over: Callable[[str], None]
) -> AsyncGenerator[list[Expected], None]:
    """All contents, page by page, without thumbnails.

    :param plan: empty; it is filled with all media.
    :param pass_over: called with the reason for each media that is left out.
    :raises LooksWrongError: if the database has no media at all.
    :raises DatabaseUnavailableError: if the database fails.
    """
    await lookups.run(plan.read_all_known, database)
    pages = plan.pages(PAGE_MEDIA)
    while page := await lookups.run(next, pages, None):
        expected, reasons = await lookups.run(_expected, database, page)
        for reason in reasons:
            pass_over(reason)
        yield expected


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
