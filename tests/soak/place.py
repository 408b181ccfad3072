"""Where the soak happens: Keystone, Swift, PostgreSQL, a bad network, and two homeservers."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.keystone import running_keystone
from tests.servers.postgres import Postgres, running_postgres
from tests.servers.swift import running_swift
from tests.servers.swift_account import Account
from tests.servers.synapse import Synapse
from tests.soak.disk import mounted
from tests.soak.home import Home

CONTAINER = "soak"
PASSWORD = "only-on-loopback"
#: Swift by way of the fault proxy.
REGION = "BadNetwork"
#: As short as clouds have it. With less, Swift's own sign-in, which renews its token two
#: minutes before the end, would ask Keystone for another one all the time.
TOKEN_SECONDS = 300
IDLE_SECONDS = 30


@dataclass
class Place:
    """Everything that runs.

    :ivar proxy: between the homeservers, or their scripts, and Swift.
    :ivar keystone_proxy: between them and Keystone.
    :ivar neighbour: another homeserver, whose media are in the same container.
    :ivar account: in Swift, past the bad network.
    """

    proxy: FaultProxy
    keystone_proxy: FaultProxy
    home: Home
    neighbour: Home
    account: Account

    @property
    def homes(self) -> tuple[Home, Home]:
        """Both homeservers."""
        return self.home, self.neighbour

    def proxy_idle(self) -> None:
        """Wait until nothing is in flight between a homeserver and Swift. Blocking."""
        deadline = time.monotonic() + IDLE_SECONDS
        while self.proxy.exchanges_open and time.monotonic() < deadline:
            time.sleep(0.1)


@contextlib.contextmanager
def everything_running(reactor: Any, proxy_ready: Callable[[FaultProxy], None]) -> Iterator[Place]:
    """Start all servers; at the end of the block they and their files are gone. Blocking.

    :param proxy_ready: called with a new proxy; returns when it listens.
    :raises ServiceError: if one cannot start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swift-soak-")))
        keystone = stack.enter_context(
            running_keystone(folder / "keystone", token_seconds=TOKEN_SECONDS)
        )
        user = keystone.create_account("matrix", "synapse", PASSWORD)
        swift = stack.enter_context(running_swift(folder / "swift", keystone))
        where = urlsplit(swift.url)
        proxy = FaultProxy(reactor, process.LOOPBACK, where.port)
        proxy_ready(proxy)
        keystone.create_endpoint(
            "object-store", f"http://127.0.0.1:{proxy.port}/v1/AUTH_%(project_id)s", REGION
        )
        where = urlsplit(keystone.url)
        keystone_proxy = FaultProxy(reactor, process.LOOPBACK, where.port)
        proxy_ready(keystone_proxy)
        auth = {**user.auth(), "auth_url": keystone_proxy.url_for(keystone.url)}
        clouds = user.write_clouds_yaml(folder / "clouds.yaml", region=REGION, auth=auth)
        environment = {
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "PYTHONPATH": str(process.ROOT),
        }
        postgres = stack.enter_context(running_postgres())
        homes = [
            stack.enter_context(
                running_home(name, folder, postgres, environment, {"cloud": "matrix", **OPTIONS})
            )
            for name in ("soak.localhost", "neighbour.localhost")
        ]
        account = Account(lambda: keystone.token(user), swift.account_url(user.project_id))
        yield Place(proxy, keystone_proxy, *homes, account)


#: Of the module, for each place in Swift.
OPTIONS = {
    "container": CONTAINER,
    "create_container": True,
    "connect_timeout": 2,
    "response_timeout": 5,
    "idle_timeout": 5,
    "segment_size": "1M",
}


@contextlib.contextmanager
def running_home(
    server_name: str,
    folder: Path,
    postgres: Postgres,
    environment: dict[str, str],
    options: Mapping[str, Any],
    *,
    store_synchronous: bool = False,
) -> Iterator[Home]:
    """Start a homeserver, and stop it at the end of the block. Blocking.

    :param folder: for a folder of its own.
    :param environment: of Synapse and of the script.
    :param options: of the module.
    :raises ServiceError: if it cannot start.
    """
    entry = {
        "module": "swift_provider.SwiftStorageProviderBackend",
        "store_local": True,
        "store_remote": True,
        "store_synchronous": store_synchronous,
        "config": dict(options),
    }
    synapse = Synapse(
        folder / server_name,
        database=postgres.create_database(server_name.partition(".")[0]),
        media_storage_providers=[entry],
        config={"enable_metrics": True, "server_name": server_name},
        env=environment,
    )
    _listen_for_metrics(synapse)
    _name_module_in_log_configuration(synapse)
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(mounted(synapse.media_store))
        stack.callback(synapse.stop)
        synapse.start()
        yield Home(synapse, disk, environment)


def _listen_for_metrics(synapse: Synapse) -> None:
    settings = yaml.safe_load(synapse.config_path.read_text())
    settings["listeners"][0]["resources"].append({"names": ["metrics"]})
    synapse.config_path.write_text(yaml.safe_dump(settings, sort_keys=False))


def _name_module_in_log_configuration(synapse: Synapse) -> None:
    """What operators do to hear more of it; with SIGHUP this once silenced the module."""
    path = synapse.folder / "log.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["loggers"]["swift_provider"] = {"level": "INFO"}
    path.write_text(yaml.safe_dump(settings))
