"""Segments that belong to no object: of uploads whose end was never known.

A large object is uploaded as segments first and a manifest last. If it is not known
whether Swift stores the manifest, the segments have to stay (see
:mod:`swift_provider.client.large_objects`). A killed process leaves them too.

But if a manifest was deleted without its segments, these may be the last copy of a file.
So the segments of a media that Synapse knows stay, unless Swift has a whole object of the
right length in their place. Those of a media that Synapse does not know are as good as its object.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

from swift_provider.client import ObjectInfo, Place
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
)
from swift_provider.offload.jobs.prunable import WANTED, Prunable, stored_at
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
    segments: Place, note: Callable[[str], None]
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


async def listed_again(segments: Place, path: str, attempt: str) -> Attempt:
    """One attempt with the segments that are listed now.

    :raises SwiftProviderError: if a page could not be had for good.
    """
    found = Attempt(path, attempt)
    async for page in segments.list(f"{found.folder}/"):
        found.names += [row.name for row in page if _SEGMENT.fullmatch(row.name)]
    return found


@dataclass
class Verdict:
    """What may become of an attempt's segments.

    :ivar names: of those that may be deleted; empty if all must stay.
    :ivar reason: what to count the segments as that must stay; ``None`` if an object needs
        them, or may.
    :ivar orphan: the newest of ``names``, if Synapse does not know their media: whether they
        may be deleted depends on the database then. ``None`` if Swift has a whole object in
        their place, which no database can make wrong.
    """

    names: list[str] = field(default_factory=list)
    reason: str | None = None
    orphan: ObjectInfo | None = None


class Leftovers:
    """Judges attempts.

    :param store: the place of the objects.
    :param lengths: called with the path of an object; the lengths in bytes that it may have
        according to Synapse's database, empty if it does not say; ``None`` if Synapse does not
        know the media.
    """

    def __init__(
        self,
        store: Place,
        prunable: Prunable,
        lengths: Callable[[str], Awaitable[Collection[int] | None]],
    ) -> None:
        self._store = store
        self._prunable = prunable
        self._lengths = lengths

    async def judge(self, attempt: Attempt) -> Verdict:
        """Whether the segments of an attempt may be deleted.

        :raises SwiftProviderError: if Swift fails for good.
        """
        info = await self._object(attempt.path)
        if info is None and await self._is_listed(attempt.path):
            # The disks that have the manifest may be unreachable just now.
            return Verdict()
        if info is not None and _needs(info, attempt):
            return Verdict()
        found, reason = await self._seen(attempt)
        if reason is not None or not found:
            return Verdict(reason=reason)
        verdict = Verdict(list(found))
        lengths = await self._lengths(attempt.path)
        if lengths is None:
            verdict.orphan = max(found.values(), key=stored_at)
        elif info is None or not await self._is_whole(info, lengths):
            return Verdict(reason=WANTED)
        return verdict

    async def _is_whole(self, info: ObjectInfo, lengths: Collection[int]) -> bool:
        if lengths and info.size not in lengths:
            return False
        return await self._store.flaw(info) is None

    async def _object(self, path: str) -> ObjectInfo | None:
        try:
            return await self._store.head(path, newest=True)
        except ObjectNotFoundError:
            return None

    async def _is_listed(self, path: str) -> bool:
        async for page in self._store.list(path):
            if any(row.name == path for row in page):
                return True
        return False

    async def _seen(self, attempt: Attempt) -> tuple[dict[str, ObjectInfo], str | None]:
        """The segments of an attempt that may be deleted by their age and their marks.

        A segment that is listed and not found stays: the disks that have it may be
        unreachable just now, so nothing shows whose it is.

        :returns: their facts by name, and ``None``; or nothing, and what to count the
            segments as that must stay.
        """
        seen = {}
        for name in attempt.names:
            try:
                info = await self._store.segments.head(name, newest=True)
            except ObjectNotFoundError:
                continue
            reason = self._prunable.why_not_segment(info)
            if reason is not None:
                return {}, reason
            seen[name] = info
        return seen, None


def _needs(info: ObjectInfo, attempt: Attempt) -> bool:
    """Whether an object consists of these segments, or may."""
    if info.static_large or info.dynamic_large:
        # A POST to an object removes the metadata that it does not repeat, also the attempt.
        return info.attempt in ("", attempt.attempt)
    return False
