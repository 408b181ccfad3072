"""The job ``restore``: what is in Swift and not on the disk comes back, for leaving Swift.

Goes by the container's listing and needs no database. A file gets its name
only when it is complete, checked against Swift's MD5 and safely on the disk:
Synapse would serve whatever has the name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator

from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from swift_provider.client import SwiftClient
from swift_provider.errors import ObjectNotFoundError
from swift_provider.offload.disk import DiskFullError
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import ROOTS, media_of_object
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

RESTORED = "Restored"
RESTORED_BYTES = "Restored bytes"
PRESENT = "Already on disk"
#: No media has a name that ends so: Synapse leaves these alone, and so does ``upload``.
_SUFFIX = "~restoring"


class Restore(Job[Tally]):
    """One run.

    :param base_path: Synapse's media store.
    :param prefix: goes before each object's name.
    """

    def __init__(
        self, client: SwiftClient, base_path: str, container: str, prefix: str, progress: Progress
    ) -> None:
        super().__init__(client, container, progress, Tally())
        for name in (RESTORED, RESTORED_BYTES, PRESENT):
            self.summary.counts[name] = 0
        self._base_path = base_path
        self._prefix = prefix

    async def _work(self) -> None:
        items = Items(self._pages())
        workers = self._client.settings.threadpool_size
        try:
            await in_parallel(workers, items.take, self._restore, self._is_stopping)
        finally:
            await items.close()

    async def _pages(self) -> AsyncGenerator[list[str], None]:
        """Paths of objects that are not on disk."""
        for root in ROOTS:
            prefix = f"{self._prefix}{root}/"
            async for page in self._client.list_objects(self._container, prefix=prefix):
                paths = []
                for listed in page:
                    path = listed.name.removeprefix(self._prefix)
                    if media_of_object(path) is None:
                        self._skip(path, "a name that Synapse would not use")
                    else:
                        paths.append(path)
                missing = await self._client.run_in_thread(self._missing, paths)
                self.summary.counts[PRESENT] += len(paths) - len(missing)
                yield missing

    def _missing(self, paths: list[str]) -> list[str]:
        return [path for path in paths if not os.path.lexists(f"{self._base_path}/{path}")]

    async def _restore(self, path: str) -> None:
        size = await self._attempt(path, self._fetch(path))
        if size is not None:
            self.summary.counts[RESTORED] += 1
            self.summary.counts[RESTORED_BYTES] += size
        counts = self.summary.counts
        self.progress.advance(1, counts[RESTORED], self.summary.failures, counts[RESTORED_BYTES])

    async def _fetch(self, path: str) -> int | None:
        """:returns: the file's bytes; ``None`` if it is in Swift no more."""
        try:
            download = await self._client.get_object(self._container, self._prefix + path)
        except ObjectNotFoundError:
            self._skip(path, "listed, but not in Swift any more")
            return None
        whole = f"{self._base_path}/{path}"
        try:
            file = _NewFile(whole)
            try:
                await download.deliver(file)
                await self._client.run_in_thread(file.keep)
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
    """Takes a download; has a name that Synapse does not use until it is kept.

    Writes on the reactor's thread: in the script, nobody else waits for that.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = f"{path}{_SUFFIX}"
        self.size = 0
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # One that a killed run left is overwritten.
        self._file = open(self._temporary, "wb")  # noqa: SIM115

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Nothing to remember: this consumer never pauses."""

    def unregisterProducer(self) -> None:
        """The download is over."""

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self._file.write(data)
        self.size += len(data)

    def keep(self) -> None:
        """Give the file its name, once all of it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.rename(self._temporary, self._path)
        folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Remove what was not kept."""
        try:
            self._file.close()
        finally:
            if os.path.lexists(self._temporary):
                os.unlink(self._temporary)
