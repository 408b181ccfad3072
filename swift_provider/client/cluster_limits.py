"""What a cluster says of itself at ``/info``, and which files have to be segmented because of it.

See Swift's "Discoverability". ``/info`` is optional: a cluster may hide it. Ceph RGW has
it at ``/swift/info``, beside ``/swift/v1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import DeferredLock, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime

from swift_provider.client.answers import BUSY_STATUSES
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.json_body import UnreadableError, parsed
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.client.retry import Patience, Tries
from swift_provider.errors import SwiftProviderError

#: Swift's default, "5 GB + 2", without the two; Ceph RGW's limit too.
USUAL_MAX_FILE_SIZE = 5 * 1024 * 1024 * 1024
USUAL_MAX_SEGMENTS = 1000

_INFO_BYTES = 256 * 1024

#: No cluster has a lower limit, so files up to this size need no request for ``/info``.
_SURELY_ONE_OBJECT_BYTES = 1024 * 1024

#: An upload must not wait long for the limits: one attempt of this length, and after a
#: failure the usual limits for a while.
INFO_SECONDS = 5.0
_ONE_TRY = Patience(total_seconds=0.0, first_delay=0.1, longest_delay=0.1, operation_seconds=30.0)
ASK_AGAIN_SECONDS = 600.0


@dataclass(frozen=True)
class ClusterLimits:
    """Limits that matter for uploads, and the digests for temporary URLs.

    :ivar max_file_size: bytes of one object or segment, at most.
    :ivar max_segments: segments in a manifest, at most; 0 if there are no static large objects.
    :ivar temp_url_digests: digests that temporary URLs may be signed with; empty if there
        are no temporary URLs; ``None`` if the cluster does not say whether there are.
    :ivar keeps_existing: a PUT with ``If-None-Match: *`` surely overwrites no object.
    :ivar hides_manifests: the cluster surely does not show of what a large object consists.
    """

    max_file_size: int = USUAL_MAX_FILE_SIZE
    max_segments: int = USUAL_MAX_SEGMENTS
    temp_url_digests: tuple[str, ...] | None = None
    keeps_existing: bool = False
    hides_manifests: bool = False

    def take_segments(self, sizes: Sequence[int]) -> bool:
        """Whether a large object of segments of these sizes can be stored."""
        # Only the last segment may be empty.
        return (
            0 < len(sizes) <= self.max_segments
            and max(sizes) <= self.max_file_size
            and all(sizes[:-1])
        )


class _InfoRequest(Request):
    def url(self, storage_url: str) -> bytes:
        scheme, _, rest = storage_url.partition("://")
        host, _, path = rest.partition("/")
        before_version = f"/{path}/".partition("/v1/")[0]
        return f"{scheme}://{host}{before_version}/info".encode("ascii")


class Cluster:
    """Asks for the limits when they are first needed, and keeps them once it has them.

    An answer without them may be a maintenance page, so it only counts for a while.
    """

    def __init__(self, requester: Requester, clock: IReactorTime) -> None:
        self._requester = requester
        self._clock = clock
        self._asking = DeferredLock()
        self._limits: ClusterLimits | None = None
        self._limits_are_old = True
        self._ask_again_at = 0.0

    async def takes_whole(self, size: int) -> bool:
        """Whether ``size`` bytes can be stored as one object, or can only be stored so."""
        if size <= _SURELY_ONE_OBJECT_BYTES:
            return True
        limits = await self.limits()
        return size <= limits.max_file_size or limits.max_segments == 0

    async def segment_size(self, size: int, wanted: int) -> int | None:
        """The size in bytes of the segments for a file of ``size`` bytes.

        :param wanted: the configured segment size; a larger file gets segments.
        :returns: ``None`` to store the file as one object.
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
        """The limits; the usual ones where the cluster does not say."""
        await self._asking.acquire()
        try:
            # Also if the clock was set back.
            waits = 0 < self._ask_again_at - self._clock.seconds() <= ASK_AGAIN_SECONDS
            if self._limits_are_old and not waits:
                answer = await self._ask()
                if answer is not None:
                    self._limits, self._limits_are_old = answer, False
                self._ask_again_at = self._clock.seconds() + ASK_AGAIN_SECONDS
        finally:
            self._asking.release()
        return self._limits or ClusterLimits()

    def ask_again(self) -> None:
        """Ask again when the limits are needed next: the cluster may have changed.

        Until it answers, the limits that it named before hold.
        """
        self._limits_are_old = True
        self._ask_again_at = 0.0

    async def _ask(self) -> ClusterLimits | None:
        """:returns: ``None`` if the request failed, or something else answered."""
        answers = frozenset(range(300, 500)) - BUSY_STATUSES  # those do not say that it is missing
        request = _InfoRequest("GET", None, accepts=answers)

        async def handle(exchange: Exchange) -> bytes:
            return await exchange.read(_INFO_BYTES)

        try:
            tries = Tries(_ONE_TRY, self._clock)
            asking = ensureDeferred(self._requester.perform(request, handle, tries=tries))
            body = await asking.addTimeout(INFO_SECONDS, self._clock)
        except (SwiftProviderError, DeferredTimeoutError):
            return None
        return _read(body)


def _read(body: bytes) -> ClusterLimits | None:
    """:returns: ``None`` if the body is not that of ``/info``, which is its own sign of Swift."""
    try:
        answer = parsed(body)
    except UnreadableError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("swift"), dict):
        return None
    max_file_size = _limit(
        answer["swift"],
        "max_file_size",
        at_least=_SURELY_ONE_OBJECT_BYTES,
        usual=USUAL_MAX_FILE_SIZE,
    )
    max_segments = 0
    if "slo" in answer:
        max_segments = _limit(
            answer["slo"], "max_manifest_segments", at_least=0, usual=USUAL_MAX_SEGMENTS
        )
    # OpenStack Swift has named it so for as long as it has had If-None-Match. Ceph RGW, which
    # overwrites all the same and shows no manifest, says max_object_name_size.
    is_openstack = "max_object_name_length" in answer["swift"]
    return ClusterLimits(
        max_file_size,
        max_segments,
        _temp_url_digests(answer.get("tempurl")),
        keeps_existing=is_openstack,
        hides_manifests=not is_openstack,
    )


def _temp_url_digests(section: Any) -> tuple[str, ...]:
    """:param section: ``None`` if the cluster has no temporary URLs."""
    if section is None:
        return ()
    # Ceph RGW and old Swifts do not list the digests: they know SHA-1 only.
    digests = section.get("allowed_digests") if isinstance(section, dict) else None
    if not isinstance(digests, list):
        return ("sha1",)
    return tuple(digest for digest in digests if isinstance(digest, str))


def _limit(section: Any, key: str, *, at_least: int, usual: int) -> int:
    """:returns: ``usual`` if the limit is not there, or is one that no cluster can have."""
    value = section.get(key) if isinstance(section, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        return usual
    return value
