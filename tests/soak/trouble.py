"""Faults come and go: in the network to Swift and to Keystone, and on Synapse's own machine."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.servers.faults import (
    BEFORE_RESPONSE,
    Answer,
    Cut,
    Fault,
    FlipBit,
    Reset,
    Stall,
    in_request,
    in_response,
)
from tests.soak.place import Place

#: How long one kind of fault stays, and how long there is none after it.
LASTS_SECONDS = (0.5, 3.0)
PEACE_SECONDS = (0.5, 2.5)
#: No request meets faults for ever: each kind has so many turns at most.
TURNS = 6
BURST = 25


class Trouble:
    """Makes it, on the reactor's thread."""

    def __init__(self, reactor: Any, place: Place, random_: random.Random) -> None:
        self._reactor = reactor
        self._proxy = place.proxy
        self._keystone_proxy = place.keystone_proxy
        self._homes = place.homes
        self._random = random_
        self._stopping = False
        self._made: Deferred[None] = Deferred()
        self._stalled: list[Stall] = []
        #: How often each kind came.
        self.came: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], list[Fault]]] = {
            "cut in an answer": lambda: [Cut(in_response(self._offset()), times=TURNS)],
            "reset in an answer": lambda: [Reset(in_response(self._offset()), times=TURNS)],
            "reset in an upload": lambda: [self._on_put(Reset, in_request(self._offset()))],
            "lost answer": lambda: [Cut(BEFORE_RESPONSE, times=TURNS)],
            "silence": lambda: [Stall(BEFORE_RESPONSE, times=3)],
            "silence in an answer": lambda: [Stall(in_response(self._offset()), times=3)],
            "burst of 503": lambda: [Answer(503, times=BURST)],
            "429 with Retry-After": lambda: [Answer(429, headers={"Retry-After": "1"}, times=4)],
            "bits flipped in answers": lambda: [FlipBit(in_response(self._offset()), times=TURNS)],
            "bits flipped in uploads": lambda: [self._on_put(FlipBit, in_request(self._offset()))],
            "rejected token": lambda: [Answer(401, times=3)],
            "proxy restarts": self._restart,
            "Keystone is unreachable": self._keystone_away,
            "Keystone answers 503": lambda: self._keystone_fails(Answer(503, times=BURST)),
            "foreign 200": lambda: [_portal(200)],
            "foreign 404": lambda: [_portal(404)],
            "foreign 200 for uploads": lambda: [_portal(200, match=("PUT", ""))],
            "Keystone's place is a portal": lambda: self._keystone_fails(_portal(200)),
            "Keystone is silent": lambda: self._keystone_fails(Stall(BEFORE_RESPONSE, times=2)),
            "SIGHUP": self._hang_up,
        }
        if place.home.disk.can_be_full:
            self._kinds["full disk"] = self._fill_disk

    async def make(self) -> None:
        """One kind after the other, in any order, until :meth:`stop`."""
        kinds: list[str] = []
        while not self._stopping:
            if not kinds:
                kinds = list(self._kinds)
                self._random.shuffle(kinds)
            await self._one(kinds.pop())
        for fault in self._stalled:  # until now, so that time limits have to pass
            fault.release()
        self._made.callback(None)

    async def _one(self, kind: str) -> None:
        self.came[kind] += 1
        faults = self._kinds[kind]()
        self._proxy.add(*faults)
        await self._wait(LASTS_SECONDS)
        self._proxy.clear()
        self._keystone_proxy.clear()
        for home in self._homes:
            home.disk.empty()
        self._stalled += [fault for fault in faults if isinstance(fault, Stall)]
        await self._wait(PEACE_SECONDS)

    def stop(self) -> None:
        """No more faults after the present one."""
        self._stopping = True

    async def ended(self) -> None:
        """Returns when the network is good again."""
        await self._made

    def _restart(self) -> list[Fault]:
        self._proxy.close_idle()
        self._proxy.reset_connections(4)
        Deferred.fromCoroutine(self._proxy.refuse(self._random.uniform(0.3, 1.5)))
        return []

    def _keystone_away(self) -> list[Fault]:
        self._end_token()
        away = self._keystone_proxy.refuse(self._random.uniform(1, 4))
        Deferred.fromCoroutine(away)
        return []

    def _keystone_fails(self, fault: Fault) -> list[Fault]:
        self._end_token()
        self._keystone_proxy.add(fault)
        return []

    def _end_token(self) -> None:
        """Make Synapse need Keystone now."""
        self._proxy.add(Answer(401, times=1))

    def _hang_up(self) -> list[Fault]:
        for home in self._homes:
            home.hang_up()
        return []

    def _fill_disk(self) -> list[Fault]:
        for home in self._homes:
            home.disk.fill()
        return []

    def _on_put(self, kind, place) -> Fault:
        return kind(place, times=TURNS, match=("PUT", ""))

    def _offset(self) -> int:
        return int(self._random.lognormvariate(9, 2)) % 200_000

    def _wait(self, between: tuple[float, float]) -> Deferred[None]:
        return deferLater(self._reactor, self._random.uniform(*between))


def _portal(status: int, match: tuple[str | None, str] | None = None) -> Fault:
    """What is not Swift answers in its place."""
    page = b"<html><body>Please sign in to this network.</body></html>"
    return Answer(
        status,
        page,
        headers={"Content-Type": "text/html", "ETag": '"5f3a"'},
        times=TURNS,
        match=match,
        foreign=True,
    )
