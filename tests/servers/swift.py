"""A one-node Swift: proxy, account, container and object server on loopback ports.

Signs in by TempAuth, and by Keystone as well if one is given. Accounts of the
two are apart: Keystone's begin with ``AUTH_``, TempAuth's with ``TEMP_``. Its
configuration files are written by ``swift_config``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import process
from tests.servers.keystone import REGION, Keystone
from tests.servers.swift_account import Account, tempauth_token
from tests.servers.swift_config import (
    POLICIES,
    ProxyOptions,
    write_server_conf,
    write_swift_conf,
)

DEVICE = "d1"

#: Swift's own default: 5 GiB and 2 bytes.
MAX_FILE_SIZE = 5 * 1024**3 + 2

KINDS = ("account", "container", "object", "proxy")


@dataclass(eq=False)
class Swift:
    """A running Swift; made by :func:`running_swift`."""

    #: The proxy, as ``http://127.0.0.1:8080``.
    url: str
    #: Where it stands in Keystone's catalogue.
    region: str
    #: Configuration, rings, logs; the objects are below ``devices``.
    folder: Path
    #: The port of each kind of server.
    ports: dict[str, int] = field(repr=False)
    #: As ``account:user``.
    tempauth_user: str
    tempauth_key: str = field(repr=False)
    _servers: list[process.Process] = field(default_factory=list, init=False, repr=False)

    @property
    def tempauth_url(self) -> str:
        return f"{self.url}/auth/v1.0"

    @property
    def tempauth_account(self) -> Account:
        """TempAuth's account, past the code under test."""
        name = self.tempauth_user.partition(":")[0]
        how = (self.tempauth_url, self.tempauth_user, self.tempauth_key)
        return Account(lambda: tempauth_token(*how), f"{self.url}/v1/TEMP_{name}")

    def tempauth_options(self, url: str | None = None) -> dict[str, Any]:
        """The module's options for TempAuth's sign-in.

        :param url: in place of ours, such as that of a fault proxy in front of this Swift.
        """
        auth = {"username": self.tempauth_user, "password": self.tempauth_key}
        return {
            "auth_type": "v1password",
            "auth": {"auth_url": f"{url or self.url}/auth/v1.0", **auth},
        }

    def account_url(self, project_id: str) -> str:
        """The storage URL of a project of Keystone."""
        return f"{self.url}/v1/AUTH_{project_id}"

    @property
    def pids(self) -> list[int]:
        """Of the four servers, as far as they run."""
        return [server.pid for server in self._servers if server.running]

    def start(self) -> None:
        """Start the four servers, with what they stored before, and wait until they answer.

        They end with the thread that calls this.

        :raises ServiceError: if one of them cannot start.
        """
        self._servers += [self._begun(kind) for kind in KINDS]
        for kind, server in zip(KINDS, self._servers, strict=True):
            server.wait_for_port(self.ports[kind])

    def _begun(self, kind: str) -> process.Process:
        command = [process.PYTHON, "-m", "tests.servers.swift_server", kind, self.folder]
        environment = {"PYTHONPATH": str(process.ROOT)}
        return process.Process(f"swift-{kind}", command, self.folder, env=environment)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the four servers; harmless if they have ended already."""
        # The proxy first: it is what clients see.
        for server in reversed(self._servers):
            server.stop(first=how)
        self._servers.clear()

    def kill(self) -> None:
        """End the four servers with SIGKILL; TempAuth's tokens are forgotten."""
        self.stop(signal.SIGKILL)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Killed, until the end of the block."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def without(self, kind: str) -> Iterator[None]:
        """Without the server of one kind, until the end of the block.

        The proxy has to forget what it knows, and later that a server has failed.
        """
        self._servers[KINDS.index(kind)].stop()
        self._start_again("proxy")
        try:
            yield
        finally:
            self._start_again(kind)
            self._start_again("proxy")

    def _start_again(self, kind: str) -> None:
        number = KINDS.index(kind)
        self._servers[number].stop()
        self._servers[number] = self._begun(kind)
        self._servers[number].wait_for_port(self.ports[kind])


@contextlib.contextmanager
def running_swift(
    folder: Path,
    keystone: Keystone | None = None,
    *,
    region: str = REGION,
    max_file_size: int = MAX_FILE_SIZE,
    token_cache_seconds: int = 300,
    s3_api: bool = False,
    tempauth: tuple[str, str] = ("test:tester", "testing"),
) -> Iterator[Swift]:
    """Start the four servers, and stop them at the end of the block.

    :param keystone: signs users in, and gets an endpoint in its catalogue.
    :param max_file_size: larger objects are refused (413), in bytes.
    :param token_cache_seconds: how long a token is believed without asking
        Keystone again; -1 means never.
    :param s3_api: speak S3 as well, with TempAuth's users: access key
        ``tempauth_user``, secret ``tempauth_key``.
    :param tempauth: the user, as ``account:user``, and the key.
    :raises ServiceError: if one of them cannot start.
    """
    process.require_package("swift")
    process.require_package("keystonemiddleware")
    devices = folder / "devices" / DEVICE
    devices.mkdir(parents=True)
    _require_xattrs(devices)
    ports = {kind: process.free_port() for kind in KINDS}
    url = f"http://{process.LOOPBACK}:{ports['proxy']}"
    swift = Swift(url, region, folder, ports, *tempauth)
    service_auth = None if keystone is None else _register(keystone, url, region)
    options = ProxyOptions(*tempauth, service_auth, token_cache_seconds, s3_api)
    write_swift_conf(folder, max_file_size)
    for kind, port in ports.items():
        write_server_conf(folder, kind, port, options)
    _make_rings(folder, ports)
    try:
        swift.start()
        yield swift
    finally:
        swift.stop()


def _require_xattrs(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.swift.metadata", b"")
    except OSError as error:
        raise process.ServiceError(
            f"Swift keeps metadata in extended attributes, and the filesystem of {folder} has "
            "none; choose a folder on ext4, xfs or btrfs with: export TMPDIR=/path/to/folder"
        ) from error


def _make_rings(folder: Path, ports: dict[str, int]) -> None:
    rings = {"account": "account", "container": "container", "object": "object"}
    rings.update({f"object-{index}": "object" for index in range(1, len(POLICIES))})
    command = [process.PYTHON, "-m", "tests.servers.swift_rings", folder, DEVICE]
    command += [f"{ring}={ports[kind]}" for ring, kind in rings.items()]
    process.run("swift-rings", command, folder, env={"PYTHONPATH": str(process.ROOT)})


def _register(keystone: Keystone, url: str, region: str) -> dict[str, str]:
    """Put Swift into the catalogue, and make the user as which it checks tokens."""
    for interface in ("public", "internal"):
        keystone.create_endpoint("object-store", f"{url}/v1/AUTH_%(project_id)s", region, interface)
    name = f"swift-service-{secrets.token_hex(4)}"
    return keystone.create_account(name, name, secrets.token_hex(16), role="admin").auth()
