"""The objects that any of several places lists, as one listing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from swift_provider.client import ListedObject
from swift_provider.offload.jobs.members import Member, Members

_Pages = AsyncGenerator[list[ListedObject], None]


async def listed_anywhere(members: Members, folder: str) -> _Pages:
    """The objects whose paths begin with ``folder``, page by page, sorted by name, each once.

    One of several places whose listing fails for good is left out of the run.

    :raises SwiftProviderError: if the listing of the only place fails for good.
    """
    listings = {member: member.place.list(folder) for member in members.in_use}
    #: The last page of each listing that has not ended, without what was handed out.
    ready: dict[Member, list[ListedObject]] = {member: [] for member in listings}
    try:
        while ready:
            to_read = [member for member, page in ready.items() if not page]
            read = partial(_next_page, listings)
            answers = await members.each(read, to_read, shows_health=False)
            for member, error in answers.errors.items():
                members.leave_out(member, error)
                del ready[member]
            for member, page in answers.results.items():
                if page is None:
                    del ready[member]
                else:
                    ready[member] = page
            if ready and all(ready.values()):
                # What comes later in any of them has a later name.
                last = min(page[-1].name for page in ready.values())
                found: dict[str, ListedObject] = {}
                for member, page in ready.items():
                    found |= {row.name: row for row in page if row.name <= last}
                    ready[member] = [row for row in page if row.name > last]
                yield sorted(found.values(), key=lambda row: row.name)
    finally:
        for listing in listings.values():
            await listing.aclose()


async def _next_page(listings: dict[Member, _Pages], member: Member) -> list[ListedObject] | None:
    """``None`` at the end."""
    try:
        return await listings[member].__anext__()
    except StopAsyncIteration:
        return None
