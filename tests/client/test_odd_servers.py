"""Answers that are odd, and not wrong."""

from __future__ import annotations

import hashlib

import pytest

from swift_provider.client import cluster_limits
from tests.client.conftest import Faulty
from tests.client.trouble import MakeFile, begin, content_of, puts, soon
from tests.servers.faults import ON_REQUEST, Answer, Stall, Then


async def test_a_201_that_ends_by_a_close(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Status and headers say that the object is stored; there is no second PUT."""
    md5 = hashlib.md5(b"content").hexdigest().encode()
    raw = b"HTTP/1.1 201 Created\r\nX-Trans-Id: tx1\r\nETag: %b\r\n\r\nCreated" % md5
    faulty.proxy.add(Answer(201, raw=raw, after=None, then=Then.CLOSE, match=("PUT", "/name$")))
    await faulty.store(container).put("name", make_file(b"content"))
    assert len(puts(faulty)) == 1


async def test_an_info_that_hangs_delays_an_upload_by_its_own_limit(
    faulty: Faulty, container: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual limits do then; the time limits of the upload itself do not count."""
    monkeypatch.setattr(cluster_limits, "INFO_SECONDS", 0.2)
    faulty.proxy.add(stall := Stall(ON_REQUEST, match=("GET", "/info$")))
    store = faulty.store(container)
    info = await soon(begin(store.put("name", make_file(content_of(2_000_000)))))
    assert info.size == 2_000_000
    assert stall.fired == 1
