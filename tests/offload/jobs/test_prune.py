"""Which objects prune reports, and which it deletes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Container, Stored

TWO_DAYS_SECONDS = 2 * 86_400
CONTAINER = "media"


def test_prune_reports(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Without --delete all objects stay; each is counted with the reason why it would."""
    known = store.add_local("known-one")
    thumbnail = store.add_thumbnail("known-one", in_database=False)
    for name in (known, thumbnail, "local_content/or/ph/an", "local_content/strange"):
        objects[name] = b"x"
    summary = offload.json("prune")
    assert summary["objects_listed"] == 4
    assert summary["of_media_that_synapse_does_not_know"] == 1
    assert summary["left_alone_younger_than_a_day"] == 1
    assert summary["left_alone_not_named_like_media"] == 1
    assert summary["deleted"] == 0
    assert len(objects.names()) == 4


@pytest_twisted.async_yield_fixture
async def gateway() -> AsyncIterator[RgwStandIn]:
    """A gateway whose objects can be made older than they are."""
    server = RgwStandIn(reactor)
    await server.start()
    server.containers[CONTAINER] = Container(server.now())
    yield server
    await server.stop()


def _store(
    gateway: RgwStandIn,
    *names: str,
    age: float = TWO_DAYS_SECONDS,
    owner: str | None = "here.example",
) -> set[str]:
    for name in names:
        stored = Stored(b"x", hashlib.md5(b"x").hexdigest(), gateway.now() - age)
        if owner is not None:
            stored.metadata["x-object-meta-matrix-server"] = owner
        gateway.containers[CONTAINER].objects[name] = stored
    return set(names)


def _look_at_media(store: SynapseStore, days_ago: float = 0) -> None:
    """What Synapse writes when somebody looks at media."""
    moment = int((time.time() - days_ago * 86_400) * 1000)
    for table in ("local_media_repository", "remote_media_cache"):
        store.execute(f"UPDATE {table} SET last_access_ts = %s", (moment,))


def _configure(script: Script, store: SynapseStore, gateway: RgwStandIn, **options: Any) -> None:
    user, key = gateway.credentials
    auth = {"auth_url": gateway.auth_url, "username": user, "password": key}
    script.configure(store, container=CONTAINER, auth_type="v1password", auth=auth, **options)


def _names(gateway: RgwStandIn) -> set[str]:
    return set(gateway.containers[CONTAINER].objects)


async def test_prune(script: Script, any_store: SynapseStore, gateway: RgwStandIn) -> None:
    """Old objects of media that Synapse forgot go; young ones, known ones and foreign ones stay."""
    kept = _store(gateway, any_store.add_local("known-one", None), "p/other-servers", "readme")
    kept |= _store(gateway, any_store.add_local("preview", None, url_cache="x"))
    kept |= _store(gateway, any_store.add_remote("example.org", "m", "known-file", None))
    kept |= _store(gateway, "local_thumbnails/kn/ow/n-one/32-32-image-png-crop")
    kept |= _store(gateway, "local_content/yo/un/g", age=3600)
    kept |= _store(gateway, "local_content/th/ei/rs", owner="there.example")
    kept |= _store(gateway, "local_content/un/ma/rked", owner=None)
    gone = _store(gateway, "local_content/or/ph/an", "remote_content/example.org/or/ph/an")
    gone |= _store(gateway, "local_content/or/ph/an-too", "local_content/or/ph/an-also")
    gone |= _store(gateway, "local_thumbnails/or/ph/an/32-32-image-png-crop")
    _look_at_media(any_store)
    _configure(script, any_store, gateway)

    ended = await deferToThread(script, "prune")
    assert ended.returncode == 0, ended.stderr
    assert "With --delete, prune would refuse: 4 of 6 objects of local media" in ended.stderr
    assert gone <= set(ended.stdout.splitlines())
    assert not kept & set(ended.stdout.splitlines())
    assert "Would delete: 5 (5 bytes)" in ended.stdout
    assert _names(gateway) == kept | gone

    dry = ("prune", "--delete", "--dry-run", "--max-share", "0.7")
    ended = await deferToThread(script, *dry)
    assert "Nothing was deleted: prune deletes only with --delete" in ended.stderr
    assert _names(gateway) == kept | gone
    summary = await deferToThread(script.json, *dry, "--min-age", "3d")
    assert (summary["would_delete"], summary["left_alone_younger_than_3_days"]) == (0, 7)
    for age, why in (("12h", "less than a day"), ("3000y", "too long")):
        ended = await deferToThread(script, "prune", "--min-age", age)
        assert (ended.returncode, why in ended.stderr) == (2, True)

    ended = await deferToThread(script, "prune", "--delete")
    assert ended.returncode == 2
    assert "is this the right database" in ended.stderr
    assert _names(gateway) == kept | gone

    options = ("prune", "--delete", "--max-share", "0.7")
    summary = await deferToThread(script.json, *options)
    assert (summary["deleted"], summary["deleted_bytes"]) == (5, 5)
    assert summary["left_alone_younger_than_a_day"] == 1
    assert summary["left_alone_of_another_homeserver"] == 1
    assert summary["left_alone_unmarked"] == 1
    assert _names(gateway) == kept


