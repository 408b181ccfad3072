"""What the log says at start about several places."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import pytest
from twisted.internet import reactor

from swift_provider.client import open_store
from swift_provider.config import parse_settings
from swift_provider.module.start_check import check_containers
from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift


@pytest.mark.parametrize("apart", [False, True])
async def test_two_names_for_one_place(
    swift: Swift, account: Credentials, caplog: pytest.LogCaptureFixture, apart: bool
) -> None:
    """An error names both; the container is made all the same."""
    options: dict[str, Any] = {
        "name": "a",
        "container": uuid4().hex,
        "create_container": True,
        "auth": account.auth(),
        "region_name": REGION,
    }
    mirror = {**options, "name": "b", "storage_url": swift.account_url(account.project_id)}
    mirror |= {"prefix": "other"} if apart else {}
    store = open_store(
        reactor, parse_settings({**options, "mirrors": [mirror]}), shares_reactor=False
    )
    with caplog.at_level(logging.INFO, "swift_provider.module"):
        await check_containers(store.members)
    await store.close()
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert ["a and b lead to the same objects" in error for error in errors] == [True] * (not apart)
    assert caplog.text.count("is ready") == 2
