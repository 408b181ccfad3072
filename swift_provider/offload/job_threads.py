"""The threads of a job that talks to Swift, for work that blocks."""

from __future__ import annotations

from typing import Any

from swift_provider.client import FileSource, Threads
from swift_provider.offload.checked_file import open_checked
from swift_provider.offload.disk import Expected


class JobThreads:
    """Thread pools, so that a short lookup never waits for the hashing of a large file, nor what
    downloads write for other files that are flushed to the disk.

    :ivar lookups: the database, the cache, the plan; listing and deleting files.
    :ivar hashing: hashes of whole files.
    :ivar writing: files that are downloaded.
    """

    def __init__(self, reactor: Any) -> None:
        self.lookups = Threads(reactor, "offload-lookup")
        self.hashing = Threads(reactor, "offload-hash")
        self.writing = Threads(reactor, "offload-write")

    async def open_checked(self, base_path: str, file: Expected) -> FileSource:
        """Open a file that is what the database says; see :func:`.checked_file.open_checked`."""
        # Without a SHA-256 there is nothing to hash, only a length to compare.
        pool = self.lookups if file.sha256 is None else self.hashing
        return await pool.run(open_checked, base_path, file)

    def stop(self) -> None:
        """End the threads once they are idle. Does not wait for them."""
        self.lookups.stop()
        self.hashing.stop()
        self.writing.stop()
