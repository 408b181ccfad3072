"""Short work does not wait for long work."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from swift_provider.client import FileSource, ListedObject
from swift_provider.offload.cache import Cache
from swift_provider.offload.database import Database
from swift_provider.offload.jobs.update import update_db
from swift_provider.offload.jobs.upload import Options, Upload
from swift_provider.offload.progress import Progress
from tests.offload.synapse_store import RECENT, SynapseStore

#: More than a pool has threads.
SLOW_HASHES = 20
WAIT_SECONDS = 20


class _Store:
    """An empty store that accepts every upload."""

    width = 2
    name = "swift"

    def __init__(self) -> None:
        self.members = (self,)
        self.stored: list[str] = []
        self.first: Deferred[None] = Deferred()

    async def check(self) -> None:
        pass

    async def list(self, folder: str = "") -> AsyncIterator[list[ListedObject]]:
        for page in ():
            yield page

    async def keeps_existing(self) -> bool:
        return True

    async def put(self, path: str, source: FileSource, *, if_absent: bool = False) -> None:
        self.stored.append(path)
        if len(self.stored) == 1:
            self.first.callback(None)


async def test_uploads_go_on_while_all_hashes_are_slow(store: SynapseStore, tmp_path: Path) -> None:
    """While every hashing thread is busy, the database answers and other files are uploaded."""
    content = b"content"
    hashed = store.add_local("hashed", content, sha256=hashlib.sha256(content).hexdigest())
    plain = store.add_local("plain-one", content)
    swift = _Store()
    with (
        closing(Cache(str(tmp_path / "cache.db"))) as cache,
        closing(Database(store.config)) as database,
    ):
        update_db(database, cache, RECENT)
        job = Upload(reactor, swift, database, cache, Options(str(store.base)), Progress())
        hashes_end = threading.Event()
        slow = [job.threads.hashing.run(hashes_end.wait) for _ in range(SLOW_HASHES)]
        run = Deferred.fromCoroutine(job.run())
        try:
            await swift.first.addTimeout(WAIT_SECONDS, reactor)
            assert swift.stored == [plain]
        finally:
            hashes_end.set()
            await gatherResults([*slow, run])
    assert swift.stored == [plain, hashed]
    assert job.tally.uploaded == 2
