"""Members whose objects have another length than the one that is wanted, or do not tell theirs."""

from __future__ import annotations

import hashlib

import pytest

from swift_provider.client import ObjectInfo
from swift_provider.client.answers import are_same
from swift_provider.errors import SwiftProviderError, WrongLengthError
from tests.client.conftest import Sink
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import LARGE, SMALL, begin, content_of, soon, until
from tests.servers.faults import Answer, Then

OBJECT = ("GET", "/object$")


async def get(mirrors: Mirrors, length: int | None) -> bytes:
    sink = Sink()
    await (await mirrors.store.get("object", length=length)).deliver(sink)
    return sink.content


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("wrong", [100, 500_000])
async def test_the_first_has_another_length(
    mirrors: Mirrors, caplog: pytest.LogCaptureFixture, size: int, wrong: int
) -> None:
    """The object comes from the second, and so it does from then on; one line says why."""
    await mirrors.put(content_of(wrong), at=0)
    await mirrors.put(content_of(size), at=1)
    assert await get(mirrors, size) == content_of(size)
    assert await get(mirrors, None) == content_of(size)
    assert (await mirrors.store.head("object", length=size)).size == size
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    for part in ("object comes from second", "first: GET", f"{wrong} bytes", f"not {size}"):
        assert part in line
    for client in mirrors.faulty[0].clients:
        assert client.slots.in_flight == 0


async def test_a_head_of_the_right_length(mirrors: Mirrors) -> None:
    """The same for the facts alone."""
    await mirrors.put(content_of(100), at=0)
    await mirrors.put(content_of(SMALL), at=1)
    info = await mirrors.store.head("object", length=SMALL)
    assert (info.size, info.mirror) == (SMALL, "second")


@pytest.mark.parametrize("second", [None, 200])
async def test_none_has_the_right_length(mirrors: Mirrors, second: int | None) -> None:
    """That is another error than a missing object. No place is blamed for it."""
    await mirrors.put(content_of(100), at=0)
    if second is not None:
        await mirrors.put(content_of(second), at=1)
    for _ in range(4):
        for read in (mirrors.store.get, mirrors.store.head):
            with pytest.raises(WrongLengthError, match=r"first: .* has 100 bytes, and not 60000"):
                await read("object", length=SMALL)
    assert all(one.works for one in mirrors.watched)
    assert await get(mirrors, None) == content_of(100)


async def test_the_right_one_may_be_where_nobody_can_ask(mirrors: Mirrors) -> None:
    """A later request may succeed."""
    await mirrors.put(content_of(100), at=0)
    mirrors.faulty[1].proxy.add(Answer(403, times=None, match=OBJECT))
    with pytest.raises(SwiftProviderError) as caught:
        await mirrors.store.get("object", length=SMALL)
    assert caught.value.temporary
    mirrors.faulty[1].proxy.clear()


async def test_one_place_refuses_another_length(mirrors: Mirrors) -> None:
    """Without mirrors there is nothing to pass over to."""
    await mirrors.put(content_of(SMALL), at=0)
    place = mirrors.store.members[0]
    for read in (place.get, place.head):
        assert await read("object", length=SMALL)
        with pytest.raises(WrongLengthError, match="has 60000 bytes, and not 100"):
            await read("object", length=100)


# A proxy that sends bodies in chunks leaves out the length


async def test_the_rest_of_a_body_without_a_length(mirrors: Mirrors) -> None:
    """It comes from the other member, whose object has the same MD5."""
    content = content_of(500_000)
    await mirrors.put(content)
    lines = [
        "HTTP/1.1 200 OK",
        "X-Trans-Id: tx1",
        f"ETag: {hashlib.md5(content).hexdigest()}",
        "Transfer-Encoding: chunked",
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    proxy = mirrors.faulty[0].proxy
    chunk = b"%x\r\n%b\r\n" % (200_000, content[:200_000])
    proxy.add(Answer(200, raw=head + chunk, match=OBJECT, then=Then.CLOSE))
    proxy.add_optional(Answer(503, times=None, match=OBJECT))
    sink = Sink()
    await soon(begin(mirrors.get(sink=sink)))
    assert sink.content == content
    assert mirrors.requests(1)[-1].headers["range"] == "bytes=200000-"
    await until(lambda: all(one.debts == 0 for one in mirrors.watched))


def _info(size: int | None, etag: str, **more: object) -> ObjectInfo:
    etag = hashlib.md5(etag.encode()).hexdigest()
    return ObjectInfo("object", size, etag, "", "", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (_info(5, "a"), _info(5, "a"), True),
        (_info(5, "a"), _info(6, "a"), False),
        (_info(5, "a"), _info(5, "b", content_crc32=1), False),
        (_info(None, "a"), _info(5, "a"), True),
        (_info(5, "a"), _info(None, "a"), True),
        (_info(None, "a"), _info(5, "b"), False),
        (_info(None, "a"), _info(5, "a", dynamic_large=True), False),
        (
            _info(5, "a", content_crc32=1),
            _info(5, "b", content_crc32=1, static_large=True),
            True,
        ),
        (
            _info(None, "a", content_crc32=1),
            _info(5, "b", content_crc32=1, static_large=True),
            False,
        ),
    ],
)
def test_which_are_the_same(one: ObjectInfo, other: ObjectInfo, same: bool) -> None:
    """Equal ETags show it, also where a length is missing; an equal CRC-32 alone does not."""
    assert are_same(one, other) is same
