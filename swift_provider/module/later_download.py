"""A download that begins only if its bytes are wanted.

The answer to a HEAD request has no body, and neither has a redirect to Swift, so
:meth:`SwiftStorageProviderBackend.fetch` asks Swift for the object's facts only. Synapse may
still need the bytes: it answers a HEAD request for a thumbnail by making the thumbnail, from
the original that it pulls back to its disk.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from synapse.module_api import make_deferred_yieldable

from swift_provider.client import Download, ObjectInfo
from swift_provider.module.log_context import begin_for_caller


class LaterDownload:
    """Stands for a download that has not begun.

    :param info: the object's facts.
    :param get: begins the download.
    :ivar info: as given.
    """

    def __init__(self, info: ObjectInfo, get: Callable[[], Coroutine[Any, Any, Download]]) -> None:
        self.info = info
        self._get = get

    async def begin(self) -> Download:
        """Begin it now.

        :raises SwiftProviderError: if it failed for good, or there is no such object any more.
        """
        return await make_deferred_yieldable(begin_for_caller(self._get))

    def abandon(self) -> None:
        """Nothing is held."""
