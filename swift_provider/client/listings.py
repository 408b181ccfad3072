"""A container's listing, page by page.

See "Show container details and list objects" of OpenStack's Object Storage API. Pages
are asked for by ``marker`` until one is empty: Ceph RGW gives at most 1000 rows however
many are asked for, so a short page is not the last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote, urlencode

from swift_provider.client import json_body
from swift_provider.client.answers import ListedObject, normal_etag
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.json_body import UnreadableError, count, text
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.errors import DamagedError, RequestRefusedError

#: Rows to ask for at once, Swift's default limit.
PAGE_ROWS = 10_000
_PAGE_BYTES = 32 * 1024 * 1024


async def list_objects(
    requester: Requester, container: str, prefix: str
) -> AsyncGenerator[list[ListedObject], None]:
    """The objects whose names begin with ``prefix``, sorted by name.

    Sorted as Swift and Ceph RGW sort: by the bytes of the names in UTF-8, which is the order
    of Python's strings, too.

    :raises DamagedError: if a page cannot be read, or is not the one that was asked for: a
        cache in between may give the same page for every marker, without end.
    :raises SwiftProviderError: if a page could not be had for good.
    """
    query = {"format": "json", "limit": str(PAGE_ROWS), "prefix": prefix, "marker": ""}
    while True:
        marker = query["marker"]
        request = Request("GET", container, query=urlencode(query, quote_via=quote))
        try:
            page = _rows(request, await requester.perform(request, _read_page))
        except RequestRefusedError as error:
            # The cluster's limit is lower (``container_listing_limit``): without one it takes that.
            if "Maximum limit" not in error.reason or query.pop("limit", None) is None:
                raise
            continue
        if not page:
            return
        for row in page:
            if row.name <= marker or not row.name.startswith(prefix):
                raise request.target.error(
                    DamagedError,
                    "the listing is not the one that was asked for: its names do not rise, or "
                    "have another prefix; perhaps a cache in between answers",
                )
            marker = row.name
        query["marker"] = marker
        yield page


async def _read_page(exchange: Exchange) -> bytes:
    return await exchange.read(_PAGE_BYTES)


def _rows(request: Request, body: bytes) -> list[ListedObject]:
    if not body:
        return []
    try:
        # A row without a name stands for a folder.
        return [_listed(row) for row in json_body.rows(json_body.parsed(body)) if "name" in row]
    except (UnreadableError, KeyError):
        raise request.target.error(DamagedError, "the listing cannot be read") from None


def _listed(row: dict[str, Any]) -> ListedObject:
    return ListedObject(
        text(row["name"]),
        count(row["bytes"]),
        normal_etag(text(row["hash"])),
        text(row["last_modified"]),
    )
