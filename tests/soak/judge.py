"""What is looked at when all is quiet again: every file, and what Synapse still holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import requests

from tests.servers.swift_account import Account
from tests.soak.decay import file_of
from tests.soak.home import Home
from tests.soak.load import kind
from tests.soak.pair import Member
from tests.soak.place import CONTAINER, Place
from tests.soak.record import Record, Stored

READERS = 4
#: Idle connections are closed by then, and Synapse's own short work is done.
QUIET_SECONDS = 45.0
#: Synapse's database and log take a few as they like.
MORE_DESCRIPTORS = 10
#: Synapse's own caches, and the allocator's.
MORE_MEGABYTES = 80


@dataclass(frozen=True)
class Held:
    """What Synapse holds.

    :param connections: to Swift.
    :param slots: exchanges with Swift in flight, and waiting.
    """

    connections: int
    descriptors: int
    slots: int
    memory_mb: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.0f}" for name, value in asdict(self).items())


def held(place: Place) -> Held:
    """Now. Blocking.

    :raises KeyError: if Synapse lacks one of the metrics.
    """
    metrics = place.home.metrics()
    slots = sum(metrics[f"synapse_swift_exchanges_{state}"] for state in ("in_flight", "waiting"))
    return Held(
        place.proxy.connections_open,
        int(metrics["process_open_fds"]),
        int(slots),
        metrics["process_resident_memory_bytes"] / 1e6,
    )


def settle(place: Place, good: Callable[[Held], bool]) -> Held:
    """Wait for Synapse to let go. Blocking.

    :returns: what it held when that was good enough, or when the time was over.
    """
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        now = held(place)
        if good(now) or time.monotonic() > deadline:
            return now
        time.sleep(0.5)


def judge_held(place: Place, before: Held, record: Record) -> Held:
    """Compare what Synapse holds with what it held at the beginning."""

    def good(now: Held) -> bool:
        return (
            now.connections <= before.connections
            and now.slots == 0
            and now.descriptors <= before.descriptors + MORE_DESCRIPTORS
        )

    now = settle(place, good)
    if not good(now):
        record.must_not_be(f"Synapse holds on: {now}; at the beginning: {before}")
    if now.memory_mb > before.memory_mb + MORE_MEGABYTES:
        record.must_not_be(f"memory grew from {before.memory_mb:.0f} to {now.memory_mb:.0f} MB")
    return now


def judge_files(home: Home, token: str, record: Record) -> int:
    """Fetch every file that a client was told is stored, through Synapse, and compare.

    :returns: how many were right.
    """
    own = threading.local()

    def right(media: Stored) -> bool:
        if not hasattr(own, "client"):
            own.client = home.synapse.client(token)
        try:
            same = media.same(own.client.download(media.mxc))
        except (requests.RequestException, OSError) as error:
            record.must_not_be(f"lost: {media.mxc}, {media.size} bytes: {kind(error)}: {error}")
            return False
        if not same:
            record.must_not_be(f"damaged: {media.mxc}, {media.size} bytes")
        return same

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(right, record.stored()))


def judge_deleted(account: Account, record: Record, where: str = "Swift") -> int:
    """Of what was deleted in Synapse, nothing may be left in Swift. Blocking.

    But an object without the mark of a homeserver stays: somebody else has stored it, as
    :mod:`tests.soak.decay` does.

    :returns: how many deleted media left nothing.
    """

    def is_marked(name: str) -> bool:
        found = account.call("HEAD", CONTAINER, name)
        return found is not None and "X-Object-Meta-Matrix-Server" in found.headers

    names = account.names(CONTAINER)
    left = [one for one in record.deleted() if file_of(one) in names and is_marked(file_of(one))]
    for media in left:
        record.must_not_be(f"deleted in Synapse and still in {where}: {media.mxc}")
    return len(record.deleted()) - len(left)


def judge_log(home: Home, record: Record, make_it_log: Callable[[], None]) -> None:
    """After SIGHUP the module must still be heard. Blocking.

    :param make_it_log: does what the module logs.
    """
    home.hang_up_and_wait()
    before = home.module_lines()
    make_it_log()
    if home.module_lines() == before:
        record.must_not_be("after SIGHUP the module logs nothing")


def judge_member(member: Member, record: Record) -> int:
    """Fetch every file that a client was told is stored, past Synapse, and compare. Blocking.

    :returns: how many were right.
    """

    def right(media: Stored) -> bool:
        try:
            content = member.account.content(CONTAINER, file_of(media))
        except requests.RequestException as error:
            record.must_not_be(f"{member.name} has not all of {media.mxc}: {error}")
            return False
        if content is None:
            record.must_not_be(f"{member.name} has no {media.mxc}, {media.size} bytes")
            return False
        if not media.same(content):
            record.must_not_be(f"{member.name} has other bytes of {media.mxc}")
            return False
        return True

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(right, record.stored()))


def judge_same_names(members: Sequence[Member], record: Record) -> None:
    """All members have to have objects of the same names, thumbnails too. Blocking."""
    names = {member.name: member.account.names(CONTAINER) for member in members}
    everything = set().union(*names.values())
    for member, has in names.items():
        if lacks := sorted(everything - has):
            record.must_not_be(f"{member} lacks {len(lacks)} objects, such as {lacks[0]}")
