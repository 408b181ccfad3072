"""Segments that belong to no object: of uploads whose end was never known.

A large object is uploaded as segments first and a manifest last. If it is not known
whether Swift stores the manifest, the segments have to stay (see
:mod:`swift_provider.client.large_objects`). A killed process leaves them too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from swift_provider.client import Store
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
)
from swift_provider.offload.jobs.prunable import Prunable
from swift_provider.offload.media_names import ROOTS, media_of_object

#: As :mod:`swift_provider.client.large_objects` names them. Other tools' segments differ.
_SEGMENT = re.compile(r"(.+)/([0-9a-f]{32})/[0-9]{8}")


@dataclass
class Attempt:
    """The segments of one attempt to upload an object.

    :ivar path: of the object.
    :ivar names: of the segments that are listed.
    """

    path: str
    attempt: str
    names: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """What the names of all its segments begin with."""
        return f"{self.path}/{self.attempt}"


async def attempts(
    segments: Store, note: Callable[[str], None]
) -> AsyncGenerator[list[Attempt], None]:
    """All attempts whose segments are listed, page by page.

    :param segments: the place of the segments; it may be missing.
    :param note: called if this user may not list it.
    """
    try:
        for root in ROOTS:
            last: Attempt | None = None
            async for page in segments.list(f"{root}/"):
                complete = []
                for row in page:
                    found = _SEGMENT.fullmatch(row.name)
                    if found is None or media_of_object(found[1]) is None:
                        continue
                    if last is None or last.folder != f"{found[1]}/{found[2]}":
                        complete += [last] if last is not None else []
                        last = Attempt(found[1], found[2])
                    last.names.append(row.name)
                yield complete
            if last is not None:
                yield [last]
    except ContainerNotFoundError:
        return  # no large object was ever uploaded
    except AccessDeniedError as error:
        note(f"Segments of no object were not looked for: {error}")


async def is_live(store: Store, attempt: Attempt) -> bool:
    """Whether an object needs these segments, or may.

    :param store: the place of the objects.
    :raises SwiftProviderError: if Swift fails for good.
    """
    try:
        info = await store.head(attempt.path, newest=True)
    except ObjectNotFoundError:
        # The disks that have the manifest may be unreachable just now.
        async for page in store.list(attempt.path):
            if any(row.name == attempt.path for row in page):
                return True
        return False
    if info.static_large or info.dynamic_large:
        # A POST to an object removes the metadata that it does not repeat, also the attempt.
        return info.attempt in ("", attempt.attempt)
    return False


async def seen_segments(
    segments: Store, attempt: Attempt, prunable: Prunable
) -> tuple[list[str], str | None]:
    """The segments of an attempt that may be deleted.

    A segment that is listed and not found stays: the disks that have it may be unreachable
    just now, so nothing shows whose it is.

    :returns: their names, and ``None``; or no names, and what to count the segments as that
        must stay.
    :raises SwiftProviderError: if Swift fails for good.
    """
    seen = []
    for name in attempt.names:
        try:
            info = await segments.head(name, newest=True)
        except ObjectNotFoundError:
            continue
        reason = prunable.why_not_segment(info)
        if reason is not None:
            return [], reason
        seen.append(name)
    return seen, None
