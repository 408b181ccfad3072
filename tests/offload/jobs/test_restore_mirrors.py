"""``restore`` with a place that fails for a short time, answers slowly or delivers damage."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

import pytest
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects
from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import BEFORE_RESPONSE, Answer, Delay, FlipBit, in_response
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


@pytest.fixture
def through(proxy: FaultProxy, swift: Swift, account: Credentials) -> Callable[[], str]:
    """The storage URL that leads through the proxy."""
    return lambda: proxy.url_for(swift.account_url(account.project_id))


def _missing(
    store: SynapseStore, numbers: Iterable[int], *places: Objects, size: int = 10
) -> set[str]:
    """Media that are not on the disk, with objects in these places."""
    paths = set()
    for number in numbers:
        content = os.urandom(size)
        digest = hashlib.sha256(content).hexdigest()
        path = store.add_local(f"abcdef{number:03}", content, sha256=digest)
        (store.base / path).unlink()
        for objects in places:
            objects[path] = content
        paths.add(path)
    return paths


async def test_a_few_errors_of_the_only_place_with_the_files(
    mirrors: Mirrors, store: SynapseStore, proxy: FaultProxy, through: Callable[[], str]
) -> None:
    """They are retried, as those of a place without mirrors."""
    paths = _missing(store, range(20), mirrors.a)
    proxy.add(Answer(503, times=6, match=("GET", "local_content/../../")))
    mirrors.configure(of_a={"storage_url": through()})
    summary = await deferToThread(
        mirrors.script.json, "restore", store.base, "--threadpool-size", "8"
    )
    assert summary["restored"] == 20
    assert store.files() == paths


async def test_the_only_place_with_the_files_answers_slowly(
    mirrors: Mirrors, store: SynapseStore, proxy: FaultProxy, through: Callable[[], str]
) -> None:
    """It gets the time that a place without mirrors has."""
    paths = _missing(store, range(8), mirrors.b)
    proxy.add(Delay(3.0, place=BEFORE_RESPONSE, times=None))
    mirrors.configure(storage_url=through())
    summary = await deferToThread(
        mirrors.script.json, "restore", store.base, "--threadpool-size", "4"
    )
    assert summary["restored"] == 8
    assert store.files() == paths


async def test_a_place_that_delivers_damaged_bytes(
    mirrors: Mirrors, store: SynapseStore, proxy: FaultProxy, through: Callable[[], str]
) -> None:
    """The file comes from the other place."""
    paths = _missing(store, range(1), mirrors.a, mirrors.b, size=200_000)
    proxy.add(FlipBit(in_response(100_000), times=None, match=("GET", "/local_content/")))
    mirrors.configure(of_a={"storage_url": through()})
    summary = await deferToThread(mirrors.run, "restore", store.base)
    assert (summary["restored"], summary["failed"]) == (1, {})
    assert store.files() == paths


async def test_a_few_damaged_objects_do_not_count_as_a_place_that_fails(
    mirrors: Mirrors, store: SynapseStore, proxy: FaultProxy, through: Callable[[], str]
) -> None:
    """Each time another file came from it in between."""
    paths = _missing(store, range(0, 42, 2), mirrors.a, mirrors.b, size=70_000)
    paths |= _missing(store, range(1, 42, 2), mirrors.a)
    proxy.add(FlipBit(in_response(60_000), times=None, match=("GET", "/local_content/")))
    mirrors.configure(of_a={"storage_url": through(), "threadpool_size": 1})
    summary = await deferToThread(mirrors.run, "restore", store.base)
    assert summary["members"]["a"]["left_out"] is None
    assert store.files() == paths
