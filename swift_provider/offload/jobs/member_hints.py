"""What the listings of all places say about objects.

See :mod:`swift_provider.offload.listing_hints`.
"""

from __future__ import annotations

from functools import partial

from swift_provider.errors import AccessDeniedError, SwiftProviderError
from swift_provider.offload.jobs.members import Member, Members
from swift_provider.offload.listing_hints import Hint, ListingHints


class MemberHints:
    """One listing for each place, read side by side."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._listings = {member: ListingHints(member.place) for member in members.all}

    async def look(self, paths: list[str]) -> dict[str, dict[Member, Hint]]:
        """What the listings say about some objects. Nothing of a place that is left out.

        If the listing of one of several places fails for good, and the place answers otherwise,
        each object is asked for there. If it does not, it is left out of the run.

        :raises SwiftError: if the listing of the only place fails for good.
        """
        answers = await self._members.each(partial(self._look, paths), shows_health=False)
        for member, error in answers.errors.items():
            if member.left_out is None and not await self._answers(member):
                self._members.leave_out(member, error)
            self._listings[member].give_up()
        return {
            path: {member: hints[path] for member, hints in answers.results.items()}
            for path in paths
        }

    async def _look(self, paths: list[str], member: Member) -> dict[str, Hint]:
        return await self._listings[member].look(paths)

    @staticmethod
    async def _answers(member: Member) -> bool:
        try:
            await member.place.check(retry=False)
        except AccessDeniedError:
            pass  # As at the start of the run.
        except SwiftProviderError:
            return False
        return True

    async def close(self) -> None:
        """Read no further."""
        for listing in self._listings.values():
            await listing.close()
