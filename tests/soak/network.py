"""The part of the soak in which the network, Swift's objects and the local disk fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Answer, Stall
from tests.soak.decay import Decay
from tests.soak.home import Home
from tests.soak.judge import Held, held, judge_deleted, judge_files, judge_held, judge_log
from tests.soak.load import CLIENTS, CLIENTS_OF_NEIGHBOUR, Load
from tests.soak.offload import Offload
from tests.soak.place import CONTAINER, Place, everything_running
from tests.soak.record import Record, say
from tests.soak.trouble import Trouble

LEAST_LOAD_SECONDS = 30.0
RESTART_EVERY_SECONDS = 120.0
#: Warms Synapse up before anything is counted.
WARM_UP_FILES = 20


def soak(until: float, random_: random.Random) -> dict[str, Any]:
    """:returns: the report, with ``wrong``."""
    # Children end with the thread that made them, so this thread makes them all.
    beside = threading.Thread(target=reactor.run, args=(False,), daemon=True)
    beside.start()
    try:
        with everything_running(reactor, _listen) as place:
            return _soak(place, until, random_)
    finally:
        reactor.callFromThread(reactor.stop)
        beside.join()


def _in_reactor(function: Callable[[], Any]) -> Any:
    """Run a coroutine function on the reactor's thread, and wait for its end."""
    return blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(function()))


def _listen(proxy: FaultProxy) -> None:
    _in_reactor(proxy.start)


@dataclass
class Side:
    """A homeserver, its administrator, and what happened to its media."""

    home: Home
    token: str
    record: Record
    offload: Offload

    @classmethod
    def of(cls, home: Home) -> Side:
        """With a new record."""
        record = Record()
        return cls(home, home.synapse.register("alice", admin=True), record, Offload(home, record))

    def load(self, until: float, clients: int) -> Load:
        """Clients that have not begun."""
        return Load(self.home.synapse, self.token, self.record, until, clients)

    def judge(self, place: Place) -> dict[str, Any]:
        """What became of its media; for the report."""
        came_back = judge_files(self.home, self.token, self.record)
        gone = judge_deleted(place.account, self.record)
        say(
            f"{self.home.synapse.folder.name}: {came_back} of {len(self.record.stored())} files "
            f"came back as they were; {gone} of {len(self.record.deleted())} are deleted."
        )
        return {**self.record.as_mapping(), "came_back_right": came_back, "deleted_right": gone}


def _soak(place: Place, until: float, random_: random.Random) -> dict[str, Any]:
    began = time.monotonic()
    home, neighbour = sides = [Side.of(home) for home in place.homes]
    before = _warm_up(place, home.token)
    say(f"Before: {before}")
    _see_a_slot(place, home.token, home.record)
    load_until = max(until, time.monotonic() + LEAST_LOAD_SECONDS)
    trouble = Trouble(reactor, place, random_)
    reactor.callFromThread(lambda: Deferred.fromCoroutine(trouble.make()))
    reactor.callFromThread(lambda: reactor.callLater(load_until - time.monotonic(), trouble.stop))
    loads = [home.load(load_until, CLIENTS), neighbour.load(load_until, CLIENTS_OF_NEIGHBOUR)]
    for load in loads:
        load.start()
    beside = threading.Thread(target=neighbour.offload.run, args=(load_until,))
    beside.start()
    module: dict[str, float] = {}
    decay = Decay(place.account, CONTAINER, random_)
    _run_and_restart(home, decay, load_until, module)
    beside.join()
    for load in loads:
        load.stop()
    _in_reactor(trouble.ended)
    say(f"The load and the faults are over after {time.monotonic() - began:.0f} s.")
    for side in sides:
        side.offload.last()
    say(f"The last runs of the script are over after {time.monotonic() - began:.0f} s.")
    judge_log(home.home, home.record, lambda: _make_it_log(place, home))
    judged = [side.judge(place) for side in sides]
    after = judge_held(place, before, home.record)
    _add(module, place.home.told_by_module())
    return {
        "seconds": round(time.monotonic() - began, 1),
        "wrong": [text for side in sides for text in side.record.wrong],
        "homeserver": judged[0],
        "neighbour": judged[1],
        "faults": dict(trouble.came),
        "damage_in_swift": dict(decay.came),
        "module": module,
        "before": str(before),
        "after": str(after),
    }


def _warm_up(place: Place, token: str) -> Held:
    """What Synapse holds after a little of everything, without faults."""
    client = place.home.synapse.client(token)
    for number in range(WARM_UP_FILES):
        client.download(client.upload(bytes([number]) * 100_000))
    place.proxy_idle()
    return held(place)


def _see_a_slot(place: Place, token: str, record: Record) -> None:
    """Synapse's gauge has to show an upload in flight: the last check relies on it."""
    stall = Stall(ON_REQUEST, match=("PUT", "local_content"))
    blockingCallFromThread(reactor, place.proxy.add, stall)
    place.home.synapse.client(token).upload(b"stalled")
    blockingCallFromThread(reactor, stall.happened)
    if held(place).slots != 1:
        record.must_not_be(f"one upload is in flight, and Synapse says: {held(place)}")
    blockingCallFromThread(reactor, stall.release)
    blockingCallFromThread(reactor, place.proxy.clear)
    place.proxy_idle()


def _make_it_log(place: Place, side: Side) -> None:
    """A download that needs a second try, which the module logs."""
    (media, *_) = side.record.stored()
    fault = Answer(503, match=("GET", "local_content"))
    blockingCallFromThread(reactor, place.proxy.add, fault)
    side.home.synapse.client(side.token).download(media.mxc)
    blockingCallFromThread(reactor, fault.happened)


def _run_and_restart(side: Side, decay: Decay, until: float, module: dict[str, float]) -> None:
    """The script's runs, damage in Swift, and restarts, until the load is over."""
    began = time.monotonic()
    restart_at = began + min(RESTART_EVERY_SECONDS, (until - began) / 3)
    restarts = 0
    while time.monotonic() < until or not restarts:
        side.offload.run(min(until, restart_at), lambda: decay.spoil(side.home, side.record))
        restarts += 1
        restart_at += RESTART_EVERY_SECONDS
        _add(module, side.home.told_by_module())
        # Every other time the script alone takes the files to Swift.
        side.home.restart(store_local=restarts % 2 == 0)
        side.record.count("restart of Synapse")


def _add(into: dict[str, float], more: dict[str, float]) -> None:
    for name, value in more.items():
        into[name] = into.get(name, 0.0) + value
