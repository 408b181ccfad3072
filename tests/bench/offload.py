"""Bulk offload of a media store to a real Swift: nothing there yet, everything, half of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from tests.bench import peers, store
from tests.bench.measure import Usage, run
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.services import CLOUD, Cluster, Container
from tests.offload.synapse_store import SynapseStore
from tests.servers import process

NOTHING, EVERYTHING, HALF = "nothing there", "everything there", "half there"
RCLONE, SWIFT, S3, SDK = "rclone", "swift upload", "s3_media_upload", "openstacksdk"
#: Compares with the listing's MD5s, where rclone by default asks about each object's time.
RCLONE_CHECKSUM = "rclone --checksum"
TRANSFERS = "40"

_METRICS = [
    Metric("wall", "wall s"),
    Metric("cpu", "client CPU s"),
    Metric("peak", "peak MB"),
]

#: Runs a candidate once, into that container.
Offload = Callable[[Container], Usage]


def compare(cluster: Cluster, folder: Path, *, quick: bool, say: Say) -> Comparison:
    """:param folder: for the media store."""
    files, rounds = (300, 2) if quick else (1300, 3)
    media = SynapseStore(folder)
    store.fill(media, files)
    wanted = store.md5s(media.base)
    size = sum((media.base / name).stat().st_size for name in wanted)
    comparison = Comparison(
        "Offload to a real Swift",
        f"A media store of {files} files, {size / 1e6:.0f} MB, to a one-node Swift, which is the "
        f"limit for most; {TRANSFERS} files at a time where there is a choice. The process's whole "
        "life is measured.",
        _METRICS,
        _TARGETS,
        digest=[(case, key) for case in (NOTHING, EVERYTHING, HALF) for key in ("wall", "cpu")],
    )
    candidates: dict[str, Run] = {}
    for name, make in _CANDIDATES.items():
        try:
            offload, is_s3 = make(cluster, media, folder)
        except peers.MissingPeerError as error:
            comparison.missing[name] = str(error)
            continue
        candidates[name] = _sequence(cluster, name, offload, is_s3, wanted)
    alternate(comparison, candidates, rounds, say)
    media.close()
    return comparison


def _sequence(
    cluster: Cluster, name: str, offload: Offload, is_s3: bool, wanted: Mapping[str, str]
) -> Run:
    """The three cases in one container, which each round has anew."""

    def sequence(turn: int) -> dict[str, dict[str, float]]:
        label = re.sub("[^a-z0-9]+", "-", f"{name} {turn}")
        container = cluster.bucket(label) if is_s3 else cluster.container(label)
        samples = {}
        for case in (NOTHING, EVERYTHING, HALF):
            if case == HALF:
                container.delete(sorted(wanted)[::2])
            samples[case] = offload(container).sample()
            container.check(wanted)
        return samples

    return sequence


def _ours(cluster: Cluster, media: SynapseStore, folder: Path) -> tuple[Offload, bool]:
    work = folder / "ours"
    work.mkdir()
    (work / "homeserver.yaml").write_text(yaml.safe_dump({"database": media.yaml_section}))
    script = [sys.executable, process.ROOT / "scripts" / "swift_media_upload", "--no-progress"]
    env = {"OS_CLIENT_CONFIG_FILE": str(cluster.clouds_yaml), "PYTHONPATH": str(process.ROOT)}
    run([*script, "update", media.base, "1d"], work, env)

    def offload(container: Container) -> Usage:
        return run([*script, "upload", media.base, container.name, "--cloud", CLOUD], work, env)

    return offload, False


def _rclone(
    cluster: Cluster, media: SynapseStore, folder: Path, *options: str
) -> tuple[Offload, bool]:
    rclone = peers.rclone()
    env = {**cluster.account.environment(), "RCLONE_CONFIG": "", "RCLONE_SWIFT_ENV_AUTH": "true"}

    def offload(container: Container) -> Usage:
        parallel = ["--transfers", TRANSFERS, "--checkers", TRANSFERS]
        where = f":swift:{container.name}"
        return run([rclone, "copy", media.base, where, *parallel, *options], folder, env)

    return offload, False


def _rclone_checksum(cluster: Cluster, media: SynapseStore, folder: Path) -> tuple[Offload, bool]:
    return _rclone(cluster, media, folder, "--checksum")


def _swift(cluster: Cluster, media: SynapseStore, folder: Path) -> tuple[Offload, bool]:
    swift = peers.SWIFTCLIENT.script("swift")
    env = cluster.account.environment()

    def offload(container: Container) -> Usage:
        options = ["--quiet", "upload", "--skip-identical", "--object-threads", TRANSFERS]
        roots = sorted(path.name for path in media.base.iterdir())
        return run([*swift, *options, container.name, *roots], media.base, env)

    return offload, False


def _s3(cluster: Cluster, media: SynapseStore, folder: Path) -> tuple[Offload, bool]:
    work = folder / "s3"
    work.mkdir()
    database = {"sqlite": {"database": str(media.database_path)}}
    (work / "database.yaml").write_text(yaml.safe_dump(database))
    script = [*peers.S3.script("s3_media_upload"), "--no-progress"]
    run([*script, "update", media.base, "1d"], work)
    env = cluster.s3_environment()

    def offload(container: Container) -> Usage:
        where = ["--endpoint-url", cluster.swift.url]
        return run([*script, "upload", media.base, container.name, *where], work, env)

    return offload, True


def _sdk(cluster: Cluster, media: SynapseStore, folder: Path) -> tuple[Offload, bool]:
    command = [peers.OPENSTACKSDK.python, "-m", "tests.bench.drivers.sdk_offload"]
    env = {**cluster.account.environment(), "PYTHONPATH": str(process.ROOT)}

    def offload(container: Container) -> Usage:
        return run([*command, media.base, container.name], folder, env)

    return offload, False


_CANDIDATES = {
    OURS: _ours,
    RCLONE: _rclone,
    RCLONE_CHECKSUM: _rclone_checksum,
    SWIFT: _swift,
    S3: _s3,
    SDK: _sdk,
}

_TARGETS = [
    Target("nothing there: wall time, of rclone's", NOTHING, "wall", RCLONE, at_most=1.0),
    Target("nothing there: wall time, of s3_media_upload's", NOTHING, "wall", S3, at_most=1 / 3),
    Target("everything there: wall time, of s3_media_upload's", EVERYTHING, "wall", S3, 1 / 8),
    Target("everything there: wall time, of rclone's", EVERYTHING, "wall", RCLONE, at_most=1.0),
    Target(
        "everything there: wall time, of rclone --checksum's",
        EVERYTHING,
        "wall",
        RCLONE_CHECKSUM,
        at_most=1.0,
    ),
]
