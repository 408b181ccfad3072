"""Media stores, runs of the script, and the objects that came of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import pytest_twisted
import swiftclient
import yaml
from keystoneauth1 import session
from keystoneauth1.identity import v3
from twisted.internet import reactor

from swift_provider.offload.cache import Cache
from swift_provider.offload.media_names import Media
from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore
from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.keystone import REGION, Credentials
from tests.servers.postgres import Postgres
from tests.servers.swift import Swift


@pytest_twisted.async_yield_fixture
async def proxy(swift: Swift) -> AsyncIterator[FaultProxy]:
    """Stands before Swift; a test's configuration has to name it."""
    started = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SynapseStore]:
    """A media store with a SQLite database."""
    made = SynapseStore(tmp_path)
    yield made
    made.close()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """A new cache."""
    with closing(Cache(str(tmp_path / "cache.db"))) as made:
        yield made


def rows_of(cache: Cache) -> dict[Media, bool]:
    """All media in a cache, and whether each is known to be deleted."""
    return dict(row for page in cache.pages(1) for row in page)


@pytest.fixture(params=["sqlite", "postgres"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SynapseStore]:
    """A media store with either database."""
    arguments = None
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        arguments = server.create_database("offload")
    made = SynapseStore(tmp_path, arguments)
    yield made
    made.close()


#: Runs the script as if it were two days later: what it uploaded is not young any more.
_LATER = """
import sys
from datetime import timedelta
from swift_provider.offload.jobs import prune
from swift_provider.offload.command.cli import main
now = prune.now
prune.now = lambda: now() + timedelta(days=2)
sys.exit(main(sys.argv[1:]))
"""


class Script:
    """Runs ``swift_media_upload`` in a folder of its own.

    :param folder: the working directory; ``homeserver.yaml`` is written into it.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        # The checkout's own package, whether it is installed or not.
        path = {"PYTHONPATH": str(process.ROOT)}
        self.environment = process.child_environment({**path, **(environment or {})})

    def configure(
        self,
        store: SynapseStore,
        *providers: dict[str, Any],
        server_name: str | None = "here.example",
        **provider: Any,
    ) -> None:
        """Write ``homeserver.yaml`` for a store.

        :param providers: the module's ``config`` of each entry, if there are several.
        :param server_name: ``None`` to leave it out.
        :param provider: the module's ``config``; no entry for it if empty.
        """
        options: dict[str, Any] = {
            "database": store.yaml_section,
            "media_store_path": str(store.base),
        }
        if server_name is not None:
            options["server_name"] = server_name
        entries = providers or ((provider,) if provider else ())
        if entries:
            module = "swift_provider.SwiftStorageProviderBackend"
            options["media_storage_providers"] = [
                {"module": module, "config": entry} for entry in entries
            ]
        (self.folder / "homeserver.yaml").write_text(yaml.safe_dump(options))

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        return [sys.executable, str(process.ROOT / "scripts" / "swift_media_upload"), *arguments]

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.run(self.command(*(str(one) for one in arguments)))

    def json(self, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
        """Run it with ``--json``.

        :param status: the exit status that it must have.
        :returns: the summary, and as ``told`` what it wrote to stderr.
        """
        ended = self(*arguments, "--json")
        assert ended.returncode == status, ended.stderr + ended.stdout
        summary: dict[str, Any] = json.loads(ended.stdout)
        summary["told"] = ended.stderr
        return summary

    def later(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end, with a clock that is two days ahead."""
        return self.run([sys.executable, "-c", _LATER, *arguments])

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run another command to its end, in the script's folder and environment."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Run it beside the test."""
        return self.popen(self.command(*(str(one) for one in arguments)))

    def popen(self, command: list[str]) -> subprocess.Popen[str]:
        """Run another command beside the test, in the script's folder and environment."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """The script, without a cloud."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Script(folder)


class Objects:
    """A container of the real Swift, through python-swiftclient."""

    def __init__(self, account: Credentials) -> None:
        self._connection = swiftclient.Connection(
            session=session.Session(v3.Password(**account.auth())),
            os_options={"region_name": REGION},
        )
        self.container = f"offload-{uuid4().hex[:12]}"
        self._connection.put_container(self.container)

    def names(self) -> set[str]:
        """As listed."""
        return {row["name"] for row in self._connection.get_container(self.container)[1]}

    def listing(self, prefix: str) -> bytes:
        """As Swift sends it."""
        return json.dumps(self._connection.get_container(self.container, prefix=prefix)[1]).encode()

    def segments(self) -> dict[str, bytes]:
        """Names and contents in the container that has this one's segments, in order."""
        container = f"{self.container}_segments"
        rows = self._connection.get_container(container, full_listing=True)[1]
        names = [row["name"] for row in rows]
        return {name: self._connection.get_object(container, name)[1] for name in names}

    def md5s(self) -> dict[str, str]:
        """Of each object, as listed."""
        rows = self._connection.get_container(self.container, full_listing=True)[1]
        return {row["name"]: row["hash"] for row in rows}

    def __getitem__(self, name: str) -> bytes:
        content: bytes = self._connection.get_object(self.container, name)[1]
        return content

    def __setitem__(self, name: str, content: bytes) -> None:
        self._connection.put_object(self.container, name, content)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._connection.delete_object(self.container, name)

    def delete_segment(self, number: int) -> None:
        """Delete one segment, and leave the manifest as it is."""
        name = list(self.segments())[number]
        self._connection.delete_object(f"{self.container}_segments", name)

    def make_segment_a_link(self, number: int) -> tuple[str, str]:
        """Put a link in the place of a segment.

        :returns: container and name of the target, which has the segment's content.
        """
        name, content = list(self.segments().items())[number]
        old = f"old-{self.container}"
        self.make(old)
        self._connection.put_object(old, "part", content)
        target = {"X-Symlink-Target": f"{old}/part"}
        self._connection.put_object(f"{self.container}_segments", name, b"", headers=target)
        return old, "part"

    def let_expire(self, name: str) -> None:
        """Have Swift delete an object, at a time that no test run reaches."""
        self._connection.post_object(self.container, name, {"X-Delete-At": "4102444800"})

    def headers(self, name: str) -> dict[str, str]:
        """Of a HEAD."""
        found: dict[str, str] = self._connection.head_object(self.container, name)
        return found

    def link(self, name: str, content: bytes) -> tuple[str, str]:
        """Make a link to an object of another container, which has the same name.

        :returns: container and name of the target.
        """
        old = f"old-{self.container}"
        self.make(old)
        self._connection.put_object(old, name, content)
        target = {"X-Symlink-Target": quote(f"{old}/{name}")}
        self._connection.put_object(self.container, name, b"", headers=target)
        return old, name

    def delete_elsewhere(self, container: str, name: str) -> None:
        """Delete an object of another container."""
        self._connection.delete_object(container, name)

    def keep_versions(self) -> None:
        """Have Swift keep each version of each object from now on."""
        self._connection.post_container(self.container, {"X-Versions-Enabled": "true"})

    def versions(self) -> list[str]:
        """The names of all versions of all objects, and of the marks of deleted ones."""
        rows = self._connection.get_container(self.container, query_string="versions=1")[1]
        return [row["name"] for row in rows]

    def make_dynamic(self, name: str, content: bytes) -> None:
        """Store a dynamic large object of one segment."""
        self[f"parts/{name}"] = content
        manifest = {"X-Object-Manifest": f"{self.container}/parts/{name}"}
        self._connection.put_object(self.container, name, b"", headers=manifest)

    def put_manifest(self, name: str, segments: list[str], **keys: str) -> None:
        """Join these segments under a name; the metadata of an object there stays.

        :param keys: more keys of each row of the manifest.
        """
        rows = [{"path": f"/{self.container}_segments/{one}", **keys} for one in segments]
        metadata = self.headers(name) if name in self.names() else {}
        kept = {key: metadata[key] for key in metadata if key.startswith("x-object-meta-")}
        self._connection.put_object(
            self.container,
            name,
            json.dumps(rows),
            headers=kept,
            query_string="multipart-manifest=put",
        )

    def put_segment(self, name: str, content: bytes) -> None:
        """Store an object in the container that has this one's segments."""
        container = f"{self.container}_segments"
        self._connection.put_object(container, name, content)

    def post_segment(self, name: str, headers: dict[str, str]) -> None:
        """Replace a segment's metadata."""
        self._connection.post_object(f"{self.container}_segments", name, headers)

    def post(self, name: str, headers: dict[str, str]) -> None:
        """Replace an object's metadata."""
        self._connection.post_object(self.container, name, headers)

    def make(self, container: str) -> None:
        """Make another container."""
        self._connection.put_container(container)

    def modified(self, name: str) -> str:
        """When it was stored."""
        stamp: str = self._connection.head_object(self.container, name)["x-timestamp"]
        return stamp


@pytest.fixture
def objects(swift: Swift, account: Credentials) -> Objects:
    """A new, empty container."""
    return Objects(account)


@pytest.fixture
def offload(
    script: Script, clouds_yaml: Callable[..., Path], objects: Objects, store: SynapseStore
) -> Script:
    """The script, configured for ``objects`` and ``store``."""
    script.environment["OS_CLIENT_CONFIG_FILE"] = str(clouds_yaml())
    script.configure(store, cloud="matrix", container=objects.container)
    return script


@pytest.fixture
def mirrors(
    offload: Script, store: SynapseStore, objects: Objects, account: Credentials
) -> Mirrors:
    """The script, configured for ``objects`` and a mirror of them."""
    return Mirrors(offload, store, objects, Objects(account))
