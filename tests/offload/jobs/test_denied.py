"""Objects that Swift denies: one is a failure of its own, many end the run."""

from __future__ import annotations

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
from tests.servers.swift import Swift

COUNT = 30


@pytest_twisted.async_yield_fixture
async def proxy(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> AsyncIterator[FaultProxy]:
    """Between the script and Swift; the script handles one file at a time."""
    started = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await started.start()
    url = started.url_for(swift.account_url(account.project_id))
    config = {"cloud": "matrix", "container": objects.container, "storage_url": url}
    offload.configure(store, threadpool_size=1, **config)
    yield started
    await started.stop()


def _fill(store: SynapseStore) -> list[str]:
    return [store.add_local(f"media-{number:02}", b"%d" % number) for number in range(COUNT)]


@pytest.mark.parametrize("with_acl", [False, True])
async def test_one_object_is_denied(
    proxy: FaultProxy, offload: Script, store: SynapseStore, objects: Objects, with_acl: bool
) -> None:
    """The file is named, and the run goes on behind it; also if an ACL allows objects only."""
    paths = _fill(store)
    if with_acl:
        proxy.add(Answer(403, times=None, match=("HEAD", rf"{objects.container}$")))
    proxy.add(Answer(403, times=None, match=(None, paths[3])))
    await deferToThread(offload, "update-db", "2m")
    summary = await deferToThread(offload.json, "upload", store.base, "--delete", status=1)
    assert (summary["deleted"], sum(summary["failed"].values())) == (COUNT - 1, 1)
    assert store.files() == {paths[3]}
    assert paths[3] in summary["told"]


async def test_all_objects_are_denied(
    proxy: FaultProxy, offload: Script, store: SynapseStore
) -> None:
    """After five in a row the run ends, with status 3."""
    paths = _fill(store)
    proxy.add(Answer(403, times=None, match=("PUT", "/")))
    await deferToThread(offload, "update-db", "2m")
    summary = await deferToThread(offload.json, "upload", store.base, "--delete", status=3)
    assert sum(summary["failed"].values()) == 5
    assert "access denied" in summary["stopped"]
    assert store.files() == set(paths)


async def test_the_container_is_denied_meanwhile(
    proxy: FaultProxy, offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """If Swift denies the container too, the run ends at the first object."""
    paths = _fill(store)
    check = ("HEAD", rf"{objects.container}$")
    proxy.add(Answer(403, times=None, match=("PUT", "/")))
    await deferToThread(offload, "update-db", "2m")

    class AfterTheFirst(Answer):
        def wants(self, method: str, path: str, first: bool) -> bool:
            return super().wants(method, path, first) and any(
                one.method == "PUT" for one in proxy.requests
            )

    proxy.add(AfterTheFirst(403, times=None, match=check))
    summary = await deferToThread(offload.json, "upload", store.base, "--delete", status=3)
    assert sum(summary["failed"].values()) == 1
    assert store.files() == set(paths)


async def test_a_dry_run_does_not_believe_the_listing(
    proxy: FaultProxy, offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """A listing that is late hides an object: both runs find it, and say the same."""
    there, other = (store.add_local(name, b"content") for name in ("there-one", "other-one"))
    objects[there] = b"content"
    objects[other] = b"CONTENT"
    kind = {"Content-Type": "application/json", "X-Trans-Id": "made-up"}
    proxy.add(Answer(200, b"[]", kind, times=None, match=("GET", "prefix=")))
    await deferToThread(offload, "update-db", "2m")
    for options in (["--dry-run"], []):
        summary = await deferToThread(
            offload.json, "upload", store.base, "--delete", *options, status=1
        )
        assert (summary["already_there"], summary["uploaded"], summary["deleted"]) == (1, 0, 1)
        assert summary["failed"] == {"Swift has another file under this name": 1}