async def test_prune_minds_the_prefix(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """Only what is below the prefix is looked at; names are shown in full."""
    store.add_local("known-one", None)
    others = _store(gateway, "local_content/or/ph/an", "q/local_content/or/ph/an")
    _store(gateway, "p/local_content/or/ph/an")
    _look_at_media(store)
    _configure(script, store, gateway, prefix="p")
    options = ("prune", "--delete", "--max-share", "1")
    summary = await deferToThread(script.json, *options)
    assert summary["deleted"] == 1
    assert "p/local_content/or/ph/an" in summary["told"].splitlines()
    assert _names(gateway) == others


async def test_prune_with_an_empty_database(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """A database without any media is taken for the wrong one, whatever share may go."""
    names = _store(gateway, "local_content/or/ph/an")
    _configure(script, store, gateway)
    ended = await deferToThread(script, "prune", "--delete", "--max-share", "1")
    assert ended.returncode == 2
    assert "no media at all" in ended.stderr
    assert _names(gateway) == names


async def test_unmarked_objects(script: Script, store: SynapseStore, gateway: RgwStandIn) -> None:
    """--unmarked takes what names no homeserver too, unless another one is in the same place."""
    kept = _store(gateway, *(store.add_local(f"known-{n}", None) for n in range(9)))
    _store(gateway, "local_content/or/ph/an", owner=None)
    _store(gateway, "local_content/or/ph/an-too")
    theirs = _store(gateway, "local_content/th/ei/rs", owner="there.example", age=60)
    names = _names(gateway)
    _look_at_media(store)
    _configure(script, store, gateway)
    options = ("prune", "--delete", "--unmarked", "--max-share", "1")
    ended = await deferToThread(script, *options)
    assert ended.returncode == 2
    assert "another homeserver (there.example)" in ended.stderr
    assert _names(gateway) == names

    del gateway.containers[CONTAINER].objects[theirs.pop()]
    ended = await deferToThread(script, "prune", "--delete", "--unmarked")
    assert ended.returncode == 2
    assert "give --max-share 0.19" in ended.stderr  # a few are many without a mark
    assert (await deferToThread(script.json, *options))["deleted"] == 2
    assert _names(gateway) == kept


async def test_unmarked_objects_while_some_cannot_be_looked_at(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """It may be another homeserver's object that cannot: so no unmarked one is deleted."""
    _store(gateway, store.add_local("known-one", None))
    _store(gateway, "local_content/or/ph/an", owner=None)
    _store(gateway, "local_content/th/ei/rs", owner="there.example")
    names = _names(gateway)
    _look_at_media(store)
    proxy = FaultProxy(reactor, "127.0.0.1", gateway.port)
    await proxy.start()
    proxy.add(Answer(400, match=("HEAD", "/th/ei/rs"), times=None))
    _configure(script, store, gateway, storage_url=proxy.url_for(gateway.url))
    options = ("prune", "--delete", "--unmarked", "--max-share", "1")
    summary = await deferToThread(partial(script.json, *options, status=1))
    await proxy.stop()
    assert sum(summary["failed"].values()) == 1
    assert _names(gateway) == names


async def test_prune_without_the_servers_name(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """What has a mark stays; what has none may go, if asked for."""
    kept = _store(gateway, *(store.add_local(f"known-{n}", None) for n in range(9)))
    unmarked = _store(gateway, "local_content/or/ph/an", owner=None)
    marked = _store(gateway, "local_content/or/ph/an-too")
    _look_at_media(store)
    _configure(script, store, gateway, server_name=None)
    summary = await deferToThread(script.json, "prune", "--unmarked")
    assert summary["left_alone_of_another_homeserver"] == 1
    assert "No server_name in homeserver.yaml" in summary["told"]
    ended = await deferToThread(script, "prune", "--delete", "--max-share", "1")
    assert ended.returncode == 2
    assert "its name is not known" in ended.stderr
    options = ("prune", "--delete", "--unmarked", "--max-share", "1")
    ended = await deferToThread(script, *options)
    assert ended.returncode == 2
    assert _names(gateway) == kept | unmarked | marked
    del gateway.containers[CONTAINER].objects[marked.pop()]
    assert (await deferToThread(script.json, *options))["deleted"] == 1
    assert _names(gateway) == kept


async def test_prune_with_another_homeservers_database(
    script: Script, any_store: SynapseStore, gateway: RgwStandIn
) -> None:
    """The names in the database give it away, also if very few objects would go."""
    for number in range(9):
        any_store.add_local(f"known-{number}", None, user_id="@user:there.example:8448")
    names = _store(gateway, "local_content/or/ph/an")
    _look_at_media(any_store)
    _configure(script, any_store, gateway)
    for options in ((), ("--delete", "--max-share", "1")):
        ended = await deferToThread(script, "prune", *options)
        assert ended.returncode == 2
        assert "is that of the homeserver there.example:8448, but server_name is here" in (
            ended.stderr
        )
    assert _names(gateway) == names


async def test_prune_with_a_database_that_nobody_uses(
    script: Script, any_store: SynapseStore, gateway: RgwStandIn
) -> None:
    """A copy or a stopped replica does not know newer media: nothing goes, both times are told."""
    for number in range(99):
        _store(gateway, any_store.add_local(f"known-{number:02}", None))
    _store(gateway, "local_content/or/ph/an")
    names = _names(gateway)
    _look_at_media(any_store, days_ago=2)  # as old as the objects: clocks may differ
    _configure(script, any_store, gateway)
    ended = await deferToThread(script, "prune", "--delete", "--max-share", "1")
    assert ended.returncode == 2
    assert "the database is older than the objects" in ended.stderr
    assert ended.stderr.count(" UTC") == 2
    assert _names(gateway) == names
    _look_at_media(any_store, days_ago=1.9)
    assert (await deferToThread(script.json, "prune", "--delete"))["deleted"] == 1


def _days_ago(days: float) -> int:
    return int((time.time() - days * 86_400) * 1000)


@pytest.mark.parametrize(("new", "uploaded_days_ago"), [(3, 60), (15, 60), (25, 3)])
async def test_prune_with_the_database_of_a_copy(
    script: Script, store: SynapseStore, gateway: RgwStandIn, new: int, uploaded_days_ago: int
) -> None:
    """A copy of the homeserver that is in use knows no newer media: it deletes nothing.

    Also if old media were uploaded in bulk at the time when the unknown ones were stored.
    """
    days = {"created_ts": _days_ago(100)}
    for number in range(500):
        known = store.add_local(f"known-{number:03}", None, **days)
        _store(gateway, known, age=uploaded_days_ago * 86_400)
    newer = [f"local_content/ne/we/{number:02}" for number in range(new)]
    _store(gateway, *newer, age=3 * 86_400)
    names = _names(gateway)
    _look_at_media(store)
    _configure(script, store, gateway)
    ended = await deferToThread(script, "prune", "--delete")
    assert ended.returncode == 2
    assert f"of the {new} local media that were stored since" in ended.stderr
    assert _names(gateway) == names


async def test_new_media_that_an_admin_deleted(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """On the homeserver itself media are newer than those that were deleted."""
    kept = _store(gateway, *(store.add_local(f"known-{number}", None) for number in range(100)))
    kept |= _store(gateway, store.add_local("newer-one", None, created_ts=_days_ago(1)), age=60)
    _store(gateway, *(f"local_content/ne/we/{number}" for number in range(3)))
    _look_at_media(store)
    _configure(script, store, gateway)
    summary = await deferToThread(script.json, "prune", "--delete")
    assert summary["deleted"] == 3
    assert _names(gateway) == kept


async def test_prune_without_access_to_the_segments(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """A user who may not list the segment container prunes the objects all the same."""
    gateway.taken.add(f"{CONTAINER}_segments")
    kept = _store(gateway, store.add_local("known-one", None))
    _store(gateway, "local_content/or/ph/an")
    _look_at_media(store)
    _configure(script, store, gateway)
    summary = await deferToThread(script.json, "prune", "--delete")
    assert summary["deleted"] == 1
    assert "Segments of no object were not looked for" in summary["told"]
    assert _names(gateway) == kept
