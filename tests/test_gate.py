"""The bad network for programs that block: each state, and the way back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import process
from tests.servers.gate import Gate, running_gate
from tests.servers.swift import Swift
from tests.servers.swift_account import Account, tempauth_token

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def gate(second_swift: Swift, tmp_path: Path) -> Iterator[Gate]:
    with running_gate(tmp_path, "test", second_swift.url) as started:
        yield started


@pytest.fixture
def account(second_swift: Swift, gate: Gate) -> Account:
    """By way of the gate, with one object in it."""
    user = (second_swift.tempauth_user, second_swift.tempauth_key)
    token = tempauth_token(gate.url_for(second_swift.tempauth_url), *user)
    account = Account(lambda: token, gate.url_for(f"{second_swift.url}/v1/TEMP_mirror"))
    account.call("PUT", "gate")
    account.call("PUT", "gate", "name", data=CONTENT)
    return account


def test_tempauth_leads_through_the_gate(second_swift: Swift, gate: Gate) -> None:
    """Who signs in by way of the gate is sent to a storage URL by way of the gate."""
    headers = {"X-Auth-User": second_swift.tempauth_user, "X-Auth-Key": second_swift.tempauth_key}
    with process.local_session() as http:
        answer = http.get(gate.url_for(second_swift.tempauth_url), headers=headers, timeout=30)
    url = answer.headers["X-Storage-Url"]
    assert url == gate.url_for(url) == gate.url_for(f"{second_swift.url}/v1/TEMP_mirror")


def test_busy_and_back(gate: Gate, account: Account) -> None:
    """503 for all, until it is open again."""
    gate.busy()
    for _ in range(3):
        with pytest.raises(requests.HTTPError, match="503"):
            account.content("gate", "name")
    gate.open()
    assert account.content("gate", "name") == CONTENT


def test_refusing_and_back(gate: Gate, account: Account) -> None:
    """Connections that are open already are of no use either."""
    before = gate.requests
    gate.refuse()
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            account.content("gate", "name")
    assert gate.requests == before
    gate.open()
    assert account.content("gate", "name") == CONTENT
    assert gate.requests > before


def test_one_state_ends_the_other(gate: Gate, account: Account) -> None:
    """From refusing to busy, the port is open again."""
    gate.refuse()
    gate.busy()
    with pytest.raises(requests.HTTPError, match="503"):
        account.content("gate", "name")


def test_crawling_and_back(gate: Gate, account: Account) -> None:
    """A download that would take half a minute ends soon after the gate is open."""
    gate.crawl()
    came: list[bytes | None] = []
    reader = threading.Thread(target=lambda: came.append(account.content("gate", "name")))
    began = time.monotonic()
    reader.start()
    _wait(lambda: gate.exchanges_open == 1)
    reader.join(1.0)
    assert not came
    gate.open()
    reader.join(30)
    assert came == [CONTENT]
    assert time.monotonic() - began < len(CONTENT) / 300


def _wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
