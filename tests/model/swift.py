"""What Swift holds: objects, the segments of large ones, and listings that may be late."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import NamedTuple, Protocol

from swift_provider.client import ListedObject, ObjectInfo

SEGMENT_BYTES = 8
CONTAINER = "media"
HERE = "here.example"
OTHER = "other.example"
#: No listing is later than this.
LATEST_LISTING = timedelta(hours=20)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Row(NamedTuple):
    """A row of a manifest."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Stored:
    """An object, a manifest or a segment.

    :ivar rows: of a manifest; ``None`` for the others.
    """

    data: bytes
    modified: datetime
    owner: str = ""
    rows: tuple[Row, ...] | None = None
    attempt: str = ""
    expires: bool = False
    manifest_container: str = ""

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.data) if self.rows is None else sum(row.size for row in self.rows)

    @property
    def etag(self) -> str:
        """As Swift computes it."""
        if self.rows is None:
            return md5(self.data)
        return md5("".join(row.etag for row in self.rows).encode())

    def info(self, name: str) -> ObjectInfo:
        """As the headers of a HEAD say it."""
        return ObjectInfo(
            name,
            self.size,
            self.etag,
            "application/octet-stream",
            format_datetime(self.modified, usegmt=True),
            static_large=self.rows is not None,
            segment_size=SEGMENT_BYTES if self.attempt else None,
            attempt=self.attempt,
            expires=self.expires,
            owner=self.owner,
            manifest_container=self.manifest_container,
        )


class Container:
    """Objects, and a listing of them.

    :param now: returns the time.
    :param late: the share of changes that the listing shows hours later.
    """

    def __init__(self, name: str, rng: Random, now: Callable[[], datetime], late: float) -> None:
        self.name = name
        self.objects: dict[str, Stored] = {}
        self.now = now
        self._rng = rng
        self._late = late
        self._listed: dict[str, ListedObject] = {}
        self._to_list: list[tuple[datetime, str]] = []

    def put(self, name: str, stored: Stored) -> None:
        """Store an object."""
        self.objects[name] = stored
        self._changed(name)

    def remove(self, name: str) -> None:
        """Remove an object."""
        del self.objects[name]
        self._changed(name)

    def change(self, name: str, **changes: object) -> None:
        """Change something about an object; the listing does not notice."""
        self.objects[name] = replace(self.objects[name], **changes)  # type: ignore[arg-type]

    def listing(self, folder: str) -> list[ListedObject]:
        """The rows of all objects whose names begin with ``folder``."""
        self._catch_up()
        return [row for name, row in sorted(self._listed.items()) if name.startswith(folder)]

    def _changed(self, name: str) -> None:
        if self._rng.random() < self._late:
            self._to_list.append((self.now(), name))
        else:
            self._list(name)

    def _catch_up(self) -> None:
        due = [name for when, name in self._to_list if self.now() - when > LATEST_LISTING]
        self._to_list = [one for one in self._to_list if self.now() - one[0] <= LATEST_LISTING]
        for name in due:
            self._list(name)

    def _list(self, name: str) -> None:
        stored = self.objects.get(name)
        if stored is None:
            self._listed.pop(name, None)
            return
        size = stored.size
        when = f"{stored.modified:%Y-%m-%dT%H:%M:%S}.000000"
        self._listed[name] = ListedObject(name, size, stored.etag, when)


class Watch(Protocol):
    """Judges what the jobs do to Swift."""

    def overwrites(self, path: str, new: Stored) -> None:
        """A job stores an object."""

    def deletes(self, path: str, stored: Stored) -> None:
        """A job deletes an object."""

    def deletes_segment(self, name: str, segment: Stored) -> None:
        """A job deletes a segment by itself, without its manifest."""


class Swift:
    """A container with media and one with their segments.

    :ivar name: what people call it.
    :ivar coming: manifests that Swift will store although it did not answer: the path, the
        manifest, and whether it must not replace an object.
    :ivar has_hidden: it said "not found" of an object that it has, because the disks that have
        it are unreachable.
    :ivar watch: is told of each change that a job makes, before it is made.
    """

    watch: Watch

    def __init__(
        self, rng: Random, now: Callable[[], datetime], late: float, name: str = "swift"
    ) -> None:
        self.name = name
        self.media = Container(CONTAINER, rng, now, late)
        self.segments = Container(f"{CONTAINER}_segments", rng, now, late)
        self.has_hidden = False
        self.coming: list[tuple[str, Stored, bool]] = []

    def flaw(self, path: str) -> str | None:
        """Why an object is no copy of anything; ``None`` if it is whole and will stay."""
        stored = self.media.objects.get(path)
        if stored is None:
            return "gone"
        if stored.expires:
            return "expires"
        for row in stored.rows or ():
            segment = self.segments.objects.get(row.name)
            if segment is None:
                return "a segment is gone"
            if segment.expires:
                return "a segment expires"
            if (segment.size, segment.etag) != (row.size, row.etag):
                return "a segment was replaced"
        return None

    def whole(self, path: str) -> bytes | None:
        """The content of an object; ``None`` if it has a flaw."""
        return None if self.flaw(path) is not None else self.served(path)

    def served(self, path: str) -> bytes | None:
        """What a GET delivers to its end; ``None`` if it cannot."""
        stored = self.media.objects.get(path)
        if stored is None:
            return None
        if stored.rows is None:
            return stored.data
        parts = [self.segments.objects.get(row.name) for row in stored.rows]
        if any(
            part is None or part.etag != row.etag
            for part, row in zip(parts, stored.rows, strict=True)
        ):
            return None
        return b"".join(part.data for part in parts if part is not None)

    # What the jobs do

    def commit(self, path: str, stored: Stored) -> None:
        """Store an object or a manifest for a job."""
        self.watch.overwrites(path, stored)
        self.media.put(path, stored)

    def drop(self, place: Container, name: str) -> None:
        """Delete an object or a segment for a job."""
        stored = place.objects.get(name)
        if stored is None:
            return
        if place is self.media:
            self.watch.deletes(name, stored)
        else:
            self.watch.deletes_segment(name, stored)
        place.remove(name)

    def forget_segment(self, name: str) -> None:
        """Remove a segment of an upload that failed."""
        if name in self.segments.objects:
            self.segments.remove(name)

    def store_what_was_coming(self) -> None:
        """Store the manifests of uploads that got no answer, if all segments are there."""
        coming, self.coming = self.coming, []
        for path, manifest, if_absent in coming:
            if if_absent and path in self.media.objects:
                continue
            if all(row.name in self.segments.objects for row in manifest.rows or ()):
                self.commit(path, manifest)
