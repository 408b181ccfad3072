"""One object that a member of a mirror set lacks, or has too much, and how that is mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from twisted.internet.defer import Deferred

from swift_provider.client.answers import ObjectInfo, are_same
from swift_provider.client.copying import copy
from swift_provider.client.mirrors.member import Member
from swift_provider.client.mirrors.moments import ended
from swift_provider.errors import ObjectExistsError


@dataclass(frozen=True, eq=False)
class Debt:
    """One object that is owed to a member.

    :ivar holder: has it; ``None`` if it is a deletion that is owed.
    :ivar stored: whether the object was stored in ``holder`` just now. One that was only found
        there replaces no object but a damaged one.
    :ivar damaged: whether an upload or a copy may have left a damaged object in the member.
    :ivar since: seconds since 1970; of a deletion.
    :ivar after: an upload to the member that may still be in flight; ``None`` if there is none.
    """

    path: str
    holder: Member | None
    stored: bool = False
    damaged: bool = False
    since: float = 0.0
    after: Deferred[None] | None = None


async def repay(debt: Debt, member: Member, owes_deletion: Callable[[Member, str], bool]) -> bool:
    """Copy the object to the member, or delete it there, unless that is done already.

    :param owes_deletion: whether a member has an object only because it is not deleted yet.
    :returns: whether there was anything to do.
    :raises SwiftProviderError: if it failed; the error names the place, but for the member.
    :raises ObjectExistsError: if the member has no object and takes none (a link to nothing).
    """
    if debt.after is not None:
        await ended(debt.after)
    if debt.holder is None:
        return await _delete(debt, member)
    found = await debt.holder.look(debt.path)
    if found is None:
        return False  # deleted meanwhile
    if not debt.stored and owes_deletion(debt.holder, debt.path):
        return False
    if debt.stored or debt.damaged:
        return await _copy_stored(debt, debt.holder, found, member)
    return await _copy_found(debt, debt.holder, member)


async def _delete(debt: Debt, member: Member) -> bool:
    present = await member.look(debt.path)
    if present is None or _written(present) > debt.since:
        return False  # Stored anew since.
    return await member.place.delete(debt.path)


async def _copy_found(debt: Debt, holder: Member, member: Member) -> bool:
    """An object that the member lacks is copied; one that it has stays as it is."""
    if await member.look(debt.path) is not None:
        return False
    try:
        await copy(holder.place, member.place, debt.path, if_absent=True)
    except ObjectExistsError:
        await member.place.existing(debt.path)
        return False  # stored meanwhile
    member.written()
    return True


async def _copy_stored(debt: Debt, holder: Member, found: ObjectInfo, member: Member) -> bool:
    """An older object is replaced; a newer one, of another process, stays."""
    present = await member.look(debt.path)
    if present is not None:
        if are_same(present, found) and await member.place.flaw(present) is None:
            return False
        newer = not debt.damaged and _written(present) > _written(found)
        if newer and not are_same(present, found):
            return False
    try:
        await copy(holder.place, member.place, debt.path, if_absent=present is None)
    except ObjectExistsError:
        await member.place.existing(debt.path)
        return await _copy_stored(debt, holder, found, member)  # stored meanwhile
    member.written()
    return True


def _written(info: ObjectInfo) -> float:
    """When an object was stored, in seconds since 1970; 0 if Swift does not say."""
    if info.timestamp is not None:
        return info.timestamp
    try:
        return parsedate_to_datetime(info.last_modified).timestamp()
    except (TypeError, ValueError, IndexError):
        return 0.0
