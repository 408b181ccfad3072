"""What ``prune --delete`` leaves alone because of another place with the same objects."""

from __future__ import annotations

import os
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from swift_provider.config import MIB
from swift_provider.offload.jobs.prune import AskOthers
from swift_provider.offload.jobs.prune_each import in_turn
from tests.offload.mirrors import Mirrors, closed_url
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def _use_later(store: SynapseStore) -> None:
    """Somebody looks at media in two days."""
    later = int((time.time() + 2 * 86_400) * 1000)
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (later,))


@pytest.fixture
def sharing(mirrors: Mirrors, store: SynapseStore) -> dict[str, Any]:
    """Options of places that share a container of segments; a large file without marks is there."""
    options = {"segment_size": "1M", "segment_container": f"{mirrors.a.container}_segments"}
    store.add_local("large", os.urandom(3 * MIB))
    for number in range(6):
        store.add_local(f"media-{number}")
    mirrors.configure(of_a=options, **options)
    mirrors.run("upload", store.base, "--all")
    for name in mirrors.a.segments():
        mirrors.a.post_segment(name, {"X-Object-Meta-Other": "x"})
    _use_later(store)
    return options


def test_unmarked_segments_in_a_container_that_both_places_share(
    mirrors: Mirrors, sharing: dict[str, Any]
) -> None:
    """Segments that do not name the container of their manifest may be those of the other place."""
    summary = mirrors.run("later", "prune", "--delete", "--unmarked")
    assert len(mirrors.a.segments()) == 6
    for member in summary["members"].values():
        assert member["left_alone_segments_of_another_container"] == 3


def test_prune_of_one_place_leaves_the_segments_of_its_mirror(
    mirrors: Mirrors, sharing: dict[str, Any]
) -> None:
    """CONTAINER chooses b; without a mark a segment may be that of an object in a."""
    _prune_must_leave_segments(mirrors, mirrors.b.container)


@pytest.mark.parametrize("number", [0, 1])
def test_prune_of_one_entry_leaves_the_segments_of_another_entry(
    mirrors: Mirrors, store: SynapseStore, sharing: dict[str, Any], number: int
) -> None:
    """Two entries share a container of segments as two mirrors do."""
    entries = [
        {"cloud": "matrix", "container": objects.container, **sharing}
        for objects in (mirrors.a, mirrors.b)
    ]
    mirrors.script.configure(store, *entries)
    _prune_must_leave_segments(mirrors, "--entry", str(number))


def _prune_must_leave_segments(mirrors: Mirrors, *flags: str) -> None:
    ended = mirrors.plain("later", "prune", "--delete", "--unmarked", *flags)
    assert ended.returncode == 0, ended.stderr
    assert len(mirrors.a.segments()) == 6, ended.stdout
    assert "Left alone, segments of another container: 3" in ended.stdout


def test_one_place_shows_another_homeserver(mirrors: Mirrors, store: SynapseStore) -> None:
    """An object of another homeserver has lost its mark in b, and has it in a: it stays in both."""
    for number in range(60):
        store.add_local(f"media-{number:03}")
    mirrors.run("upload", store.base, "--all")
    theirs = "local_content/th/ei/rs"
    mirrors.a[theirs] = mirrors.b[theirs] = b"theirs"
    mirrors.a.post(theirs, {"X-Object-Meta-Matrix-Server": "other.example"})
    _use_later(store)
    summary = mirrors.run("later", "prune", "--delete", "--unmarked", status=2)
    assert theirs in mirrors.b.names()
    for name, before in (("a", ""), ("b", "a: ")):
        refused = summary["members"][name]["refused"]
        assert refused.startswith(f"{before}another homeserver (other.example) has objects")


async def test_the_place_that_shows_it_stops(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials
) -> None:
    """a has the mark of another homeserver, and its segments cannot be listed."""
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    proxy.add(Answer(503, times=None, match=("GET", f"{mirrors.a.container}_segments")))
    for number in range(60):
        store.add_local(f"media-{number:03}")
    await deferToThread(mirrors.run, "upload", store.base, "--all")
    theirs = "local_content/th/ei/rs"
    mirrors.a[theirs] = mirrors.b[theirs] = b"theirs"
    mirrors.a.post(theirs, {"X-Object-Meta-Matrix-Server": "other.example"})
    _use_later(store)
    mirrors.configure(of_a={"storage_url": proxy.url_for(swift.account_url(account.project_id))})
    run = partial(mirrors.run, "later", "prune", "--delete", "--unmarked", status=2)
    summary = await deferToThread(run)
    assert summary["members"]["a"]["stopped"]
    refused = summary["members"]["b"]["refused"]
    assert refused.startswith("a: another homeserver (other.example) has objects")
    assert theirs in mirrors.b.names()
    await proxy.stop()


@pytest.mark.parametrize("stops", ["a", "b"])
async def test_a_place_that_stops_early_is_heard(stops: str) -> None:
    """What it has seen counts for the other, whichever is looked at first."""
    told: dict[str, str | None] = {}

    async def run_one(place: Any, ask_others: AskOthers) -> str | None:
        if place.name == stops:
            return "another homeserver"
        told[place.name] = await ask_others(None)
        return None

    await in_turn([SimpleNamespace(name=name) for name in "ab"], run_one)  # type: ignore[misc]
    assert list(told.values()) == [f"{stops}: another homeserver"]


def test_one_place_is_down(mirrors: Mirrors, store: SynapseStore) -> None:
    """It has one line, with the reason; the other one has the figures that matter."""
    store.add_local("media")
    mirrors.configure(storage_url=closed_url())
    ended = mirrors.plain("prune")
    assert ended.returncode == 1, ended.stderr
    first, *figures, last = ended.stdout.splitlines()
    assert first == "a:"
    assert [line.split(":")[0].strip() for line in figures] == [
        "Objects listed",
        "Of media that Synapse does not know",
        "Would delete",
        "Time",
    ]
    assert last.startswith("b: ")
    assert "cannot reach Swift" in last


@pytest.mark.parametrize("wrong", ["a", "b"])
def test_one_place_shows_a_wrong_database(
    mirrors: Mirrors, store: SynapseStore, wrong: str
) -> None:
    """An old copy of the database does not know what is in one place: nothing goes anywhere."""
    for number in range(10):
        store.add_local(f"media-{number}")
    mirrors.run("upload", store.base, "--all")
    newer = [f"local_content/ne/we/r{number:03}" for number in range(40)]
    many, few = (mirrors.a, mirrors.b) if wrong == "a" else (mirrors.b, mirrors.a)
    for objects, paths in ((many, newer[2:]), (few, newer[:2])):
        for path in paths:
            objects[path] = b"stored after the copy was made"
            objects.post(path, {"X-Object-Meta-Matrix-Server": "here.example"})
    _use_later(store)
    other = "b" if wrong == "a" else "a"
    told = mirrors.run("later", "prune")["told"]
    assert f"{other}: With --delete, prune would refuse: {wrong}: of the " in told
    summary = mirrors.run("later", "prune", "--delete", status=2)
    assert summary["members"][wrong]["refused"]
    assert summary["members"][other]["refused"].startswith(f"{wrong}: of the ")
    assert set(newer[:2]) <= few.names()
    assert set(newer[2:]) <= many.names()
