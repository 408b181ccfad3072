"""Downloads, with the small files that are asked for often from memory.

Media never change under their name, so only a deletion can make a file in memory wrong.
This provider's own deletions and uploads :meth:`~SmallFiles.drop` it. For what others do,
the object is asked about by HEAD once an hour.

If Swift is unreachable then, the file is served until its last proof is a day old. Its
bytes are right, and Synapse asks only for media that are in its database, so that a file which
another worker has deleted is not asked for. The alternative would be a 503 for a file that
is here.

Large files are never kept: they pass through. Requests are shared even if nothing is kept.
"""

from __future__ import annotations

import logging
from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.defer import ensureDeferred

from swift_provider.client import Asking, Download, ObjectInfo, Store, WholeDownload, give_up
from swift_provider.errors import ObjectNotFoundError, SwiftProviderError
from swift_provider.module.memory_cache import MemoryCache, MemoryFile
from swift_provider.module.metrics import Metrics
from swift_provider.module.shared_download import SharedDownload
from swift_provider.module.shared_requests import SharedRequests

logger = logging.getLogger(__name__)

#: How long a response of Swift counts as proof that the object is there.
PROVEN_SECONDS = 3600.0
#: How old the proof may be while Swift is unreachable.
UNREACHABLE_SECONDS = 24 * 3600.0
#: How long to wait for the answer to the HEAD, once it has its slot. A user waits, and the file
#: is here.
HEAD_SECONDS = 3.0
#: After a HEAD without an answer, no other is sent for this time.
PAUSE_SECONDS = 60.0


class SmallFiles:
    """The downloads of one provider.

    :param limit: bytes of memory for files; 0 to keep none.
    :param clock: the reactor.
    """

    def __init__(self, store: Store, limit: int, clock: Any, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._memory = MemoryCache(limit, metrics)
        self._requests = SharedRequests(self._ask, clock)
        self._heads = SharedRequests(self._head, clock)
        self._paused_until = 0.0

    def has(self, path: str) -> bool:
        """Whether a file is in memory. It may be so old that Swift is asked about it."""
        return self._memory.get(path) is not None

    async def head(self, path: str) -> ObjectInfo:
        """An object's facts, from Swift. Call it through ``begin_for_caller``.

        :raises ObjectNotFoundError: if Swift says 404 for the object, and for nothing else.
        :raises SwiftProviderError: if it failed for good.
        """
        info, _ = await self._heads.get(path)
        assert info is not None, "facts can be shared"
        return info

    async def _head(self, path: str, request: SharedDownload[ObjectInfo]) -> ObjectInfo:
        return await self._store.head(path, progress=request.asking)

    async def get(self, path: str) -> Download:
        """Begin a download. Call it through ``begin_for_caller``.

        :returns: from memory, or as :meth:`swift_provider.client.Store.get` does.
        :raises ObjectNotFoundError: if Swift says 404 for the object, and for nothing else.
        :raises SwiftProviderError: if it failed for good.
        """
        file = self._memory.get(path)
        if file is not None and self._needs_no_proof(file):
            self._metrics.memory_request("hit")
            return file.download()
        try:
            return await self._share(path)
        except ObjectNotFoundError:
            self._memory.drop(path)
            raise

    async def _share(self, path: str) -> Download:
        download, joined = await self._requests.get(path)
        if joined and isinstance(download, WholeDownload):
            self._metrics.memory_request("shared")
        return download or await self._store.get(path)

    def drop(self, path: str) -> None:
        """Forget a file, because it is being deleted or replaced. May be called again.

        Call it before that begins, and again when it has ended. A request in flight goes on
        for the coroutines that already wait for it. Its result is not kept, and no other
        coroutine joins it.
        """
        self._memory.drop(path)
        self._requests.drop(path)
        self._heads.drop(path)

    async def _ask(self, path: str, request: SharedDownload[Download]) -> Download:
        now = self._clock.seconds()
        file = self._memory.get(path)
        if file is not None:
            if await self._is_there(path, file):
                self._metrics.memory_request("hit")
                return file.download()
            self._memory.drop(path)
        download = await self._store.get(path, progress=request.asking)
        if isinstance(download, WholeDownload):
            self._metrics.memory_request("miss")
            if self._requests.may_be_joined(path, request) and not download.info.expires:
                self._memory.offer(path, download, now, again=request.is_shared)
        return download

    def _needs_no_proof(self, file: MemoryFile) -> bool:
        age = self._age(file)
        # If the clock was set back, the pause is over.
        paused = 0 < self._paused_until - self._clock.seconds() <= PAUSE_SECONDS
        return age <= PROVEN_SECONDS or (paused and age <= UNREACHABLE_SECONDS)

    def _age(self, file: MemoryFile) -> float:
        """Seconds since the proof; infinite if the system's clock was set back meanwhile."""
        age: float = self._clock.seconds() - file.proven_at
        return age if age >= 0 else float("inf")

    async def _is_there(self, path: str, file: MemoryFile) -> bool:
        """Ask Swift whether it still has this object; assume so if Swift is unreachable.

        :raises ObjectNotFoundError: if Swift says 404 for the object.
        :raises SwiftProviderError: if Swift refuses to say, or there is no slot to ask it.
        """
        if self._age(file) > UNREACHABLE_SECONDS:
            return False
        now = self._clock.seconds()
        asking = Asking(self._clock)
        head = ensureDeferred(self._store.head(path, progress=asking))
        try:
            info = await give_up(head, HEAD_SECONDS, asking.spent, self._clock)
        except DeferredTimeoutError:
            self._serve_unproven(path, f"no answer within {HEAD_SECONDS:.0f} seconds")
            return True
        except SwiftProviderError as error:
            if not error.temporary or not asking.asked:
                raise
            self._serve_unproven(path, error)
            return True
        if (info.etag, info.size) != (file.info.etag, file.info.size):
            return False
        file.proven_at = now
        return True

    def _serve_unproven(self, path: str, reason: object) -> None:
        self._paused_until = self._clock.seconds() + PAUSE_SECONDS
        logger.warning(
            "%s is served from memory, and Swift cannot be asked whether it is still there: %s",
            path,
            reason,
        )
