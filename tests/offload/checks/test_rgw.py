"""``check`` of one place in Ceph RGW."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from twisted.internet import reactor

from swift_provider.config import parse_settings
from swift_provider.offload.checks.place import Asked, PlaceCheck
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Container


@pytest_twisted.async_yield_fixture
async def rgw() -> AsyncIterator[RgwStandIn]:
    """A stand-in with the container ``media``."""
    server = RgwStandIn(reactor)
    server.containers["media"] = Container(reactor.seconds())
    await server.start()
    yield server
    await server.stop()


async def lines(rgw: RgwStandIn) -> list[str]:
    auth = dict(zip(("username", "password"), rgw.credentials, strict=True))
    options = {
        "container": "media",
        "auth_type": "v1password",
        "auth": {"auth_url": rgw.auth_url, **auth},
    }
    left: set[str] = set()
    asked = Asked(parse_settings(options), "", "config", 2**30, stores=True)
    check = PlaceCheck(reactor, asked, left)
    findings = await check.run()
    await check.close()
    assert left == set()
    return [str(one) for one in findings.found]


async def test_all_is_well(rgw: RgwStandIn) -> None:
    """A storage URL without an account is right there."""
    found = await lines(rgw)
    assert [line for line in found if not line.startswith("ok ")] == []
    assert "ok      rights: write, read, list and delete were tried in media" in found
    assert rgw.containers["media"].objects == {}


async def test_a_quota_that_no_header_shows(rgw: RgwStandIn) -> None:
    """The write says it."""
    rgw.quota_bytes = 10
    (wrong,) = (line for line in await lines(rgw) if line.startswith("wrong "))
    assert wrong.startswith("wrong   write: PUT media/.swift_provider/check-")
    assert "the quota is used up" in wrong
