"""Two places in the real Swift, each behind a proxy of its own, as mirrors of each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred

from swift_provider.client import FileSource, MirrorSet, Observer, Place
from swift_provider.client.mirrors import member
from tests.client.conftest import Faulty, Sink
from tests.client.trouble import begin, soon

NAMES = ("first", "second")


class Watched(Observer):
    """What the client says of one member.

    :ivar works: whether it is asked.
    :ivar debts: what is owed to it.
    """

    def __init__(self) -> None:
        self.works = True
        self.debts = 0

    def reachable(self, works: bool) -> None:
        self.works = works

    def owed(self, objects: int) -> None:
        self.debts = objects


@dataclass
class Mirrors:
    """A set of two.

    :ivar faulty: the proxies.
    :ivar plain: the same places, past the proxies.
    :ivar watched: what the set's members report.
    """

    store: MirrorSet
    faulty: list[Faulty]
    plain: list[Place]
    watched: list[Watched]
    make_file: Callable[[bytes], FileSource] = field(repr=False)

    async def put(self, content: bytes, path: str = "object", at: int | None = None) -> None:
        """Store a file in the set, or past it in one place."""
        store = self.store if at is None else self.plain[at]
        await store.put(path, self.make_file(content))

    async def get(self, path: str = "object", sink: Sink | None = None) -> bytes:
        """A file out of the set."""
        sink = sink or Sink()
        download = await self.store.get(path)
        await download.deliver(sink)
        return sink.content

    async def stop(self, number: int) -> None:
        """A member refuses connections from now on, and loses those it has."""
        await self.faulty[number].proxy.refuse()
        self.faulty[number].proxy.reset_open()

    def start(self, number: int) -> None:
        """It takes them again."""
        self.faulty[number].proxy.accept_again()

    def requests(self, number: int, method: str = "GET") -> list[Any]:
        """Those for objects that a member got."""
        seen = self.faulty[number].proxy.requests
        return [one for one in seen if one.method == method and one.path.count("/") > 3]


def background(_name: str, work: Callable[[], Any]) -> Deferred[Any]:
    return ensureDeferred(work())


@pytest_twisted.async_yield_fixture
async def mirrors(
    make_faulty: Callable[..., Awaitable[Faulty]],
    store: Place,
    container: str,
    make_file: Callable[[bytes], FileSource],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Mirrors]:
    """Two containers of one account. A place is asked for long before another one is."""
    monkeypatch.setattr(member, "ANSWER_SECONDS", 10.0)
    faulty = [await make_faulty(), await make_faulty()]
    watched = [Watched(), Watched()]
    containers = [container, f"{container}-mirror"]
    plain = [store, Place(faulty[1].make_client(), containers[1])]
    await plain[1].create()
    places = [
        one.store(
            where,
            name=name,
            observer=observer,
            segment_size="1M",
            segment_container=f"{where}_segments",
            threadpool_size=8,
        )
        for one, where, name, observer in zip(faulty, containers, NAMES, watched, strict=True)
    ]
    mirror_set = MirrorSet(places, reactor, background)
    yield Mirrors(mirror_set, faulty, plain, watched, make_file)
    await soon(begin(mirror_set.close()))
