"""How many exchanges are in flight at once: never more, and under load not fewer."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from swift_provider.client import Observer, Patience, Place
from swift_provider.client.next_turn import next_turn
from swift_provider.client.slots import (
    Lane,
    Lease,
    Slots,
    acquire_both,
    uploads_beside_readers,
)
from tests.client.conftest import Faulty
from tests.client.trouble import (
    LONG_PATIENCE,
    MakeFile,
    TurningClock,
    begin,
    nothing_in_flight,
    puts,
    set_back,
    soon,
    started,
    until,
)
from tests.servers.faults import ON_REQUEST, Answer, Delay, Stall


class House:
    """Slots, and what is told about them."""

    def __init__(self, size: int, for_uploads: int | None = None) -> None:
        self.clock = TurningClock()
        self.told: list[tuple[int, int]] = []
        observer = Observer()
        observer.slots_changed = lambda *numbers: self.told.append(numbers)  # type: ignore[method-assign]
        self.slots = Slots(size, for_uploads or size, self.clock, observer)

    def ask(self, lane: Lane) -> tuple[Deferred[Any], list[Lease]]:
        got: list[Lease] = []
        waiting = begin(self.slots.acquire(lane))
        waiting.addCallbacks(got.append, lambda failure: failure.trap(CancelledError))
        return waiting, got

    def settle(self) -> None:
        self.clock.advance(0)


@pytest.mark.parametrize("lane", list(Lane))
def test_no_more_than_there_are(lane: Lane) -> None:
    """A request that finds all slots taken waits for the first release."""
    house = House(2)
    asked = [house.ask(lane)[1] for _ in range(3)]
    assert [len(got) for got in asked] == [1, 1, 0]
    assert (house.slots.in_flight, house.slots.waiting) == (2, 1)
    asked[0][0].release()
    asked[0][0].release()
    house.settle()
    assert [len(got) for got in asked] == [1, 1, 1]
    assert (house.slots.in_flight, house.slots.waiting) == (2, 0)
    for got in asked[1:]:
        got[0].release()
    assert (house.slots.in_flight, house.slots.waiting) == (0, 0)
    assert house.told[-1] == (0, 0)
    assert max(house.told)[0] == 2


def test_some_are_left_to_readers() -> None:
    """Uploads leave slots to downloads; downloads may take all."""
    house = House(4, for_uploads=3)
    writes = [house.ask(Lane.WRITE)[1] for _ in range(10)]
    assert sum(map(len, writes)) == 3
    assert len(house.ask(Lane.READ)[1]) == 1
    assert house.slots.in_flight == 4
    reading = House(4, for_uploads=3)
    assert sum(len(reading.ask(Lane.READ)[1]) for _ in range(10)) == 4


@pytest.mark.parametrize(
    ("size", "uploads"), [(1, 1), (2, 1), (4, 3), (5, 4), (16, 4), (40, 10), (1000, 250)]
)
def test_the_share_of_uploads(size: int, uploads: int) -> None:
    """Uploads get a quarter, at least four, and never the last of several slots."""
    assert uploads_beside_readers(size) == uploads


def test_one_is_left_to_uploads() -> None:
    """With a single slot uploads and downloads take turns."""
    house = House(1, uploads_beside_readers(1))
    (first,) = house.ask(Lane.WRITE)[1]
    _, second = house.ask(Lane.READ)
    first.release()
    house.settle()
    assert len(second) == 1


@pytest.mark.parametrize("lane", list(Lane))
def test_leaving_the_queue(lane: Lane) -> None:
    """A cancelled wait for a slot is passed over."""
    house = House(1)
    held = house.ask(Lane.READ)[1]
    # The first upload waits for the slot, the second for the first.
    leaving = [house.ask(lane) for _ in range(2)]
    _, staying = house.ask(lane)
    for waiting, _ in leaving:
        waiting.cancel()
    assert house.slots.waiting == 1
    held[0].release()
    house.settle()
    assert [got for _, got in leaving] == [[], []]
    assert len(staying) == 1
    staying[0].release()
    assert house.slots.in_flight == 0
    assert len(house.ask(lane)[1]) == 1


def test_a_release_does_not_run_the_waiter() -> None:
    """A waiter is woken in a later turn of the reactor, not inside ``release``."""
    house = House(1)
    (lease,) = house.ask(Lane.READ)[1]
    _, waiting = house.ask(Lane.READ)
    lease.release()
    assert waiting == []
    house.settle()
    assert len(waiting) == 1


async def test_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that is being handed over is not lost until the clock has caught up."""
    slots = Slots(1, 1, reactor, Observer())
    lease = await slots.acquire(Lane.READ)
    _, got = started(slots.acquire(Lane.READ))
    lease.release()
    set_back(monkeypatch)
    for _ in range(2):
        await next_turn(reactor)
    assert len(got) == 1


# Against the real Swift


