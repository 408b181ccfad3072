"""Media workers keep their disks within a budget while users upload and Swift misbehaves."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import deferLater

from swift_provider.keeper import holder_of
from tests.module.disk_load import Load
from tests.module.disk_place import REFUSED, DiskPlace, Services
from tests.module.disk_samples import MIB, Samples
from tests.module.homeservers import OUTAGE, there
from tests.servers.faults import (
    BEFORE_RESPONSE,
    Answer,
    Cut,
    Delay,
    Fault,
    Reset,
    in_request,
    in_response,
)

#: Of all disks together.
MAX_SIZE = 50 * MIB
SECONDS = 56.0
BYTES_PER_SECOND = 150 * MIB / SECONDS
OUTAGE_BEGINS, OUTAGE_SECONDS = 28.0, 10.0


async def misbehave(place: DiskPlace, until: float, random_: random.Random) -> None:
    """Faults of Swift, one kind after the other, and none in between."""
    kinds: list[Callable[[], Fault]] = [
        lambda: Answer(503, times=8),
        lambda: Delay(random_.uniform(0.2, 1.0), times=10),
        lambda: Delay(random_.uniform(0.2, 1.0), BEFORE_RESPONSE, times=10),
        lambda: Reset(in_request(random_.randint(0, 60_000)), times=4, match=("PUT", "")),
        lambda: Cut(in_response(random_.randint(0, 60_000)), times=4, match=("GET", "")),
        lambda: Cut(BEFORE_RESPONSE, times=4),
    ]
    while time.monotonic() < until:
        place.proxy.add(random_.choice(kinds)())
        await pause(random_.uniform(0.5, 2.0))
        place.proxy.clear()
        await pause(random_.uniform(0.5, 1.5))


async def pause(seconds: float) -> None:
    from twisted.internet import reactor  # pytest-twisted chooses it

    clock: Any = reactor
    await deferLater(clock, seconds, lambda: None)


@pytest.mark.alone
@pytest.mark.parametrize("shared", [True, False], ids=["one disk", "a disk each"])
async def test_a_minute(services: Services, shared: bool) -> None:
    """No media is lost, and the disks stay within the budget, also soon after an outage."""
    limit = MAX_SIZE if shared else MAX_SIZE // 3
    # Without a shared disk, the other workers get an upload from Swift only.
    async with services.running({"max_size": limit}, shared=shared, waits=not shared) as place:
        samples = [Samples(disk) for disk in place.disks]
        load = Load(place.workers, place.token, BYTES_PER_SECOND)
        random_ = random.Random(5)
        began = time.monotonic()
        load.start()
        await misbehave(place, began + OUTAGE_BEGINS, random_)
        out = time.monotonic()
        place.proxy.add(Answer(**OUTAGE))
        await pause(OUTAGE_SECONDS)
        place.proxy.clear()
        back = time.monotonic()
        await misbehave(place, began + SECONDS, random_)
        await there(load.stop)
        await there(
            place.wait,
            lambda: all(disk.taken <= limit for disk in place.disks),
            "within the budget",
        )
        for one in samples:
            await there(one.stop)
        assert all(holder_of(str(disk.media_store)) for disk in place.disks)
        assert len(place.lines("this process keeps")) == len(place.disks)
        assert not await there(load.compare)
        print(load.summary(), *(one.summary(limit) for one in samples), sep="\n")
    assert not load.wrong
    assert load.bytes > 1.5 * MAX_SIZE, "the disks were not filled"
    for one in samples:
        # After the outage, the next run has to upload what Swift missed.
        calm = one.outside(out, back + one.interval)
        assert not [at for at in calm if one.excess(at, limit) > 0]
    warnings = place.lines("swift_provider.* WARNING .*local_disk")
    # A disk that is within its budget when the outage begins has no run that asks Swift.
    assert 0 < len(warnings) <= len(place.disks), warnings
    assert all("transaction canned). The next run tries again" in line for line in warnings)
    assert len(place.lines("Swift works again")) == len(warnings)
    place.check_logs(REFUSED)
