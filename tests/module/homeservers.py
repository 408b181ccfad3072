"""Homeservers that federate with each other, and what the tests call on them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from twisted.internet.threads import deferToThread

from tests.module import probe
from tests.servers import process
from tests.servers.synapse import Synapse
from tests.servers.tls import Authority

#: Must never be in Synapse's log: complaints about log contexts, lines of this package
#: without a log context, unhandled failures.
FORBIDDEN = re.compile(
    r"log(ging)? ?context|swift_provider\S* \w+ sentinel|Unhandled", re.IGNORECASE
)

#: The answer of a Swift that is down. The module does not wait an hour: it fails at once.
OUTAGE: dict[str, Any] = {"status": 503, "headers": {"Retry-After": "3600"}, "times": None}


class Homeserver(Synapse):
    """A Synapse with a TLS port for other servers, metrics, and the probe.

    :param authority: signs the TLS port's certificate.
    """

    def __init__(self, folder: Path, authority: Authority, **options: Any) -> None:
        self.federation_port = process.free_port()
        self.server_name = f"{process.LOOPBACK}:{self.federation_port}"
        self._authority = authority
        super().__init__(folder, log_contexts=True, **options)
        self._read = 0
        self.user: Any = None
        self.admin_token = ""

    def _settings(self, database: Any) -> dict[str, Any]:
        settings = super()._settings(database)
        settings["listeners"][0]["resources"] = [{"names": ["client", "metrics"]}]
        settings["listeners"].append(
            {
                "port": self.federation_port,
                "type": "http",
                "tls": True,
                "bind_addresses": [process.LOOPBACK],
                "resources": [{"names": ["federation"]}],
            }
        )
        return {
            **settings,
            "server_name": self.server_name,
            "tls_certificate_path": str(self._authority.server_cert),
            "tls_private_key_path": str(self._authority.server_key),
            "federation_verify_certificates": False,
            "ip_range_blacklist": [],
            "enable_metrics": True,
            "modules": [{"module": "tests.module.probe.Probe", "config": {}}],
        }

    def start(self) -> None:
        super().start()
        if self.user is None:
            self.admin_token = self.register("admin", admin=True)
            self.user = self.client(self.admin_token)

    def wait_for_containers(self, count: int) -> None:
        """Wait until that many providers have said that their container is ready. Blocking."""
        deadline = time.monotonic() + 40
        while (
            len(
                re.findall(
                    r"The Swift container \S+( of \S+)? at \S+ is ready", self.log.read_text()
                )
            )
            < count
        ):
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(process.POLL_SECONDS)

    def reload_logging(self) -> None:
        """Send SIGHUP, and wait until Synapse has read its log configuration again. Blocking."""
        done = "Reloaded log config"
        before = self.log.read_text().count(done)
        os.kill(self.pid, signal.SIGHUP)
        deadline = time.monotonic() + 20
        while self.log.read_text().count(done) == before:
            assert time.monotonic() < deadline, "Synapse did not reload its log configuration"
            time.sleep(process.POLL_SECONDS)

    def lose_disk(self) -> None:
        """Empty the media store."""
        shutil.rmtree(self.media_store)
        self.media_store.mkdir()

    def download_status(self, mxc: str) -> int:
        """The HTTP status of a download."""
        try:
            self.user.download(mxc)
        except requests.HTTPError as error:
            return error.response.status_code
        return 200

    def make_public(self, mxc: str) -> None:
        """Let the older, unauthenticated endpoints serve a file, as one from before them."""
        query = "UPDATE local_media_repository SET authenticated = 0 WHERE media_id = ?"
        database = sqlite3.connect(self.folder / "homeserver.db")
        with contextlib.closing(database), database:
            database.execute(query, (mxc.rsplit("/", 1)[1],))

    # What Synapse says

    def new_log(self) -> list[str]:
        """The log's lines since the last call."""
        text = self.log.read_text()
        new, self._read = text[self._read :], len(text)
        return new.splitlines()

    def metrics(self) -> dict[str, float]:
        """The samples that begin with ``synapse_swift``; names with labels are the keys."""
        text = self._session.get(f"{self.url}/_synapse/metrics", timeout=30).text
        lines = [line for line in text.splitlines() if line.startswith("synapse_swift")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    # What only the tests ask

    def probe(
        self, call: str, container: str, path: str, url_cache: bool = False
    ) -> requests.Response:
        """Call a provider; see :mod:`tests.module.probe`."""
        asked = {"call": call, "container": container, "path": path, "url_cache": url_cache}
        return self._session.post(self.url + probe.PATH, json=asked, timeout=120)


def screen_of(folder: Path, entry: dict[str, Any], **env: str) -> str:
    """What a Synapse that does not start has written to the terminal."""
    homeserver = Synapse(folder, media_storage_providers=[entry], env=env)
    with pytest.raises(process.ServiceError):
        homeserver.start()
    return homeserver.log.read_text()


async def there(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a blocking function in a thread; the reactor goes on."""
    return await deferToThread(function, *arguments, **options)


def media_path(mxc: str) -> str:
    """Where the media of an ``mxc://`` URI are, on their own server's disk and in Swift."""
    name = mxc.rsplit("/", 1)[1]
    return f"local_content/{name[:2]}/{name[2:4]}/{name[4:]}"
