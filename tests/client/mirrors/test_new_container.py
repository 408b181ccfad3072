"""A mirror whose container has still to be made."""

from __future__ import annotations

from twisted.internet import reactor

from swift_provider.client import MirrorSet, Place
from tests.client.mirrors.conftest import Mirrors, Watched, background
from tests.client.trouble import SMALL, begin, content_of, soon, stored, until


async def test_the_container_is_made_when_the_mirror_is_back(
    mirrors: Mirrors, container: str
) -> None:
    """A new mirror with create_container is down when Synapse starts. Then it gets everything."""
    name = f"{container}-new"
    watched = Watched()
    place = mirrors.faulty[1].store(name, name="new", observer=watched, create_container=True)
    new = MirrorSet([mirrors.store.members[0], place], reactor, background)
    await mirrors.stop(1)
    for number in range(3):
        await soon(begin(new.put(f"object{number}", mirrors.make_file(content_of(SMALL)))))
    await until(lambda: not watched.works)
    mirrors.start(1)
    await until(lambda: watched.works and watched.debts == 0)
    plain = Place(mirrors.faulty[1].make_client(), name)
    assert await stored(plain, "object0") == content_of(SMALL)
    await soon(begin(new.close()))


async def test_the_container_is_not_made_unasked(mirrors: Mirrors, container: str) -> None:
    """Without create_container a mirror that has none is left out."""
    watched = Watched()
    place = mirrors.faulty[1].store(f"{container}-none", name="new", observer=watched)
    new = MirrorSet([mirrors.store.members[0], place], reactor, background)
    for number in range(3):
        await soon(begin(new.put(f"object{number}", mirrors.make_file(content_of(SMALL)))))
    await until(lambda: not watched.works)
    seen = len(mirrors.faulty[1].proxy.requests)
    await until(lambda: len(mirrors.faulty[1].proxy.requests) > seen)  # a probe
    assert not watched.works
    await soon(begin(new.close()))