@pytest.mark.parametrize("shares_reactor", [True, False])
async def test_the_limit_is_used_and_kept(
    faulty: Faulty, container: str, make_file: MakeFile, shares_reactor: bool
) -> None:
    """Under ten times the load exactly ``threadpool_size`` exchanges are open at the peak.

    Where readers share the reactor they take the slots that uploads may not;
    elsewhere uploads alone take all.
    """
    size = 8
    store = faulty.store(
        container, threadpool_size=size, shares_reactor=shares_reactor, patience=LONG_PATIENCE
    )
    await store.put("name", make_file(b"content"))
    await faulty.proxy.wait_idle()
    faulty.proxy.exchanges_peak = 0
    faulty.proxy.add(Delay(0.02, times=None))

    async def read() -> None:
        download = await store.get("name")
        download.abandon()

    operations = []
    for number in range(10 * size):
        if shares_reactor and number % 2:
            operations.append(begin(read()))
        else:
            source = make_file(b"content")
            operations.append(begin(store.put(f"name-{number}", source)))
    for operation in operations:
        await soon(operation)
    assert faulty.proxy.exchanges_peak == size
    assert faulty.proxy.connections_peak <= size
    await nothing_in_flight(faulty)


async def test_uploads_alone_leave_room(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """A download does not wait for five hundred uploads that are in the queue."""
    client = faulty.client(threadpool_size=8, patience=LONG_PATIENCE)
    store = Place(client, container)
    await store.put("wanted", make_file(b"content"))
    faulty.proxy.add(stall := Stall(ON_REQUEST, times=None, match=("PUT", "")))
    source = make_file(b"x")
    finished: list[int] = []

    async def upload(number: int) -> None:
        await store.put(f"name-{number}", source)
        finished.append(number)

    uploads = [begin(upload(number)) for number in range(500)]
    await until(lambda: stall.fired == 4)
    assert client.slots.waiting == 496
    download = await soon(begin(store.get("wanted")))
    download.abandon()
    assert finished == []
    assert (stall.fired, client.slots.waiting) == (4, 496)
    for waiting in uploads:
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
    for waiting in reversed(uploads):
        waiting.cancel()
    stall.release()
    await nothing_in_flight(faulty)


async def test_time_in_the_queue_takes_no_tries(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Waiting for a slot leaves an upload all its retries."""
    patience = Patience(
        total_seconds=2.0, first_delay=0.01, longest_delay=0.05, operation_seconds=30.0
    )
    store = faulty.store(container, threadpool_size=1, patience=patience)
    faulty.proxy.add(Delay(2.5, match=("PUT", "first")))
    faulty.proxy.add(Answer(503, match=("PUT", "second")))
    first = begin(store.put("first", make_file(b"x")))
    second = begin(store.put("second", make_file(b"x")))
    await soon(first)
    await soon(second)
    answers = [(seen.path.rpartition("/")[2], seen.status) for seen in puts(faulty)]
    assert answers == [("first", 201), ("second", 503), ("second", 201)]


# Two slots, of two clients


def both(reading: House, writing: House) -> tuple[Deferred[Any], list[tuple[Lease, Lease]]]:
    got: list[tuple[Lease, Lease]] = []
    waiting = begin(acquire_both(reading.slots, writing.slots))
    waiting.addCallbacks(got.append, lambda failure: failure.trap(CancelledError))
    return waiting, got


@pytest.mark.parametrize("turned", [False, True])
def test_two_slots_are_taken_in_one_order(turned: bool) -> None:
    """What waits for the one slot holds the other only if nobody who has the one wants it."""
    houses = House(1), House(1)
    one, other = reversed(houses) if turned else houses
    _, first = both(one, other)
    assert len(first) == 1
    _, second = both(one, other)
    _, third = both(other, one)
    assert (second, third) == ([], [])
    for lease in first[0]:
        lease.release()
        for house in houses:
            house.settle()
    done = [got for got in (second, third) if got]
    assert len(done) == 1
    for lease in done[0][0]:
        lease.release()
        for house in houses:
            house.settle()
    assert all((second, third))
    for got in (second, third):
        for lease in got[0]:
            lease.release()
    for house in houses:
        assert (house.slots.in_flight, house.slots.waiting) == (0, 0)
        assert house.told[-1] == (0, 0)


def test_who_waits_for_the_right_to_upload_holds_no_slot() -> None:
    """Many copies that wait for the target leave the slots of the source to others."""
    source, target = House(2), House(4, for_uploads=1)
    (upload,) = target.ask(Lane.WRITE)[1]
    waiting = [both(source, target)[1] for _ in range(5)]
    assert source.slots.in_flight == 0
    upload.release()
    target.settle()
    assert [len(got) for got in waiting] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("taken", ["upload", "source", "target"])
def test_leaving_both_queues(taken: str) -> None:
    """A cancelled wait gives back what it had."""
    source, target = House(1), House(2, for_uploads=1)
    leases = {
        "upload": lambda: target.ask(Lane.WRITE)[1],
        "source": lambda: source.ask(Lane.READ)[1],
        "target": lambda: target.ask(Lane.READ)[1] + target.ask(Lane.READ)[1],
    }[taken]()
    waiting, got = both(source, target)
    assert got == []
    waiting.cancel()
    for lease in leases:
        lease.release()
        for house in (source, target):
            house.settle()
    for house in (source, target):
        assert (house.slots.in_flight, house.slots.waiting) == (0, 0)
    assert len(both(source, target)[1]) == 1


def test_two_slots_of_one_client() -> None:
    """They are one."""
    house = House(1)
    _, got = both(house, house)
    assert house.slots.in_flight == 1
    for lease in got[0]:
        lease.release()
    assert house.slots.in_flight == 0
