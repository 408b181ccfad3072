"""Remembers objects whose bytes did not match the CRC-32 in their metadata.

Either the bytes were damaged on the way: then a retry helps. Or the metadata belongs to other
bytes: a copy of a part of an object (``X-Copy-From`` with ``Range``) gets the metadata of the
whole object. So the next download is compared with Swift's own ETag instead.
"""

from __future__ import annotations

from collections import OrderedDict

from swift_provider.client.answers import ObjectInfo

#: The oldest doubt is forgotten first. Each costs one download that fails.
_MOST_DOUBTS = 1000


class Doubts:
    """The doubts about objects of one container, in the life of this process."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __contains__(self, info: ObjectInfo) -> bool:
        return (info.name, info.etag) in self._known

    def add(self, info: ObjectInfo) -> bool:
        """Doubt what is noted about an object.

        :returns: whether that is new.
        """
        if info in self:
            return False
        self._known[info.name, info.etag] = None
        if len(self._known) > _MOST_DOUBTS:
            self._known.popitem(last=False)
        return True
