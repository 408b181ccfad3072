"""Which objects prune reports, and which it deletes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
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


def _store(gateway: RgwStandIn, *names: str, age: float = TWO_DAYS_SECONDS) -> set[str]:
    for name in names:
        etag = hashlib.md5(b"x").hexdigest()
        gateway.containers[CONTAINER].objects[name] = Stored(b"x", etag, gateway.now() - age)
    return set(names)


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
    gone = _store(gateway, "local_content/or/ph/an", "remote_content/example.org/or/ph/an")
    gone |= _store(gateway, "local_thumbnails/or/ph/an/32-32-image-png-crop")
    _configure(script, any_store, gateway)

    ended = await deferToThread(script, "prune")
    assert ended.returncode == 0, ended.stderr
    assert gone <= set(ended.stdout.splitlines())
    assert _names(gateway) == kept | gone

    ended = await deferToThread(script, "prune", "--delete")
    assert ended.returncode == 2
    assert "is this the right database" in ended.stderr
    assert _names(gateway) == kept | gone

    options = ("prune", "--delete", "--max-share", "0.7")
    summary = await deferToThread(script.json, *options)
    assert summary["deleted"] == 3
    assert _names(gateway) == kept


async def test_prune_minds_the_prefix(
    script: Script, store: SynapseStore, gateway: RgwStandIn
) -> None:
    """Only what is below the prefix is looked at; names are shown in full."""
    store.add_local("known-one", None)
    others = _store(gateway, "local_content/or/ph/an", "q/local_content/or/ph/an")
    _store(gateway, "p/local_content/or/ph/an")
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
