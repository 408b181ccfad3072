"""What a cluster tells about itself, from ``/info``: its limits, and so which files to cut up.

See Swift's "Discoverability". Optional: clusters may hide it, and Ceph RGW
has it at ``/swift/info``, beside its ``/swift/v1``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from swift_provider.client.http.exchange import Exchange
from swift_provider.client.requester import Request, Requester
from swift_provider.client.retry import Patience, Tries
from swift_provider.errors import SwiftProviderError

#: Swift's default, "5 GB + 2", without the two; Ceph RGW's limit too.
USUAL_MAX_FILE_SIZE = 5 * 1024 * 1024 * 1024
USUAL_MAX_SEGMENTS = 1000

_INFO_BYTES = 256 * 1024

#: Files up to this size are not worth asking for the limits.
_SURELY_ONE_OBJECT_BYTES = 1024 * 1024

#: The limits are good to know, not worth waiting for: one try, and after a
#: failure none for a while.
_ONE_TRY = Patience(total_seconds=0.0, first_delay=0.1, longest_delay=0.1, operation_seconds=30.0)
ASK_AGAIN_SECONDS = 600.0

#: What says nothing about the limits, but that the cluster is busy.
_BUSY = frozenset({408, 429, 498, 499})


@dataclass(frozen=True)
class ClusterLimits:
    """Limits that matter for uploads.

    :ivar max_file_size: bytes of one object or segment, at most.
    :ivar max_segments: segments in a manifest, at most; 0 if there are no static large objects.
    """

    max_file_size: int = USUAL_MAX_FILE_SIZE
    max_segments: int = USUAL_MAX_SEGMENTS


class _InfoRequest(Request):
    def url(self, storage_url: str) -> bytes:
        scheme, _, rest = storage_url.partition("://")
        host, _, path = rest.partition("/")
        before_version = f"/{path}/".partition("/v1/")[0]
        return f"{scheme}://{host}{before_version}/info".encode("ascii")


class Cluster:
    """Knows the limits, once somebody has needed them."""

    def __init__(self, requester: Requester, clock: IReactorTime) -> None:
        self._requester = requester
        self._clock = clock
        self._asking = DeferredLock()
        self._limits: ClusterLimits | None = None
        self._ask_again_at = 0.0

    async def segment_size(self, size: int, wanted: int) -> int | None:
        """Bytes of the segments to cut a file of ``size`` bytes into.

        :param wanted: a larger file is to be cut into segments of this size.
        :returns: ``None`` to store it as one object.
        """
        if size <= _SURELY_ONE_OBJECT_BYTES:
            return None
        limits = await self.limits()
        largest = min(wanted, limits.max_file_size)
        if size <= largest or limits.max_segments == 0:
            return None
        fewest = -(-size // limits.max_segments)
        return min(max(largest, fewest), limits.max_file_size)

    async def limits(self) -> ClusterLimits:
        """The limits; the usual ones where the cluster does not tell."""
        await self._asking.acquire()
        try:
            if self._limits is None and self._clock.seconds() >= self._ask_again_at:
                self._limits = await self._ask()
                self._ask_again_at = self._clock.seconds() + ASK_AGAIN_SECONDS
        finally:
            self._asking.release()
        return self._limits or ClusterLimits()

    async def _ask(self) -> ClusterLimits | None:
        """:returns: ``None`` if the cluster could not be asked just now."""
        answers = frozenset(range(300, 500)) - _BUSY
        request = _InfoRequest("GET", None, accepts=answers)

        async def handle(exchange: Exchange) -> bytes:
            return await exchange.read(_INFO_BYTES)

        try:
            tries = Tries(_ONE_TRY, self._clock)
            body = await self._requester.perform(request, handle, tries=tries)
        except SwiftProviderError:
            return None
        return _read(body)


def _read(body: bytes) -> ClusterLimits:
    try:
        answer = json.loads(body)
        swift = answer["swift"]
        slo = answer.get("slo", {"max_manifest_segments": 0})
        return ClusterLimits(
            int(swift.get("max_file_size", USUAL_MAX_FILE_SIZE)),
            int(slo.get("max_manifest_segments", USUAL_MAX_SEGMENTS)),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return ClusterLimits()
