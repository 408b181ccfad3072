"""Which requests a new small file takes, and that none of them overwrites a good object."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Container, Stored
from tests.servers.swift import Swift

CONTAINER = "media"
GOOD = b"the right content"


@pytest_twisted.async_yield_fixture
async def gateway() -> AsyncIterator[RgwStandIn]:
    """Overwrites an object in spite of ``If-None-Match``, as Ceph RGW does."""
    server = RgwStandIn(reactor)
    await server.start()
    server.containers[CONTAINER] = Container(server.now())
    yield server
    await server.stop()


async def test_a_gateway_that_ignores_conditions(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """A bad file does not replace an object that the listing lacks, and stays."""
    path = store.add_local("abcdef", GOOD)
    new = store.add_local("new-one", b"new")
    (store.base / path).write_bytes(bytes(len(GOOD)))  # as after a power cut
    objects = gateway.containers[CONTAINER].objects
    objects[path] = Stored(GOOD, hashlib.md5(GOOD).hexdigest(), gateway.now())
    proxy = FaultProxy(reactor, "127.0.0.1", gateway.port)
    await proxy.start()
    kind = {"Content-Type": "application/json", "X-Trans-Id": "made-up"}
    proxy.add(Answer(200, b"[]", kind, times=None, match=("GET", "prefix=")))
    user, key = gateway.credentials
    auth = {"auth_url": gateway.auth_url, "username": user, "password": key}
    url = proxy.url_for(gateway.url)
    script.configure(store, container=CONTAINER, auth_type="v1password", auth=auth, storage_url=url)
    summary = await deferToThread(script.json, "upload", store.base, "--all", "--delete", status=1)
    await proxy.stop()
    assert summary["failed"] == {"Swift has another file under this name": 1}
    assert objects[path].data == GOOD
    assert objects[new].data == b"new"
    assert store.files() == {path}


@pytest.mark.parametrize("tells", [True, False])
async def test_a_new_small_file_takes_one_request(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    account: Credentials,
    tells: bool,
) -> None:
    """Of OpenStack Swift, which keeps what is there. If it hides what it is: a HEAD first."""
    paths = {store.add_local(f"media-{number}") for number in range(5)}
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    if not tells:
        proxy.add(Answer(404, times=None, match=("GET", "^/info$")))
    url = proxy.url_for(swift.account_url(account.project_id))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    summary = await deferToThread(offload.json, "upload", store.base, "--all", "--delete")
    await proxy.stop()
    assert summary["uploaded"] == 5
    assert objects.names() == paths
    asked = [(one.method, one.path.partition("?")[0]) for one in proxy.requests]
    assert asked.count(("GET", "/info")) == 1
    for method, count in (("PUT", 5), ("HEAD", 0 if tells else 5)):
        assert len([one for one in asked if one[0] == method and "/local_content/" in one[1]]) == (
            count
        )
