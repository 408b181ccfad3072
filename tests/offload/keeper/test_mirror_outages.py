"""One run with two places, of which one fails in part."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from swift_provider.keeper import Task
from tests.offload.conftest import Objects
from tests.offload.keeper.conftest import Keeper
from tests.offload.keeper.test_mirrors import _IMPATIENT, mirror
from tests.offload.keeper.test_run import fill
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Answer, Stall
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

__all__ = ["mirror"]

#: What is read from either database is the same; see test_run.py.
pytestmark = pytest.mark.parametrize("any_store", ["postgres"], indirect=True)

#: More than a place may fail in a row.
COUNT = 44


@pytest_twisted.async_yield_fixture
async def proxy(
    keeper: Keeper, mirror: Objects, swift: Swift, account: Credentials
) -> AsyncIterator[FaultProxy]:
    """Before the second place."""
    started = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await started.start()
    keeper.code = _IMPATIENT
    keeper.options["threadpool_size"] = 40
    url = started.url_for(swift.account_url(account.project_id))
    keeper.options["mirrors"][0] |= {"storage_url": url, "threadpool_size": 40}
    yield started
    await started.stop()


@pytest.mark.parametrize("status", [503, 403])
async def test_a_mirror_that_takes_nothing_is_left_out(
    keeper: Keeper, objects: Objects, mirror: Objects, proxy: FaultProxy, status: int
) -> None:
    """It lists its objects and takes none. A repair does not try each file there for a while."""
    paths = [keeper.store.add_local(f"media{number:03}") for number in range(COUNT)]
    proxy.add(Answer(status, times=None, match=("PUT", "/local_content/")))
    ended = await deferToThread(keeper.run, Task.REPAIR)
    assert objects.names() == set(paths)
    tried = {one.path for one in proxy.requests if one.method == "PUT"}
    assert len(tried) < 34, ended.report


async def test_a_mirror_that_was_slow_once_has_the_usual_retries(
    keeper: Keeper, objects: Objects, mirror: Objects, proxy: FaultProxy
) -> None:
    """One task went without it. The next task in the same run asks again after one failure."""
    fill(keeper.store, 2)
    check, listing = f"/{mirror.container}$", rf"/{mirror.container}\?.*prefix=local_content"
    proxy.add(
        stall := Stall(ON_REQUEST, match=("HEAD", check), times=1),
        Answer(503, times=1, match=("GET", listing)),
    )
    report = (await deferToThread(keeper.run, Task.KEEP, Task.PRUNE, max_size=1)).report
    stall.release()
    assert report.done == [Task.PRUNE], report
