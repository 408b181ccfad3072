"""What a ``sync`` finds under one path, and whether it is the same in two places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swift_provider.client import ListedObject, ObjectInfo, Place

#: The MD5 of no bytes.
_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"


@dataclass
class Found:
    """What one place has under a path.

    :ivar info: ``None`` if there is no object.
    :ivar flaw: why the object cannot be relied on; ``None`` if it can.
    """

    place: Place
    info: ObjectInfo | None
    flaw: str | None

    @property
    def whole(self) -> bool:
        """There is an object that can be relied on."""
        return self.info is not None and self.flaw is None

    def __str__(self) -> str:
        assert self.info is not None
        flaw = "" if self.flaw is None else f" ({self.flaw})"
        return f"{self.place.name} has {self.info.size} bytes with the ETag {self.info.etag}{flaw}"


def look_the_same(listed: Sequence[ListedObject | None]) -> bool:
    """Whether rows of listings are those of equal plain objects.

    The ETag of a large object is not in a listing, so it never looks the same. Swift lists a
    static one with the MD5 of its manifest, which is different in each place. Ceph RGW lists it
    with the MD5 of nothing, and so does Swift a dynamic one.
    """
    rows = {(one.size, one.etag) for one in listed if one is not None}
    return len(rows) == 1 and all(etag != _OF_NOTHING for _, etag in rows)


def same_content(one: ObjectInfo, other: ObjectInfo) -> bool | None:
    """Whether two objects have the same content, by their facts.

    :returns: ``None`` if these do not tell: objects that are cut in different ways have
        different ETags.
    """
    if one.size != other.size:
        return False
    if one.etag and one.etag == other.etag:
        return True
    if one.is_plain and other.is_plain:
        return False
    if one.content_crc32 is None or other.content_crc32 is None:
        return None
    return one.content_crc32 == other.content_crc32
