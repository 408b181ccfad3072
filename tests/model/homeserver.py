"""Synapse's side: the media store, the database, and the files that users were told are stored."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from tests.model.swift import HERE
from tests.offload import synapse_store
from tests.offload.synapse_store import SynapseStore

ORIGINS = ("a.example", "b.example")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

#: Reading Synapse's schema files takes longer than a whole schedule.
_schema = cache(synapse_store.schema)


class File(NamedTuple):
    """A file that Synapse has told somebody is stored.

    :ivar proven: the database has its SHA-256.
    :ivar older: of a thumbnail that was made again: what it was before. It is as good, if
        restore brings it back while Synapse makes the new one.
    """

    content: bytes
    proven: bool
    older: bytes | None = None


@dataclass
class Media:
    """A row of either table, and its files.

    :ivar origin: empty for local media.
    :ivar paths: of the content, then of the thumbnails.
    """

    origin: str
    media_id: str
    filesystem_id: str
    paths: list[str] = field(default_factory=list)


class Homeserver:
    """What Synapse has and does.

    :ivar files: by path: all that must not be lost.
    :ivar media: all that have a row and were acknowledged.
    :ivar pending: media whose upload has begun, and the whole content. They may have a row
        without a length, or no row.
    """

    def __init__(self, folder: Path, rng: Random) -> None:
        with patch.object(synapse_store, "schema", _schema):
            self.store = SynapseStore(folder)
        self.base = self.store.base
        self.files: dict[str, File] = {}
        self.media: list[Media] = []
        self.pending: list[tuple[Media, bytes]] = []
        self._rng = rng
        self._names = 0
        self._written = 0

    @property
    def unfinished(self) -> set[str]:
        """The paths of uploads that are not finished."""
        return {path for media, _ in self.pending for path in media.paths}

    def close(self) -> None:
        self.store.close()

    def on_disk(self) -> dict[str, bytes]:
        """All files of the media store and their content."""
        return {path: (self.base / path).read_bytes() for path in self.store.files()}

    def read(self, path: str) -> bytes | None:
        """A file's content; ``None`` if it is not on disk."""
        try:
            return (self.base / path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Write a file as Synapse does: under its final name."""
        whole = self.base / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(content)
        # The clock of the file system is too coarse to show that a file was written twice.
        self._written += 1
        os.utime(whole, ns=(self._written, self._written))

    # What users and Synapse do

    def _new_id(self) -> str:
        # The folders' names are few, so that media share them.
        self._names += 1
        return "ab" + self._rng.choice(("cd", "ce")) + f"{self._rng.choice(_LETTERS)}{self._names}"

    def _new_content(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((1, 3, 5, 8, 9, 16, 20, 30)))

    def _acknowledge(self, media: Media, path: str, content: bytes, proven: bool) -> None:
        media.paths.append(path)
        self.files[path] = File(content, proven)

    def _sha256(self, content: bytes) -> str | None:
        # Media from before Synapse 1.128 have none.
        return None if self._rng.random() < 0.2 else hashlib.sha256(content).hexdigest()

    def upload(self, now_ms: int) -> None:
        """A user uploads a file."""
        name, content = self._new_id(), self._new_content()
        digest = self._sha256(content)
        path = self.store.add_local(
            name,
            content,
            accessed=None,
            created_ts=now_ms,
            user_id=f"@alice:{HERE}",
            sha256=digest,
        )
        self.media.append(media := Media("", name, name))
        self._acknowledge(media, path, content, digest is not None)

    def fetch(self, now_ms: int, origin: str = "", media_id: str = "") -> None:
        """A user looks at another server's file."""
        origin, media_id = origin or self._rng.choice(ORIGINS), media_id or self._new_id()
        name, content = self._new_id(), self._new_content()
        digest = self._sha256(content)
        path = self.store.add_remote(
            origin,
            media_id,
            name,
            content,
            accessed=now_ms,
            created_ts=now_ms,
            sha256=digest,
        )
        self.media.append(media := Media(origin, media_id, name))
        self._acknowledge(media, path, content, digest is not None)

    def reserve(self, now_ms: int) -> None:
        """A user gets a media's name; half of the file has arrived."""
        name, content = self._new_id(), self._new_content()
        path = self._add_empty_row(name, now_ms)
        self.write(path, content[: len(content) // 2])
        self.pending.append((Media("", name, name, [path]), content))

    def receive(self) -> tuple[str, bytes]:
        """A file has arrived; Synapse gives it to the provider before it writes the row.

        :returns: the path and the content.
        """
        name, content = self._new_id(), self._new_content()
        path = f"local_content/{name[:2]}/{name[2:4]}/{name[4:]}"
        self.write(path, content)
        self.pending.append((Media("", name, name, [path]), content))
        return path, content

    def _add_empty_row(self, name: str, now_ms: int) -> str:
        user_id = f"@alice:{HERE}"
        return self.store.add_local(
            name, None, length=None, accessed=None, created_ts=now_ms, user_id=user_id
        )

    def finish(self, now_ms: int) -> None:
        """The rest of a file arrives, and Synapse writes the row."""
        media, content = self.pending.pop(self._rng.randrange(len(self.pending)))
        (path,) = media.paths
        if self.read(path) != content:
            self.write(path, content)
        with suppress(sqlite3.IntegrityError):
            self._add_empty_row(media.media_id, now_ms)
        self.store.execute(
            "UPDATE local_media_repository SET media_length = %s, sha256 = %s WHERE media_id = %s",
            (len(content), hashlib.sha256(content).hexdigest(), media.media_id),
        )
        self.media.append(media)
        self.files[path] = File(content, True)

    def add_thumbnail(self, media: Media) -> None:
        """Synapse makes a thumbnail."""
        content = self._new_content()
        path = self.store.add_thumbnail(
            media.media_id,
            content,
            origin=media.origin,
            filesystem_id=media.filesystem_id if media.origin else "",
            width=31 + len(media.paths),
            in_database=self._rng.random() < 0.9,
            legacy=bool(media.origin) and self._rng.random() < 0.3,
        )
        self._acknowledge(media, path, content, proven=False)

    def remake_thumbnail(self, media: Media) -> None:
        """Synapse makes a thumbnail again, and it becomes another one."""
        number = self._rng.randrange(1, len(media.paths))
        path, content = media.paths[number], self._new_content()
        self.write(path, content)
        self.files[path] = File(content, False, older=self.files[path].content)
        table, key, values = _row(media)
        self.store.execute(
            f"UPDATE {table}_thumbnails SET thumbnail_length = %s "
            f"WHERE {key} AND thumbnail_width = %s",
            (len(content), *values, 31 + number),
        )

    def access(self, media: Media, now_ms: int) -> None:
        """Somebody looks at a media."""
        table, key, values = _row(media)
        self.store.execute(f"UPDATE {table} SET last_access_ts = %s WHERE {key}", (now_ms, *values))

    def purge(self, media: Media) -> None:
        """Synapse deletes a media: first the files, then the rows. Its objects stay."""
        for path in media.paths:
            (self.base / path).unlink(missing_ok=True)
            self.files.pop(path)
        self.media.remove(media)
        table, key, values = _row(media)
        self.store.execute(f"DELETE FROM {table} WHERE {key}", values)
        self.store.execute(f"DELETE FROM {table}_thumbnails WHERE {key}", values)

    def copy_database(self, to: Path) -> None:
        """Keep a copy of the database as it is now."""
        self.store.execute("VACUUM INTO %s", (str(to),))

    def damage(self, path: str) -> None:
        """A file on disk becomes shorter, or other bytes, or vanishes."""
        content = self.read(path)
        how = self._rng.randrange(3)
        if content is None or how == 0 or not content:
            (self.base / path).unlink(missing_ok=True)
        elif how == 1:
            self.write(path, content[: self._rng.randrange(len(content))])
        else:
            self.write(path, bytes([content[0] ^ 1]) + content[1:])

    def pull_back(self, path: str, content: bytes) -> None:
        """Synapse fetches a file from Swift; it may crash while it writes."""
        if self._rng.random() < 0.3:
            content = content[: self._rng.randrange(len(content) + 1)]
        self.write(path, content)


def _row(media: Media) -> tuple[str, str, tuple[str, ...]]:
    """The table, and the condition that finds the row."""
    if media.origin:
        key = "media_origin = %s AND media_id = %s"
        return "remote_media_cache", key, (media.origin, media.media_id)
    return "local_media_repository", "media_id = %s", (media.media_id,)
