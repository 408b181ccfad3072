"""``sync``: what is copied between the places of an entry, and what is left as it is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from swift_provider.client.answers import ObjectInfo
from swift_provider.config import MIB
from swift_provider.offload.jobs.sync_found import same_content
from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Answer, Stall
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

PATHS = [f"local_content/aa/bb/file{number:03}" for number in range(30)]
THUMBNAIL = "remote_thumbnail/example.org/aa/bb/file/32-32-image-png-crop"


@dataclass
class Mirrors:
    """An entry with two places, ``here`` and ``there``."""

    script: Script
    store: SynapseStore
    here: Objects
    there: Objects

    def configure(self, *, there: dict[str, Any] | None = None, **here: Any) -> None:
        mirror = {
            "cloud": "matrix",
            "container": self.there.container,
            "name": "there",
            **(there or {}),
        }
        own = {"cloud": "matrix", "container": self.here.container, "name": "here", **here}
        self.script.configure(self.store, **{**own, "mirrors": [mirror]})

    def sync(self, *options: str, status: int = 0) -> dict[str, Any]:
        return self.script.json("sync", *options, status=status)


@pytest.fixture
def mirrors(
    script: Script,
    clouds_yaml: Callable[..., Path],
    store: SynapseStore,
    swift: Swift,
    account: Credentials,
) -> Mirrors:
    script.environment["OS_CLIENT_CONFIG_FILE"] = str(clouds_yaml())
    made = Mirrors(script, store, Objects(account), Objects(account))
    made.configure()
    return made


def test_each_gets_what_the_other_has(mirrors: Mirrors) -> None:
    """Media only, thumbnails too. A second run finds nothing to do, and asks for no object."""
    here, there = mirrors.here, mirrors.there
    for number, path in enumerate(PATHS[:10]):
        (here if number % 2 else there)[path] = path.encode()
    here[THUMBNAIL] = there["local_content/aa/bb/both"] = here["local_content/aa/bb/both"] = b"x"
    here["local_content/notes.txt"] = here["other"] = b"ours"
    dry = mirrors.sync("--dry-run")
    assert dry["copied"] == {"here": 5, "there": 6}
    assert not there.names() & {THUMBNAIL, PATHS[1]}
    summary = mirrors.sync()
    size = sum(len(path) for path in PATHS[:10:2])
    assert (summary["objects"], summary["already_there"]) == (12, 1)
    assert summary["copied"] == {"here": 5, "there": 6}
    assert summary["copied_bytes"] == {"here": size, "there": size + 1}
    assert summary["not_named_like_media"] == 1
    assert there.names() == here.names() - {"local_content/notes.txt", "other"}
    assert all(there[path] == here[path] == path.encode() for path in PATHS[:10])
    again = mirrors.sync()
    assert (again["objects"], again["already_there"]) == (12, 12)
    assert again["copied"] == {"here": 0, "there": 0}


def test_the_summary(mirrors: Mirrors) -> None:
    """As a person reads it."""
    mirrors.here[PATHS[0]] = b"content"
    ended = mirrors.script("sync", "--dry-run")
    lines = ended.stdout.splitlines()
    assert lines[:4] == [
        "Looked at 1 objects",
        "Already there: 0",
        "Would have copied to here: 0 (0 bytes)",
        "Would have copied to there: 1 (7 bytes)",
    ]
    assert ended.returncode == 0
    assert "Copied to there: 1 (7 bytes)" in mirrors.script("sync").stdout


@pytest.mark.parametrize(
    ("options", "to_here", "to_there"),
    [
        (["--from", "here"], False, True),
        (["--to", "here"], True, False),
        (["--from", "there", "--to", "here"], True, False),
    ],
)
def test_one_direction(mirrors: Mirrors, options: list[str], to_here: bool, to_there: bool) -> None:
    """Only what was asked for is copied."""
    mirrors.here[PATHS[0]] = mirrors.there[PATHS[1]] = b"content"
    mirrors.sync(*options)
    assert (PATHS[1] in mirrors.here.names()) == to_here
    assert (PATHS[0] in mirrors.there.names()) == to_there


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--from", "hree"], "no such place; the entry has here, there"),
        (["--to", "elsewhere"], "no such place; the entry has here, there"),
        (["--from", "here", "--to", "here"], "the same place"),
    ],
)
def test_wrong_names(mirrors: Mirrors, options: list[str], error: str) -> None:
    """They are refused with the names that there are."""
    assert error in mirrors.sync(*options, status=2)["error"]


def test_only_one_place(offload: Script) -> None:
    """The error says how to get another."""
    assert "mirrors" in offload.json("sync", status=2)["error"]


def test_whole_objects_that_differ(mirrors: Mirrors) -> None:
    """Neither is overwritten; both are named, with the exit status 1."""
    here, there = mirrors.here, mirrors.there
    here[PATHS[0]], there[PATHS[0]] = b"longer", b"short"
    here[PATHS[1]], there[PATHS[1]] = b"one", b"two"
    here[PATHS[2]] = b"only here"
    summary = mirrors.sync(status=1)
    assert (summary["differing"], summary["copied"]["there"]) == (2, 1)
    assert PATHS[0] in summary["told"]
    assert "there has 3 bytes with the ETag" in summary["told"]
    assert (here[PATHS[0]], there[PATHS[0]]) == (b"longer", b"short")
    assert (here[PATHS[1]], there[PATHS[1]]) == (b"one", b"two")
    assert "verify --deep" in mirrors.script("sync").stdout


def _large(mirrors: Mirrors, content: bytes) -> str:
    """Store a large object here, as the script does."""
    path = mirrors.store.add_local("large-file", content)
    mirrors.script.configure(
        mirrors.store, cloud="matrix", container=mirrors.here.container, segment_size=MIB
    )
    assert mirrors.script("update", mirrors.store.base, "2m").returncode == 0
    mirrors.script.json("upload", mirrors.store.base)
    mirrors.configure(segment_size=MIB)
    return path


def test_large_objects(mirrors: Mirrors) -> None:
    """They are copied as they are cut. One that lacks a segment is replaced, and none of a
    damaged one is taken.
    """
    content = os.urandom(3 * MIB + 5)
    path = _large(mirrors, content)
    assert mirrors.sync()["copied"] == {"here": 0, "there": 1}
    assert mirrors.there[path] == content
    assert len(mirrors.there.segments()) == 4
    assert mirrors.sync()["already_there"] == 1
    mirrors.there.delete_segment(1)
    summary = mirrors.sync("--from", "there", status=1)
    assert "is gone" in str(summary["failed"])
    summary = mirrors.sync()
    assert (summary["copied"]["there"], summary["replaced"]) == (1, 1)
    assert mirrors.there[path] == content
    assert mirrors.here.headers(path)["x-object-meta-matrix-server"] == "here.example"
    assert mirrors.there.headers(path)["x-object-meta-matrix-server"] == "here.example"
    mirrors.here.delete_segment(1)
    mirrors.here.delete_segment(1)
    assert mirrors.sync()["copied"]["here"] == 1
    assert mirrors.here[path] == content


@pytest.mark.parametrize("flaw", ["expires", "link", "dynamic"])
def test_objects_that_cannot_be_relied_on(mirrors: Mirrors, flaw: str) -> None:
    """They are not copied. At the target a whole object with the same content takes their place."""
    here, there = mirrors.here, mirrors.there
    if flaw == "dynamic":
        here.make_dynamic(PATHS[0], b"content")
    elif flaw == "link":
        here.link(PATHS[0], b"content")
    else:
        here[PATHS[0]] = b"content"
        here.let_expire(PATHS[0])
    summary = mirrors.sync(status=1)
    assert sum(summary["failed"].values()) == 1
    assert "here: " in str(summary["failed"])
    assert PATHS[0] not in there.names()
    there[PATHS[0]] = b"content"
    summary = mirrors.sync(status=1 if flaw == "dynamic" else 0)
    if flaw == "expires":  # the listing shows two equal objects
        assert summary["copied"]["here"] == 0
    elif flaw == "dynamic":  # it cannot be compared
        assert (summary["copied"]["here"], summary["differing"]) == (0, 1)
    else:
        assert (summary["copied"]["here"], summary["replaced"]) == (1, 1)
        assert here[PATHS[0]] == b"content"


def test_a_missing_container(mirrors: Mirrors) -> None:
    """A target's container that is missing is made, if the settings say so."""
    mirrors.here[PATHS[0]] = b"content"
    mirrors.there.container += "-new"
    mirrors.configure(there={"create_container": False})
    assert mirrors.sync(status=3)["error"].startswith("there: HEAD ")
    mirrors.configure(there={"create_container": True})
    assert mirrors.sync()["copied"]["there"] == 1
    assert mirrors.there[PATHS[0]] == b"content"


