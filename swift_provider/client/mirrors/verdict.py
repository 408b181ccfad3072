"""What a set says about an object that none of its members delivers.

A member may answer that it has no such object, or not the one that is wanted. Any other error
says nothing about the object: the member may have it. The set's error is a temporary one then,
though a retry at that member may not help, for example because it refuses the credentials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swift_provider.client.mirrors.member import Member, soonest
from swift_provider.errors import (
    ObjectNotFoundError,
    RequestRefusedError,
    SwiftProviderError,
    WrongLengthError,
)

_ANSWERS = (ObjectNotFoundError, RequestRefusedError, WrongLengthError)


def verdict(
    path: str, errors: Mapping[Member, SwiftProviderError], left_out: Sequence[Member]
) -> SwiftProviderError:
    """The set's error.

    :param errors: those of the members that were asked.
    :param left_out: the members that were not asked, and may have the object. At least one
        member is here or in ``errors``.
    :returns: :class:`ObjectNotFoundError` only if every member says so.
    """
    failed = {member: error for member, error in errors.items() if not isinstance(error, _ANSWERS)}
    if failed:
        error = soonest(list(failed.values()))
        if error.temporary:
            return error
        member = next(one for one in failed if failed[one] is error)
        return member.error(path, f"this place cannot be asked: {error.text()}")
    if left_out:
        return left_out[0].unreachable(path)
    others = [error for error in errors.values() if not isinstance(error, ObjectNotFoundError)]
    return (others or list(errors.values()))[0]
