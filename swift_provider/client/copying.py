"""Copies an object from one place to another: GET here, PUT there, nothing in between.

The bytes stream from one connection to the other. What the copy is made of is proven
twice: by the original's own checksum before the last bytes are handed over, and by the ETag
in the answer to the upload. A large object is cut as its original, so that its ETag has to
be the same; only if the target does not take such segments, it is cut anew, and proven by
the CRC-32 in the metadata of the original.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.checksum import NotedChecksum, SegmentsChecksum
from swift_provider.client.copy_source import Original, Plan
from swift_provider.client.large_flaws import shown
from swift_provider.client.manifest import Cut, Row, rows_of_ours
from swift_provider.client.place import Place
from swift_provider.errors import KeptError, SourceFailedError, SwiftProviderError


async def copy(source: Place, target: Place, path: str, *, if_absent: bool = False) -> ObjectInfo:
    """Copy an object, with the mark of its owner.

    May be called again: the object is replaced by the same bytes. If it fails, or is
    cancelled, the target has what it had before. A slot of each place is held while bytes
    go from one to the other. Nothing is kept on the disk, and of the object only a few
    chunks in memory.

    :param if_absent: do not overwrite, where the target :meth:`Place.keeps_existing`.
    :returns: the facts of the copy.
    :raises ObjectNotFoundError: if the source has no such object (any more).
    :raises ObjectChangedError: if it was replaced meanwhile.
    :raises ObjectExistsError: if ``if_absent`` and the target has such an object.
    :raises KeptError: if the object at the source cannot be relied on, or if nothing could
        prove the copy.
    :raises SwiftProviderError: if it failed for good, at the one place or the other.
    """
    with _at(source):
        info = await source.head(path, newest=True)
        flaw = await unreliable(source, info)
        if flaw is not None:
            raise KeptError(f"it cannot be relied on: {flaw}")
        plan = await _plan(source, target, info)
    original = Original(source, target, info, plan)
    with _at(target):
        try:
            return await target.store(
                path, original, plan.cut, owner=info.owner or None, if_absent=if_absent
            )
        except SourceFailedError as failed:
            failed.error.mirror = source.name
            raise failed.error from None


@contextmanager
def _at(place: Place) -> Iterator[None]:
    """Name the place in an error, unless it names one."""
    try:
        yield
    except SwiftProviderError as error:
        error.mirror = error.mirror or place.name
        raise


async def unreliable(place: Place, info: ObjectInfo) -> str | None:
    """Why an object is not copied.

    :param info: the object's facts, from :meth:`Place.head` just before.
    :returns: for a person; ``None`` if it can be.
    :raises SwiftProviderError: if Swift fails for good.
    """
    if info.dynamic_large:
        return "it is a dynamic large object, whose content nothing proves"
    if info.size is None:
        return "Swift does not say how long it is"
    return await place.flaw(info)


async def _plan(source: Place, target: Place, info: ObjectInfo) -> Plan:
    """How to copy an object that is not a dynamic large object.

    :raises KeptError: if nothing could prove the copy.
    """
    assert info.size is not None
    size = info.size
    cluster = target.client.cluster
    if info.is_plain and await cluster.takes_whole(size):
        return Plan(None, same_etag=True)
    rows = await _whole_segments(source, info, size)
    if rows is not None:
        sizes = [row.size for row in rows]
        limits = await cluster.limits()
        # Ceph RGW shows no manifest, so there the metadata have to tell how a copy is cut.
        shows = not limits.hides_manifests or Cut(sizes).is_noted
        if shows and limits.take_segments(sizes):
            return Plan(Cut(sizes), md5s=_known_md5s(rows), same_etag=True)
    segment_size = await cluster.segment_size(size, target.client.settings.segment_size)
    if segment_size is None and rows is not None:
        return Plan(None, lambda: SegmentsChecksum(info.etag, sizes))
    noted = info.content_crc32
    if noted is None:
        raise KeptError(
            "nothing could prove the copy: it cannot be stored there as it is here, and its "
            "metadata has no CRC-32"
        )
    if segment_size is None:
        return Plan(None, lambda: NotedChecksum(noted))
    return Plan(Cut.even(size, segment_size))


async def _whole_segments(source: Place, info: ObjectInfo, size: int) -> list[Row] | None:
    """The segments of a large object; ``None`` if its ETag is not that of their MD5s."""
    if not info.static_large:
        return None
    rows = await shown(source.client.requester, source.container, info)
    rows = rows or rows_of_ours(info, source.segments.container)
    if rows is None or not all(row.is_whole for row in rows):
        return None
    return rows if sum(row.size for row in rows) == size else None


def _known_md5s(rows: list[Row]) -> dict[int, str]:
    """By the offset of each segment."""
    known = {}
    offset = 0
    for row in rows:
        if row.etag:
            known[offset] = row.etag
        offset += row.size
    return known