@pytest_twisted.async_yield_fixture
async def proxy(mirrors: Mirrors, swift: Swift, account: Credentials) -> AsyncIterator[FaultProxy]:
    """Between the script and the place ``there``."""
    started = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await started.start()
    url = started.url_for(swift.account_url(account.project_id))
    mirrors.configure(threadpool_size=2, there={"storage_url": url, "threadpool_size": 2})
    yield started
    await started.stop()


async def test_an_unreachable_place(mirrors: Mirrors, proxy: FaultProxy) -> None:
    """It ends the run, with its name and the status 3."""
    mirrors.here[PATHS[0]] = b"content"
    proxy.add(Answer(403, times=None, match=("GET", r"\?format=json")))
    summary = await deferToThread(mirrors.sync, status=3)
    assert summary["error"].startswith("there: GET ")
    proxy.clear()
    proxy.add(Answer(403, times=None, match=("PUT", "/local_content/")))
    for path in PATHS:
        mirrors.here[path] = b"content"
    summary = await deferToThread(mirrors.sync, status=3)
    assert 5 <= sum(summary["failed"].values()) <= 6
    assert set(summary["failed"]) == {next(iter(summary["failed"]))}
    assert next(iter(summary["failed"])).startswith("there: access denied")


async def test_what_is_stored_and_deleted_meanwhile(mirrors: Mirrors, proxy: FaultProxy) -> None:
    """Somebody else's object stays, and an object that goes is none that failed."""
    mirrors.here[PATHS[0]] = mirrors.there[PATHS[1]] = b"content"
    proxy.add(
        put := Stall(ON_REQUEST, match=("PUT", PATHS[0])),
        get := Stall(ON_REQUEST, match=("GET", PATHS[1])),
    )
    running = deferToThread(mirrors.sync)
    await put.happened()
    await get.happened()
    mirrors.there[PATHS[0]] = b"theirs!"
    mirrors.there.delete(PATHS[1])
    put.release()
    get.release()
    summary = await running
    assert summary["skipped"] == {"deleted meanwhile": 1}
    assert summary["copied"] == {"here": 0, "there": 0}
    assert summary["already_there"] == 1
    assert mirrors.there[PATHS[0]] == b"theirs!"
    assert PATHS[1] not in mirrors.here.names()


