"""The homeservers that :mod:`tests.bench.synapse_media` compares: one provider each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench import peers
from tests.bench.front import running_front
from tests.bench.measure import CandidateError, run
from tests.bench.results import OURS, Comparison, Say
from tests.bench.services import CLOUD, PASSWORD, Cluster
from tests.servers import process
from tests.servers.synapse import Synapse, running

S3, FLOOR = "S3 sibling", "file_system"
SMALL_BYTES, LARGE_BYTES = 5_000, 20_000_000
SMALL_FILES, LARGE_FILES = 100, 8
#: Swift behind nginx with TLS, in Keystone's catalogue.
SECURE_REGION = "Secure"


@dataclass(frozen=True)
class Role:
    """A provider, and how it is configured.

    :ivar candidate: what it is called in the tables.
    :ivar secure: it reaches Swift over TLS.
    :ivar options: of its ``config``.
    """

    candidate: str
    secure: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


HOT = Role(OURS)
COLD = Role(OURS, options={"memory_cache": 0})
REDIRECT = Role(OURS, options={"redirect": {"above": "256K", "key": PASSWORD, "window": "6h"}})
SIBLING = Role(S3)
DISK = Role(FLOOR)


def secure(role: Role) -> Role:
    """The same over TLS; a disk has none."""
    return role if role is DISK else Role(role.candidate, True, role.options)


class House:
    """One Synapse with one provider, its media in the provider alone."""

    def __init__(self, role: Role, synapse: Synapse) -> None:
        self.role = role
        self._synapse = synapse
        self._folder = synapse.folder
        self._token = synapse.register("alice")
        self._session = process.local_session()
        self.paths: dict[int, list[str]] = {}

    def fill(self, authority: Path | None) -> None:
        """Upload, take the local copies away, and look whether all comes back.

        :param authority: PEM file to trust in front of Swift.
        :raises CandidateError: if it does not.
        """
        client = self._synapse.client(self._token, authority)
        random_ = random.Random(3)
        sums: dict[str, str] = {}
        for size, count in ((SMALL_BYTES, SMALL_FILES), (LARGE_BYTES, LARGE_FILES)):
            for _ in range(count):
                content = random_.randbytes(size)
                mxc = client.upload(content)
                sums[mxc] = hashlib.md5(content).hexdigest()
                path = f"/_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')}"
                self.paths.setdefault(size, []).append(path)
        shutil.rmtree(self._synapse.media_store / "local_content")
        for mxc, md5 in sums.items():
            if hashlib.md5(client.download(mxc)).hexdigest() != md5:
                raise CandidateError(f"{mxc} came back with other bytes")

    def measure(
        self, do: str, *, watch: bool = True, **plan: Any
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Let clients do something.

        :param watch: let a timer run inside Synapse, and another client ask for something
            trivial where ``do`` has one. Both use processor time of Synapse.
        :returns: what the clients saw, and what Synapse saw inside.
        """
        where = urlsplit(self._synapse.url)
        whole = {"do": do, "host": where.hostname, "port": where.port, "token": self._token}
        path = self._folder / "plan.json"
        path.write_text(json.dumps({**whole, "probe": watch, **plan}))
        command = [sys.executable, "-m", "tests.bench.drivers.http_load", path]
        self._ask("watch" if watch else "begin")
        try:
            used = run(command, self._folder, {"PYTHONPATH": str(process.ROOT)})
        finally:
            inside = self._ask("end")
        return json.loads(used.output), inside

    def _ask(self, what: str) -> dict[str, float]:
        answer = self._session.get(f"{self._synapse.url}/_bench/{what}", timeout=60)
        answer.raise_for_status()
        told: dict[str, float] = answer.json()
        return told


