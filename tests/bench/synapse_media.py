"""Media inside a real Synapse: our module, the S3 sibling's, and Synapse's own ``file_system``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench import peers
from tests.bench.measure import CandidateError, run
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.services import CLOUD, Cluster
from tests.servers import process
from tests.servers.synapse import Synapse, running

S3, FLOOR = "S3 sibling", "file_system"
SMALL_BYTES, LARGE_BYTES = 5_000, 20_000_000
SMALL_FILES, LARGE_FILES = 100, 8
UPLOAD_BYTES = 100_000
SLOW_READERS, SLOW_RATE = 200, 100_000
UPLOADS = 500

_METRICS = [
    Metric("rate", "requests/s", more_is_better=True),
    Metric("mbs", "MB/s", more_is_better=True),
    Metric("per_1000", "CPU s per 1000"),
    Metric("per_gib", "CPU s per GiB"),
    Metric("probe_p99", "other request p99 ms"),
    Metric("late_p50", "reactor late p50 ms"),
    Metric("late_p99", "p99 ms"),
    Metric("late_max", "max ms"),
    Metric("grew", "memory grew MB"),
    Metric("first_byte", "first byte ms"),
    Metric("times_idle", "times idle"),
]


class House:
    """One Synapse with one provider, its media in the provider alone."""

    def __init__(self, name: str, synapse: Synapse, folder: Path) -> None:
        self.name = name
        self._synapse = synapse
        self._folder = folder
        self._token = synapse.register("alice")
        self._session = process.local_session()
        self.paths: dict[int, list[str]] = {}

    def fill(self) -> None:
        """Upload, take the local copies away, and look whether all comes back.

        :raises CandidateError: if it does not.
        """
        client = self._synapse.client(self._token)
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

    def measure(self, do: str, **plan: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """Let clients do something.

        :returns: what they saw, and what Synapse saw inside.
        """
        where = urlsplit(self._synapse.url)
        whole = {"do": do, "host": where.hostname, "port": where.port, "token": self._token}
        path = self._folder / "plan.json"
        path.write_text(json.dumps({**whole, **plan}))
        command = [sys.executable, "-m", "tests.bench.drivers.http_load", path]
        self._ask("begin")
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


def compare(cluster: Cluster, folder: Path, *, quick: bool, say: Say) -> Iterator[Comparison]:
    """:param folder: for three homeservers."""
    comparison = Comparison(
        "Inside Synapse",
        f"Media that are in the provider only, downloaded by c clients: {SMALL_BYTES // 1000} KB "
        f"and {LARGE_BYTES // 1_000_000} MB files, from a one-node Swift. CPU is Synapse's. "
        "“Other request” is one for /_matrix/client/versions meanwhile; “late” is a timer of 5 ms "
        f"inside Synapse. {SLOW_READERS} slow readers take {SLOW_RATE // 1000} KB/s each.",
        _METRICS,
        _TARGETS,
        digest=_DIGEST,
    )
    small, large, rounds = (400, 24, 2) if quick else (1200, 60, 3)
    with contextlib.ExitStack() as stack:
        houses: dict[str, House] = {}
        for name in _PROVIDERS:
            try:
                synapse = _synapse(name, cluster, folder / name.replace(" ", "-"))
            except peers.MissingPeerError as error:
                comparison.missing[name] = str(error)
                continue
            say(f"  starting Synapse with {name}, and filling it")
            stack.enter_context(running(synapse))
            house = House(name, synapse, synapse.folder)
            try:
                house.fill()
            except CandidateError as error:
                comparison.drop(name, str(error), ())
                continue
            houses[name] = house
        for clients in (1, 40, 200):
            share = 4 if clients == 1 else 1
            for label, size, count in (
                ("5 KB", SMALL_BYTES, small // share),
                ("20 MB", LARGE_BYTES, large // share),
            ):
                case = f"{label} c={clients}"
                runs = {n: _downloads(case, h, size, count, clients) for n, h in houses.items()}
                alternate(comparison, runs, rounds, say, case)
        seconds = 6 if quick else 12
        runs = {name: _slow(house, seconds) for name, house in houses.items()}
        alternate(comparison, runs, rounds, say, _SLOW)
        runs = {name: _first_byte(house) for name, house in houses.items()}
        alternate(comparison, runs, rounds, say, _UPLOADS)
    yield comparison


def _downloads(case: str, house: House, size: int, count: int, clients: int) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        seen, inside = house.measure(
            "downloads", paths=house.paths[size], size=size, count=count, clients=clients
        )
        probe = sorted(seen["probe"]) or [0.0]
        sample = {key: inside[key] for key in ("late_p50", "late_p99", "late_max", "grew")}
        sample["probe_p99"] = 1000 * probe[int(len(probe) * 0.99)]
        if size == SMALL_BYTES:
            sample["rate"] = count / seen["seconds"]
            sample["per_1000"] = inside["cpu"] / count * 1000
        else:
            sample["mbs"] = seen["bytes"] / 1e6 / seen["seconds"]
            sample["per_gib"] = inside["cpu"] / (seen["bytes"] / (1 << 30))
        return {case: sample}

    return once


def _slow(house: House, seconds: int) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        seen, inside = house.measure(
            "slow",
            paths=house.paths[LARGE_BYTES],
            clients=SLOW_READERS,
            rate=SLOW_RATE,
            seconds=seconds,
        )
        if seen["cut_off"]:
            raise CandidateError(f"{seen['cut_off']} slow readers were cut off")
        kept = ("grew", "late_p50", "late_p99", "late_max")
        return {_SLOW: {key: inside[key] for key in kept}}

    return once


def _first_byte(house: House) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        seen, _ = house.measure(
            "first_byte",
            paths=house.paths[SMALL_BYTES],
            count=40,
            uploads=UPLOADS,
            upload_size=UPLOAD_BYTES,
        )
        if not seen["busy"]:
            raise CandidateError("no file was asked for while uploads waited")
        idle, busy = (statistics.median(seen[key]) for key in ("idle", "busy"))
        return {_UPLOADS: {"first_byte": busy * 1000, "times_idle": busy / idle}}

    return once


def _synapse(name: str, cluster: Cluster, folder: Path) -> Synapse:
    """:raises MissingPeerError: if its provider cannot be had."""
    module, config = _PROVIDERS[name]
    python = peers.S3.python if name == S3 else None
    options: dict[str, Any] = {
        "bucket": {
            "bucket": "media-s3",
            "endpoint_url": cluster.swift.url,
            "region_name": "us-east-1",
            "access_key_id": cluster.swift.tempauth_user,
            "secret_access_key": cluster.swift.tempauth_key,
        },
        "container": {"cloud": CLOUD, "container": "media-ours", "create_container": True},
        "directory": {"directory": str(folder / "provider")},
    }
    if name == S3:
        cluster.bucket("media-s3")
    if name == FLOOR:
        (folder / "provider").mkdir(parents=True)
    provider = {
        "module": module,
        "store_local": True,
        "store_remote": True,
        "store_synchronous": True,
        "config": options[config],
    }
    return Synapse(
        folder,
        media_storage_providers=[provider],
        config={"modules": [{"module": "tests.bench.inside.Inside", "config": {}}]},
        env={"OS_CLIENT_CONFIG_FILE": str(cluster.clouds_yaml)},
        python=python,
    )


_PROVIDERS = {
    OURS: ("swift_provider.SwiftStorageProviderBackend", "container"),
    S3: ("s3_storage_provider.S3StorageProviderBackend", "bucket"),
    FLOOR: ("file_system", "directory"),
}

_SLOW = f"{SLOW_READERS} slow readers"
_UPLOADS = f"{UPLOADS} uploads wait"
_DIGEST = [
    ("5 KB c=40", "rate"),
    ("5 KB c=40", "per_1000"),
    ("20 MB c=1", "mbs"),
    ("20 MB c=40", "mbs"),
    ("20 MB c=40", "per_gib"),
    ("20 MB c=40", "probe_p99"),
    ("20 MB c=40", "grew"),
    (_SLOW, "grew"),
    (_SLOW, "late_max"),
    (_UPLOADS, "first_byte"),
]
_TARGETS = [
    Target("20 MB, c=40: MB/s, of the S3 sibling's", "20 MB c=40", "mbs", S3, at_least=2),
    Target("20 MB, c=40: CPU per GiB, of file_system's", "20 MB c=40", "per_gib", FLOOR, 1.0),
    Target("5 KB, c=40: CPU s per 1000", "5 KB c=40", "per_1000", at_most=2.2),
    Target(
        "20 MB, c=40: other request's p99, of the sibling's", "20 MB c=40", "probe_p99", S3, 0.5
    ),
    Target(f"{_SLOW}: memory grew by MB", _SLOW, "grew", at_most=20),
    Target(f"{_UPLOADS}: first byte, times idle", _UPLOADS, "times_idle", at_most=3),
]
