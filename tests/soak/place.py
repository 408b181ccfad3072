"""Where the soak happens: Keystone, Swift, PostgreSQL, a bad network, and Synapse in it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.keystone import running_keystone
from tests.servers.postgres import running_postgres
from tests.servers.swift import Swift, running_swift
from tests.servers.synapse import Synapse

CONTAINER = "soak"
PASSWORD = "only-on-loopback"
#: Swift by way of the fault proxy.
REGION = "BadNetwork"
#: As short as clouds have it. With less, Swift's own sign-in, which renews its token two
#: minutes before the end, would ask Keystone for another one all the time.
TOKEN_SECONDS = 300
SCRIPT_TIMEOUT_SECONDS = 600
IDLE_SECONDS = 30

_TOLD = (
    "synapse_swift_errors_total",
    "synapse_swift_retries_total",
    "synapse_swift_sign_ins_total",
)
_METRIC = re.compile(r"^(?P<name>[a-zA-Z_:]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.M)


@dataclass
class Place:
    """Everything that runs.

    :ivar proxy: between Synapse, or the script, and Swift.
    :ivar keystone_proxy: between them and Keystone.
    """

    folder: Path
    proxy: FaultProxy
    keystone_proxy: FaultProxy
    swift: Swift
    synapse: Synapse
    environment: dict[str, str]
    project_id: str

    def script(self, *arguments: str, until: float | None = None) -> tuple[int | None, str]:
        """Run ``swift_media_upload``. Blocking.

        :param until: when it is asked to stop, as of :func:`time.monotonic`.
        :returns: its exit status, ``None`` if it was stopped before it could say one;
            and what it wrote.
        """
        work = self.folder / "script"
        work.mkdir(exist_ok=True)
        config = ("--homeserver-config-path", str(self.synapse.config_path))
        path = str(process.ROOT / "scripts" / "swift_media_upload")
        child = subprocess.Popen(
            [sys.executable, path, "--no-progress", *arguments, *config],
            cwd=work,
            env=process.child_environment(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        asked_to_stop = False
        with child:
            try:
                left = None if until is None else max(1.0, until - time.monotonic())
                output, _ = child.communicate(timeout=left or SCRIPT_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                child.terminate()
                asked_to_stop = True
                output, _ = child.communicate(timeout=SCRIPT_TIMEOUT_SECONDS)
            except BaseException:
                child.kill()
                raise
        # While it starts, or after its last word, a signal ends it as any program.
        outside_its_work = asked_to_stop and child.returncode == -signal.SIGTERM
        return None if outside_its_work else child.returncode, output

    def restart(self, *, store_local: bool) -> None:
        """Restart Synapse. Blocking.

        :param store_local: whether it stores in Swift what its users upload, or
            leaves that to the script.
        """
        settings = yaml.safe_load(self.synapse.config_path.read_text())
        settings["media_storage_providers"][0]["store_local"] = store_local
        self.synapse.config_path.write_text(yaml.safe_dump(settings, sort_keys=False))
        self.synapse.restart()

    def proxy_idle(self) -> None:
        """Wait until nothing is in flight between Synapse and Swift. Blocking."""
        deadline = time.monotonic() + IDLE_SECONDS
        while self.proxy.exchanges_open and time.monotonic() < deadline:
            time.sleep(0.1)

    def metrics(self) -> dict[str, float]:
        """Synapse's own metrics, those of the same name added up. Blocking."""
        with process.local_session() as http:
            answer = http.get(f"{self.synapse.url}/_synapse/metrics", timeout=30)
        answer.raise_for_status()
        found: dict[str, float] = {}
        for match in _METRIC.finditer(answer.text):
            found[match["name"]] = found.get(match["name"], 0.0) + float(match["value"])
        return found

    def told_by_module(self) -> dict[str, float]:
        """What the module counted in this Synapse process: failures, tries, sign-ins."""
        with process.local_session() as http:
            text = http.get(f"{self.synapse.url}/_synapse/metrics", timeout=30).text
        return {
            f"{match['name']}: {what[1]}": float(match["value"])
            for match in _METRIC.finditer(text)
            if match["name"] in _TOLD
            for what in [re.search('(?:error|result)="([^"]*)"', match["labels"] or "")]
            if what
        }


@contextlib.contextmanager
def everything_running(reactor, proxy_ready) -> Iterator[Place]:
    """Start all servers; at the end of the block they and their files are gone. Blocking.

    :param proxy_ready: called with a new proxy; returns when it listens.
    :raises ServiceError: if one cannot start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swift-soak-")))
        keystone = stack.enter_context(
            running_keystone(folder / "keystone", token_seconds=TOKEN_SECONDS)
        )
        account = keystone.create_account("matrix", "synapse", PASSWORD)
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
        auth = {**account.auth(), "auth_url": keystone_proxy.url_for(keystone.url)}
        clouds = account.write_clouds_yaml(folder / "clouds.yaml", region=REGION, auth=auth)
        environment = {
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "PYTHONPATH": str(process.ROOT),
        }
        postgres = stack.enter_context(running_postgres())
        synapse = Synapse(
            folder / "synapse",
            database=postgres.create_database("synapse"),
            media_storage_providers=[_PROVIDER],
            config={"enable_metrics": True},
            env=environment,
        )
        _listen_for_metrics(synapse)
        stack.callback(synapse.stop)
        synapse.start()
        yield Place(folder, proxy, keystone_proxy, swift, synapse, environment, account.project_id)


_PROVIDER = {
    "module": "swift_provider.SwiftStorageProviderBackend",
    "store_local": True,
    "store_remote": True,
    "store_synchronous": False,
    "config": {
        "cloud": "matrix",
        "container": CONTAINER,
        "create_container": True,
        "connect_timeout": 2,
        "response_timeout": 5,
        "idle_timeout": 5,
    },
}


def _listen_for_metrics(synapse: Synapse) -> None:
    settings = yaml.safe_load(synapse.config_path.read_text())
    settings["listeners"][0]["resources"].append({"names": ["metrics"]})
    synapse.config_path.write_text(yaml.safe_dump(settings, sort_keys=False))
