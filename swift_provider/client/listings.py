"""A container's listing, page by page.

See "Show container details and list objects" of OpenStack's Object Storage API. Pages
are asked for by ``marker`` until one is empty: Ceph RGW gives at most 1000 rows however
many are asked for, so a short page is not the last.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from urllib.parse import quote, urlencode

from swift_provider.client.answers import ListedObject, normal_etag
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.errors import DamagedError

#: Rows to ask for at once, Swift's default limit.
PAGE_ROWS = 10_000
_PAGE_BYTES = 32 * 1024 * 1024


async def list_objects(
    requester: Requester, container: str, prefix: str
) -> AsyncGenerator[list[ListedObject], None]:
    """The objects whose names begin with ``prefix``, sorted by name.

    :raises SwiftProviderError: if a page could not be had for good.
    """
    marker = ""
    while True:
        query = {"format": "json", "limit": PAGE_ROWS, "prefix": prefix, "marker": marker}
        request = Request("GET", container, query=urlencode(query, quote_via=quote))
        page = _rows(request, await requester.perform(request, _read_page))
        if not page:
            return
        yield page
        marker = page[-1].name


async def _read_page(exchange: Exchange) -> bytes:
    return await exchange.read(_PAGE_BYTES)


def _rows(request: Request, body: bytes) -> list[ListedObject]:
    if not body:
        return []
    try:
        return [
            ListedObject(
                row["name"],
                int(row["bytes"]),
                normal_etag(row["hash"]),
                row["last_modified"],
            )
            for row in json.loads(body)
            if "name" in row
        ]
    except (ValueError, TypeError, KeyError):
        raise request.target.error(DamagedError, "the listing cannot be read") from None
