"""The job ``restore``: downloads the media that are in Swift and not on the disk.

It reads the listing of the container and needs no database. A file gets its final name
only when it is complete, matches Swift's MD5 and was flushed to the disk, because Synapse
serves any file with that name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator
from typing import Any

from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from swift_provider.client import Store
from swift_provider.errors import DiskFullError, ObjectNotFoundError
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import ROOTS, media_of_object
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

RESTORED = "Restored"
RESTORED_BYTES = "Restored bytes"
PRESENT = "Already on disk"
#: No media has a name with this end, so Synapse and ``upload`` ignore such files.
_SUFFIX = "~restoring"


class Restore(Job[Tally]):
    """One run.

    :param base_path: Synapse's media store.
    """

    def __init__(self, reactor: Any, store: Store, base_path: str, progress: Progress) -> None:
        super().__init__(reactor, store, progress, Tally())
        for name in (RESTORED, RESTORED_BYTES, PRESENT):
            self.tally.counts[name] = 0
        self._base_path = base_path

    async def _work(self) -> None:
        items = Items(self._pages())
        try:
            await in_parallel(self._store.width, items.take, self._restore, self._is_stopping)
        finally:
            await items.close()

    async def _pages(self) -> AsyncGenerator[list[str], None]:
        """The paths of objects that are not on disk."""
        for root in ROOTS:
            async for page in self._store.list(f"{root}/"):
                paths = []
                for listed in page:
                    if media_of_object(listed.name) is None:
                        self._skip(listed.name, "a name that Synapse would not use")
                    else:
                        paths.append(listed.name)
                missing = await self.threads.lookups.run(self._missing, paths)
                self.tally.counts[PRESENT] += len(paths) - len(missing)
                yield missing

    def _missing(self, paths: list[str]) -> list[str]:
        return [path for path in paths if not os.path.lexists(f"{self._base_path}/{path}")]

    async def _restore(self, path: str) -> None:
        size = await self._attempt(path, self._fetch(path))
        if size is not None:
            self.tally.counts[RESTORED] += 1
            self.tally.counts[RESTORED_BYTES] += size
        counts = self.tally.counts
        self.progress.advance(1, counts[RESTORED], self.tally.failures, counts[RESTORED_BYTES])

    async def _fetch(self, path: str) -> int | None:
        """Download one file.

        :returns: its size in bytes; ``None`` if it is not in Swift any more.
        """
        try:
            download = await self._store.get(path)
        except ObjectNotFoundError:
            self._skip(path, "listed, but not in Swift any more")
            return None
        whole = f"{self._base_path}/{path}"
        try:
            file = _NewFile(whole)
            try:
                await download.deliver(file)
                await self.threads.lookups.run(file.keep)
            finally:
                file.close()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(f"the local disk is full: {whole}") from error
            raise
        finally:
            download.abandon()
        return file.size


@implementer(IConsumer)
class _NewFile:
    """Consumes a download. Has a temporary name until :meth:`keep`.

    Writes on the reactor's thread: nothing else in the script has to be fast.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = f"{path}{_SUFFIX}"
        self.size = 0
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Overwrites the file that a killed run may have left.
        self._file = open(self._temporary, "wb")  # noqa: SIM115

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Ignores the producer: this consumer never pauses it."""

    def unregisterProducer(self) -> None:
        """Ignores the end: the result of ``deliver`` tells it."""

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def keep(self) -> None:
        """Flush the file to the disk, then give it its final name. Blocks."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.rename(self._temporary, self._path)
        folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close the file, and delete it unless it was kept."""
        try:
            self._file.close()
        finally:
            if os.path.lexists(self._temporary):
                os.unlink(self._temporary)
