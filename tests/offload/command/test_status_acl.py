"""``status`` with a user that an ACL allows the objects only."""

from __future__ import annotations

import json

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


async def test_a_user_that_may_not_look_at_the_container(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials
) -> None:
    """The jobs can use the place, so status says so."""
    store.add_local("abcdef", b"content")
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    proxy.add(Answer(403, times=None, match=("HEAD", f"/{mirrors.b.container}$")))
    mirrors.configure(storage_url=proxy.url_for(swift.account_url(account.project_id)))
    uploaded = await deferToThread(mirrors.plain, "upload", store.base, "--all", "--delete")
    ended = await deferToThread(mirrors.plain, "status", store.base, "--json")
    await proxy.stop()
    assert uploaded.returncode == 0, uploaded.stdout + uploaded.stderr
    assert [one["usable"] for one in json.loads(ended.stdout)["members"]] == [True, True]
