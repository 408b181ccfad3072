"""``sync --proof``: it mends what ``verify`` finds, although the listings show equal objects."""

from __future__ import annotations

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


@pytest.mark.parametrize("flaw", ["expires", "lost"])
async def test_what_verify_says_is_lacking(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials, flaw: str
) -> None:
    """The remedy that ``verify`` names helps."""
    content = b"content"
    path = store.add_local("abcdef", content)
    (store.base / path).unlink()
    mirrors.a[path] = mirrors.b[path] = content
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    if flaw == "expires":
        mirrors.b.let_expire(path)
    else:
        # Swift has lost the object; its listing still has it.
        listing = mirrors.b.listing("local_content/")
        mirrors.b.delete(path)
        query = rf"/{mirrors.b.container}\?.*prefix=local_content%2F&marker=$"
        proxy.add(Answer(200, listing, times=None, match=("GET", query)))
    mirrors.configure(storage_url=proxy.url_for(swift.account_url(account.project_id)))
    summary = await deferToThread(mirrors.run, "verify", store.base, status=1)
    assert summary["members"]["b"]["lacking"] == 1
    assert (await deferToThread(mirrors.run, "sync"))["already_there"] == 1
    dry = await deferToThread(mirrors.run, "sync", "--proof", "--dry-run")
    assert dry["copied"] == {"a": 0, "b": 1}
    summary = await deferToThread(mirrors.run, "sync", "--proof")
    assert summary["copied"] == {"a": 0, "b": 1}
    assert summary["replaced"] == int(flaw == "expires")
    assert mirrors.b[path] == content
    assert (await deferToThread(mirrors.run, "sync", "--proof"))["already_there"] == 1
    await deferToThread(mirrors.run, "verify", store.base)
    await proxy.stop()
