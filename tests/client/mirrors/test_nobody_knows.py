"""A member cannot be asked, and none of the others has the object: nobody knows where it is."""

from __future__ import annotations

from typing import Any

import pytest

from swift_provider.errors import (
    AccessDeniedError,
    AuthError,
    ConfigError,
    ConnectionFailedError,
    ContainerNotFoundError,
    ObjectNotFoundError,
    SwiftProviderError,
    Target,
    UntrustedServerError,
)
from tests.client.conftest import Sink
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import LARGE, SMALL, begin, content_of, soon

WHY = "this is why"
OBJECT = Target("GET", "container", "object")


def refuse(
    mirrors: Mirrors, number: int, monkeypatch: pytest.MonkeyPatch, error: SwiftProviderError
) -> None:
    """A member fails with each read."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("get", "head"):
        monkeypatch.setattr(mirrors.store.members[number], name, fail)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "error",
    [
        AuthError(WHY),
        ConfigError(WHY),
        OBJECT.error(AccessDeniedError, WHY, status=403),
        OBJECT.error(ContainerNotFoundError, WHY, status=404),
        OBJECT.error(UntrustedServerError, WHY),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_one_cannot_be_asked(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, error: SwiftProviderError, number: int
) -> None:
    """It may have the object. So a later request may succeed, and the error says why not now."""
    refuse(mirrors, number, monkeypatch, error)
    for read in (mirrors.store.get, mirrors.store.head):
        with pytest.raises(SwiftProviderError, match=WHY) as caught:
            await soon(begin(read("object")))
        assert caught.value.temporary
        assert caught.value.mirror == ("first", "second")[number]


async def test_one_is_left_out_and_the_other_refuses(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no reason to say that no later request can succeed."""
    open_breaker(mirrors)
    refuse(mirrors, 1, monkeypatch, AuthError(WHY))
    with pytest.raises(SwiftProviderError, match=WHY) as caught:
        await soon(begin(mirrors.store.get("object")))
    assert caught.value.temporary


async def test_the_rest_while_its_member_is_left_out(mirrors: Mirrors) -> None:
    """The other member lacks the object; the one that began to deliver it is waited for."""
    await mirrors.put(content_of(LARGE), at=0)
    download = await mirrors.store.get("object")
    open_breaker(mirrors)
    sink = Sink()
    part = range(1_000_000, LARGE)
    await soon(download.deliver(sink, part))
    assert sink.content == content_of(LARGE)[part.start :]


async def test_the_rest_of_what_one_lacks_and_the_other_refuses(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download fails, though not for good."""
    await mirrors.put(content_of(LARGE), at=0)
    download = await mirrors.store.get("object")

    async def fail(*_: Any) -> Any:
        raise AuthError(WHY)

    rest: Any = download.rest  # type: ignore[attr-defined]
    (beginning,) = rest._rests.values()
    monkeypatch.setattr(beginning, "request", fail)
    with pytest.raises(SwiftProviderError, match=WHY) as caught:
        await soon(download.deliver(Sink(), range(1_000_000, LARGE)))
    assert caught.value.temporary


async def test_all_say_that_there_is_none(mirrors: Mirrors) -> None:
    """Then it is known."""
    await mirrors.put(content_of(SMALL), "other")
    for read in (mirrors.store.get, mirrors.store.head):
        with pytest.raises(ObjectNotFoundError):
            await read("object")


def open_breaker(mirrors: Mirrors) -> None:
    """Leave the first member out, until a probe has asked it."""
    while mirrors.watched[0].works:
        mirrors.store._members[0].failed(OBJECT.error(ConnectionFailedError, "refused"))
