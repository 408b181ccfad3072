"""Two homeservers that federate, with real Swift behind them, for each Synapse we support.

``here`` reaches Swift through a fault proxy and has a media store on disk; ``peer`` keeps no
local media (where its Synapse can do without), and finds Swift in the catalogue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.threads import deferToThread

from swift_provider.module.synapse_version import OLDEST_SYNAPSE
from tests.module.disk_place import Services
from tests.module.homeservers import FORBIDDEN, Homeserver
from tests.module.other_synapse import python_with_synapse
from tests.module.storage import Storage
from tests.servers.fault_proxy import FaultProxy
from tests.servers.keystone import REGION, Credentials, Keystone
from tests.servers.postgres import Postgres
from tests.servers.swift import Swift
from tests.servers.tls import make_ca

OLDEST = ".".join(map(str, OLDEST_SYNAPSE)) + ".0"
MODULE = "swift_provider.SwiftStorageProviderBackend"
OLDER_MODULE = "swift_storage_provider.SwiftStorageProviderBackend"

MakeEntry = Callable[..., dict[str, Any]]


@dataclass
class Servers:
    """:ivar main: container of ``here``'s first provider, which Synapse waits for.
    :ivar second: of its second, which Synapse does not wait for, and which cuts into segments.
    """

    here: Homeserver
    peer: Homeserver
    proxy: FaultProxy
    storage: Storage
    main: str
    second: str
    peer_waits: str
    peer_does_not: str
    keeps_no_local: bool


@pytest.fixture(scope="session")
def entry(swift: Swift, account: Credentials) -> MakeEntry:
    """Makes an entry for ``media_storage_providers``."""

    def make(
        container: str, *, waits: bool = True, module: str = MODULE, **options: object
    ) -> dict[str, Any]:
        return {
            "module": module,
            "store_local": True,
            "store_remote": True,
            "store_synchronous": waits,
            "config": {
                "container": container,
                "create_container": True,
                "auth_type": "password",
                "auth": account.auth(),
                "region_name": REGION,
                **options,
            },
        }

    return make


@pytest.fixture(scope="session")
def storage(swift: Swift, account: Credentials, keystone: Keystone) -> Storage:
    """The account's containers, as they are."""
    return Storage(swift, account, keystone.token(account))


@pytest.fixture
def services(tmp_path: Path, entry: MakeEntry, storage: Storage, postgres: Postgres) -> Services:
    """What a homeserver with media workers needs."""
    return Services(tmp_path, entry, storage, postgres)


@pytest.fixture(scope="session", params=["ours", OLDEST])
def both(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    storage: Storage,
    entry: MakeEntry,
) -> Iterator[Servers]:
    """The two homeservers, started once for all tests."""
    from twisted.internet import reactor  # pytest-twisted chooses it

    oldest = request.param == OLDEST
    python = python_with_synapse(OLDEST) if oldest else None
    folder = tmp_path_factory.mktemp("pair")
    authority = make_ca(folder / "ca")
    host, port = storage.url.split("/")[2].split(":")
    proxy = FaultProxy(reactor, host, int(port))
    pytest_twisted.blockon(ensureDeferred(proxy.start()))
    main, second, waits, does_not = (f"{uuid4().hex[:8]}-{n}" for n in ("a1", "a2", "b1", "b2"))
    via = {"storage_url": proxy.url_for(storage.url)}
    here = Homeserver(
        folder / "here",
        authority,
        python=python,
        media_storage_providers=[
            entry(main, prefix="matrix", **via),
            entry(second, waits=False, module=OLDER_MODULE, segment_size="1M", **via),
        ],
    )
    peer = Homeserver(
        folder / "peer",
        authority,
        python=python,
        # The one that Synapse does not wait for comes last: the temporary file is gone then.
        media_storage_providers=[entry(waits), entry(does_not, waits=False)],
        config={} if oldest else {"enable_local_media_storage": False},
    )
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: pytest_twisted.blockon(ensureDeferred(proxy.stop())))
        for homeserver in (here, peer):
            stack.callback(homeserver.stop)
        starting = [deferToThread(homeserver.start) for homeserver in (here, peer)]
        pytest_twisted.blockon(gatherResults(starting, consumeErrors=True))
        for homeserver in (here, peer):
            # In a thread: the fault proxy runs on this thread's reactor.
            pytest_twisted.blockon(deferToThread(homeserver.wait_for_containers, 2))
        yield Servers(here, peer, proxy, storage, main, second, waits, does_not, not oldest)


@pytest.fixture
def servers(both: Servers) -> Iterator[Servers]:
    """The two homeservers; afterwards neither may have complained about log contexts."""
    both.proxy.clear()
    both.proxy.requests.clear()
    logs = [(server.log, len(server.log.read_text())) for server in (both.here, both.peer)]
    for server in (both.here, both.peer):
        server.new_log()
    yield both
    both.proxy.clear()
    for log, begin in logs:
        bad = [line for line in log.read_text()[begin:].splitlines() if FORBIDDEN.search(line)]
        assert not bad
    assert "Traceback" not in logs[0][0].read_text()[logs[0][1] :]