async def test_an_object_that_swift_has_lost(mirrors: Mirrors, proxy: FaultProxy) -> None:
    """It is still listed, and no place has it: it is named, with the status 1."""
    mirrors.there[PATHS[0]] = b"content"
    listing = mirrors.there.listing("local_content/")
    mirrors.there.delete(PATHS[0])
    listed = ("GET", r"\?.*prefix=local_content%2F.*&marker=$")
    proxy.add(Answer(200, listing, times=None, match=listed))
    summary = await deferToThread(mirrors.sync, status=1)
    assert summary["failed"] == {"there: it is listed, and Swift does not find it": 1}
    assert f"Failed: {PATHS[0]}: " in summary["told"]


async def test_interrupted(mirrors: Mirrors, proxy: FaultProxy) -> None:
    """What is in flight is finished; the next run goes on. Two runs at once are refused."""
    for path in PATHS:
        mirrors.here[path] = b"content"
    proxy.add(stall := Stall(ON_REQUEST, match=("PUT", "/local_content/"), times=2))
    running: subprocess.Popen[str] = await deferToThread(mirrors.script.start, "sync")
    await stall.happened()
    refused = await deferToThread(mirrors.sync, status=2)
    assert "'swift_media_upload sync' is using" in refused["error"]
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    while "Finishing current files" not in await deferToThread(running.stderr.readline):
        pass
    stall.release()
    out, _ = await deferToThread(running.communicate)
    assert running.returncode == 130
    assert "Interrupted: the next run continues" in out
    copied = len(mirrors.there.names())
    assert 1 <= copied < len(PATHS)
    summary = await deferToThread(mirrors.sync)
    assert summary["copied"]["there"] == len(PATHS) - copied


def info(size: int, etag: str, crc32: int | None = None, large: bool = False) -> ObjectInfo:
    return ObjectInfo("name", size, etag * 32, "", "", static_large=large, content_crc32=crc32)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (info(1, "a"), info(1, "a"), True),
        (info(1, "a"), info(2, "a"), False),
        (info(1, "a", 5), info(1, "b", 5), False),
        (info(1, "a", 5, large=True), info(1, "b", 5), True),
        (info(1, "a", 5, large=True), info(1, "b", 6, large=True), False),
        (info(1, "a", None, large=True), info(1, "b", 6, large=True), None),
        (info(1, "a", large=True), info(1, "a", large=True), True),
        (info(1, ""), info(1, ""), None),
    ],
)
def test_same_content(one: ObjectInfo, other: ObjectInfo, same: bool | None) -> None:
    """As far as the facts of two objects tell."""
    assert same_content(one, other) is same


def test_what_it_uses_is_named_once(mirrors: Mirrors) -> None:
    """One line on standard error; it reads no database."""
    mirrors.configure()
    told = mirrors.script("sync", "--no-progress").stderr.splitlines()
    (using,) = [line for line in told if line.startswith("Using ")]
    assert "database" not in using
