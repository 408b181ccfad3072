"""What a cluster tells about itself: its limits, from ``/info``.

See Swift's "Discoverability". Optional: clusters may hide it, and Ceph RGW
has it at ``/swift/info``, beside its ``/swift/v1``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from swift_provider.client.exchange import Exchange
from swift_provider.client.requester import Request, Requester
from swift_provider.errors import SwiftProviderError

#: Swift's default, "5 GB + 2", without the two; Ceph RGW's limit too.
USUAL_MAX_FILE_SIZE = 5 * 1024 * 1024 * 1024
USUAL_MAX_SEGMENTS = 1000

_INFO_BYTES = 256 * 1024


@dataclass(frozen=True)
class ClusterLimits:
    """Limits that matter for uploads.

    :ivar max_file_size: bytes of one object or segment, at most.
    :ivar max_segments: segments in a manifest, at most.
    """

    max_file_size: int = USUAL_MAX_FILE_SIZE
    max_segments: int = USUAL_MAX_SEGMENTS


class _InfoRequest(Request):
    def url(self, storage_url: str) -> bytes:
        scheme, _, rest = storage_url.partition("://")
        host, _, path = rest.partition("/")
        before_version = f"/{path}/".partition("/v1/")[0]
        return f"{scheme}://{host}{before_version}/info".encode("ascii")


async def cluster_limits(requester: Requester) -> ClusterLimits | None:
    """Ask for the limits.

    :returns: the usual ones where the cluster does not tell; ``None`` if it could not be
        asked just now.
    """
    request = _InfoRequest("GET", None, accepts=frozenset(range(300, 500)))

    async def handle(exchange: Exchange) -> bytes:
        return await exchange.read(_INFO_BYTES)

    try:
        body = await requester.perform(request, handle)
    except SwiftProviderError:
        return None
    try:
        answer = json.loads(body)
        swift, slo = answer["swift"], answer.get("slo") or {}
        return ClusterLimits(
            int(swift.get("max_file_size", USUAL_MAX_FILE_SIZE)),
            int(slo.get("max_manifest_segments", USUAL_MAX_SEGMENTS)),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return ClusterLimits()