@contextlib.contextmanager
def running_houses(
    roles: Sequence[Role], cluster: Cluster, folder: Path, comparison: Comparison, say: Say
) -> Iterator[list[House]]:
    """Start a homeserver for each role and fill it; some may be missing at the end.

    :param folder: for the homeservers.
    :param comparison: is told which candidates are missing, and why.
    """
    with contextlib.ExitStack() as stack:
        front: tuple[str, Path] | None = None
        try:
            front = stack.enter_context(_front(cluster, folder))
        except peers.MissingPeerError as error:
            comparison.missing["TLS"] = str(error)
        houses = []
        for number, role in enumerate(roles):
            if role.secure and front is None:
                continue
            try:
                synapse = _synapse(role, cluster, front, folder / f"house-{number}")
            except peers.MissingPeerError as error:
                comparison.missing[role.candidate] = str(error)
                continue
            say(f"  starting and filling homeserver {number + 1} of {len(roles)}")
            stack.enter_context(running(synapse))
            house = House(role, synapse)
            try:
                house.fill(front[1] if front is not None else None)
            except CandidateError as error:
                comparison.drop(role.candidate, str(error), ())
                continue
            houses.append(house)
        yield houses


@contextlib.contextmanager
def _front(cluster: Cluster, folder: Path) -> Iterator[tuple[str, Path]]:
    place = folder / "front"
    place.mkdir(parents=True)
    with running_front(cluster.swift.url, place) as (url, authority):
        endpoint = f"{url}/v1/AUTH_%(project_id)s"
        cluster.keystone.create_endpoint("object-store", endpoint, SECURE_REGION)
        yield url, authority


def _synapse(role: Role, cluster: Cluster, front: tuple[str, Path] | None, folder: Path) -> Synapse:
    """:raises MissingPeerError: if its provider cannot be had."""
    folder.mkdir(parents=True)
    module, make_options = _PROVIDERS[role.candidate]
    url, authority = front if role.secure and front is not None else (cluster.swift.url, None)
    region = SECURE_REGION if role.secure else cluster.swift.region
    clouds = cluster.account.write_clouds_yaml(
        folder / "clouds.yaml",
        cloud=CLOUD,
        region=region,
        **({} if authority is None else {"cacert": str(authority)}),
    )
    provider = {
        "module": module,
        "store_local": True,
        "store_remote": True,
        "store_synchronous": True,
        "config": {**make_options(cluster, url, folder), **_options(role, url)},
    }
    environment = {"OS_CLIENT_CONFIG_FILE": str(clouds)}
    if authority is not None:
        environment["AWS_CA_BUNDLE"] = str(authority)
    return Synapse(
        folder,
        media_storage_providers=[provider],
        config={"modules": [{"module": "tests.bench.inside.Inside", "config": {}}]},
        env=environment,
        python=peers.S3.python if role.candidate == S3 else None,
    )


def _options(role: Role, url: str) -> dict[str, Any]:
    """Of the provider. ``base_url`` lets it send clients to this machine."""
    options = dict(role.options)
    if "redirect" in options:
        options["redirect"] = {**options["redirect"], "base_url": url}
    return options


def _container(cluster: Cluster, url: str, folder: Path) -> dict[str, Any]:
    name = f"media-{folder.name}"
    key = {"X-Container-Meta-Temp-URL-Key": PASSWORD}
    cluster.container(name).set_headers(key)
    return {"cloud": CLOUD, "container": name}


def _bucket(cluster: Cluster, url: str, folder: Path) -> dict[str, Any]:
    bucket = f"media-{folder.name}"
    cluster.bucket(bucket)
    return {
        "bucket": bucket,
        "endpoint_url": url,
        "region_name": "us-east-1",
        "access_key_id": cluster.swift.tempauth_user,
        "secret_access_key": cluster.swift.tempauth_key,
    }


def _directory(cluster: Cluster, url: str, folder: Path) -> dict[str, Any]:
    (folder / "provider").mkdir()
    return {"directory": str(folder / "provider")}


_PROVIDERS = {
    OURS: ("swift_provider.SwiftStorageProviderBackend", _container),
    S3: ("s3_storage_provider.S3StorageProviderBackend", _bucket),
    FLOOR: ("file_system", _directory),
}
