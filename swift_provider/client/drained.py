"""Reads what a response has besides its status and headers, and drops it."""

from __future__ import annotations

from contextlib import suppress

from swift_provider.client.answers import ERROR_BODY_BYTES
from swift_provider.client.http.exchange import Exchange
from swift_provider.errors import TemporaryError


async def drained(exchange: Exchange) -> None:
    """Read a response's body and drop it. Its status and headers have said everything, so
    a body that breaks off is no failure.
    """
    with suppress(TemporaryError):
        await exchange.read(ERROR_BODY_BYTES)
