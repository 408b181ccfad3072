"""Uploads over a bad network: what is in Swift in the end is the file, or nothing."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from swift_provider.client import FileSource, Place, clean_up
from swift_provider.errors import (
    AccessDeniedError,
    DamagedError,
    FileChangedError,
    ObjectExistsError,
    ServerBusyError,
)
from tests.client.conftest import Faulty
from tests.client.trouble import (
    HUGE,
    LARGE,
    LONG_PATIENCE,
    NO_TIME,
    SHORT_PATIENCE,
    SMALL,
    MakeFile,
    begin,
    content_of,
    nothing_in_flight,
    puts,
    soon,
    stored,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Fault,
    FlipBit,
    Reset,
    Stall,
    Then,
    in_request,
)

# A fresh body for each attempt


FAULTS: dict[str, Callable[[int], Fault]] = {
    "401": lambda size: Answer(401),
    "401 after the body": lambda size: Answer(401, after=None),
    "503": lambda size: Answer(503),
    "503 after the body": lambda size: Answer(503, after=None),
    "408": lambda size: Answer(408, then=Then.CLOSE),
    "499": lambda size: Answer(499, after=size // 2),
    "lost before": lambda size: Reset(ON_REQUEST),
    "lost within": lambda size: Reset(in_request(size // 2)),
    "ended within": lambda size: Cut(in_request(size // 2)),
    "answer lost": lambda size: Reset(BEFORE_RESPONSE),
    "no answer": lambda size: Stall(BEFORE_RESPONSE),
    "stalled": lambda size: Stall(in_request(size // 2)),
}


@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (fault, size)
        for fault in FAULTS
        for size in (0, SMALL, LARGE)
        if size or fault != "stalled"  # what has no bytes has no middle
    ],
)
async def test_each_try_sends_all_of_the_file(
    faulty: Faulty,
    store: Place,
    container: str,
    make_file: MakeFile,
    fault: str,
    size: int,
) -> None:
    """Whatever the first attempt ended in, the second one sends the whole file."""
    limit = 1.0 if fault in ("no answer", "stalled") else 30.0
    failing = faulty.store(
        container, patience=LONG_PATIENCE, response_timeout=limit, idle_timeout=limit
    )
    faulty.proxy.add(happens := FAULTS[fault](size))
    happens.match = ("PUT", "")
    content = content_of(size)
    info = await failing.put("name", make_file(content))
    assert info.etag == hashlib.md5(content).hexdigest()
    assert await stored(store, "name") == content
    first, *_, second = puts(faulty)
    assert first.headers["content-length"] == second.headers["content-length"] == str(size)
    assert "transfer-encoding" not in second.headers
    assert (second.status, second.request_bytes) == (201, size)
    assert happens.taken == 1
    await nothing_in_flight(faulty)


async def test_small_bodies_are_declared(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """The MD5 of a small body is sent along, so that Swift can refuse damage."""
    await faulty.store(container).put("name", make_file(b"content"))
    assert puts(faulty)[0].headers["etag"] == hashlib.md5(b"content").hexdigest()


# Damage on the way


async def test_damage_in_a_small_body_is_refused_and_sent_again(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """Swift refuses a damaged small body, and the upload is retried."""
    faulty.proxy.add(FlipBit(in_request(SMALL // 2), match=("PUT", "")))
    await faulty.store(container).put("name", make_file(content_of(SMALL)))
    assert [seen.status for seen in puts(faulty)] == [422, 201]
    assert await stored(store, "name") == content_of(SMALL)


@pytest.mark.parametrize("if_absent", [False, True])
async def test_damage_in_a_large_body_is_seen_in_the_answer(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, if_absent: bool
) -> None:
    """The damaged object of the first attempt is overwritten, also with ``if_absent``."""
    faulty.proxy.add(FlipBit(in_request(LARGE // 2), match=("PUT", "")))
    source = make_file(content_of(LARGE))
    await faulty.store(container).put("name", source, if_absent=if_absent)
    assert [seen.status for seen in puts(faulty)] == [201, 201]
    assert await stored(store, "name") == content_of(LARGE)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_lasting_damage_is_an_error_and_leaves_nothing(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, size: int
) -> None:
    """An object that was damaged in each attempt is removed."""
    failing = faulty.store(container, patience=SHORT_PATIENCE)
    await failing.check()  # signing in takes no patience then
    faulty.proxy.add(FlipBit(in_request(size // 2), match=("PUT", ""), times=None))
    with pytest.raises(DamagedError):
        await failing.put("name", make_file(content_of(size)))
    assert len(puts(faulty)) > 1
    assert await stored(store, "name") is None
    await nothing_in_flight(faulty)


@pytest.mark.parametrize("after", [Answer(403, times=None), Answer(503, times=None)])
async def test_damage_followed_by_another_failure_leaves_nothing(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, after: Answer
) -> None:
    """A damaged object is removed also if the next attempts fail in another way."""
    after.match = ("PUT", "")
    faulty.proxy.add(FlipBit(in_request(LARGE // 2), match=("PUT", "")), after)
    with pytest.raises((AccessDeniedError, ServerBusyError)):
        await faulty.store(container, patience=SHORT_PATIENCE).put(
            "name", make_file(content_of(LARGE))
        )
    assert await stored(store, "name") is None


async def test_a_wrong_answer_about_a_right_object_removes_nothing(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """If the object turns out to be the file, the upload succeeds and the object stays."""
    content = content_of(LARGE)
    await store.put("name", make_file(content))
    wrong = {"ETag": hashlib.md5(b"something else").hexdigest()}
    faulty.proxy.add(Answer(201, headers=wrong, after=None, times=None, match=("PUT", "")))
    failing = faulty.store(container, patience=NO_TIME)
    info = await failing.put("name", make_file(content))
    assert info.etag == hashlib.md5(content).hexdigest()
    assert await stored(store, "name") == content


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "other bytes"])
async def test_answers_without_an_etag_remove_nothing(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, size: int, same: bool
) -> None:
    """A proxy that removes ETags hides what was stored; that does not show any damage."""
    content = content_of(size)
    there = content if same else b"an older object"
    await store.put("name", make_file(there))
    bare = {"X-Timestamp": "1700000000.00000", "Content-Length": str(len(there))}
    faulty.proxy.add(
        Answer(201, after=None, times=None, match=("PUT", "")),
        Answer(200, headers=bare, match=("HEAD", "/name$")),
    )
    failing = faulty.store(container, patience=NO_TIME)
    with pytest.raises(DamagedError, match="lacks the ETag"):
        await failing.put("name", make_file(content))
    assert await stored(store, "name") == there


async def test_an_object_that_is_not_the_damaged_one_is_not_removed(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """Only the object with the very ETag of the wrong answer is ours to remove."""
    await store.put("name", make_file(b"theirs"))
    wrong = {"ETag": hashlib.md5(b"damaged").hexdigest()}
    faulty.proxy.add(Answer(201, headers=wrong, after=None, times=None, match=("PUT", "")))
    failing = faulty.store(container, patience=NO_TIME)
    with pytest.raises(DamagedError, match="not what was sent"):
        await failing.put("name", make_file(content_of(SMALL)))
    assert await stored(store, "name") == b"theirs"


async def test_an_etag_that_only_the_put_lacks(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile
) -> None:
    """The proof then comes from a HEAD."""
    content = content_of(SMALL)
    await store.put("name", make_file(content))
    faulty.proxy.add(Answer(201, after=None, times=None, match=("PUT", "")))
    info = await faulty.store(container, patience=NO_TIME).put("name", make_file(content))
    assert info.etag == hashlib.md5(content).hexdigest()


async def test_a_cancelled_upload_of_damage_ends_soon(
    faulty: Faulty,
    container: str,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The look for the damaged object has a time limit."""
    monkeypatch.setattr(clean_up, "CANCELLED_CLEAN_UP_SECONDS", 0.5)
    faulty.proxy.add(
        FlipBit(in_request(LARGE // 2), match=("PUT", "")),
        second := Stall(ON_REQUEST, match=("PUT", "")),
        Stall(ON_REQUEST, match=("HEAD", "/name$")),
    )
    upload = begin(faulty.store(container).put("name", make_file(content_of(LARGE))))
    await soon(second.happened())
    upload.cancel()
    with pytest.raises(CancelledError):
        await soon(upload)
    assert "A damaged object may be left in Swift" in caplog.text
    await nothing_in_flight(faulty)


# if_absent


async def test_if_absent_does_not_overwrite(store: Place, make_file: MakeFile) -> None:
    """An upload with ``if_absent`` leaves an existing object as it is."""
    for size in (10, 2_000_000):
        name = f"object-{size}"
        await store.put(name, make_file(b"first"), if_absent=True)
        with pytest.raises(ObjectExistsError):
            await store.put(name, make_file(content_of(size)), if_absent=True)
        assert (await store.head(name)).size == len(b"first")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_lost_answer_is_not_somebody_elses_object(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, size: int
) -> None:
    """A 412 to the second attempt is a success if the first attempt stored the object."""
    faulty.proxy.add(Cut(BEFORE_RESPONSE, match=("PUT", "")))
    content = content_of(size)
    info = await faulty.store(container).put("name", make_file(content), if_absent=True)
    assert (info.etag, info.size) == (hashlib.md5(content).hexdigest(), size)
    assert [seen.status for seen in puts(faulty)] == [201, 412]
    assert await stored(store, "name") == content


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_somebody_elses_object_is_told_from_ours(
    faulty: Faulty, store: Place, container: str, make_file: MakeFile, size: int
) -> None:
    """A 412 to the second attempt is an error if another object is there."""
    await store.put("name", make_file(b"theirs"))
    faulty.proxy.add(Answer(503, match=("PUT", "")))
    with pytest.raises(ObjectExistsError):
        await faulty.store(container).put("name", make_file(content_of(size)), if_absent=True)
    assert await stored(store, "name") == b"theirs"


# Reading the file


class Watched(FileSource):
    """Records what is read, and in which thread."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.bytes_read = 0
        self.threads: set[threading.Thread] = set()

    def read_at(self, offset: int, length: int) -> bytes:
        self.bytes_read += length
        self.threads.add(threading.current_thread())
        return super().read_at(offset, length)


async def test_a_server_that_takes_nothing_stops_the_reading(
    faulty: Faulty, store: Place, container: str, tmp_path: Path
) -> None:
    """A large file is read in threads: once for its CRC-32, and then no further than the
    server takes it.
    """
    (tmp_path / "huge").write_bytes(content_of(HUGE))
    sending = faulty.store(container)
    faulty.proxy.add(stall := Stall(in_request(0), match=("PUT", "")))
    with Watched.open(tmp_path / "huge") as source:
        upload = begin(sending.put("name", source))
        await soon(stall.happened())
        assert source.bytes_read >= HUGE
        source.bytes_read -= HUGE
        seen = -1
        while source.bytes_read != seen:
            seen = source.bytes_read
            await deferLater(reactor, 0.2)
        assert source.bytes_read < HUGE * 2 / 3
        stall.release()
        await soon(upload)
        assert source.bytes_read == HUGE
        assert threading.main_thread() not in source.threads
    head = await store.head("name")
    assert head.etag == hashlib.md5(content_of(HUGE)).hexdigest()


def grow(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path: str) -> None:
    os.truncate(path, 1000)


def rewrite(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(b"something else")


@pytest.mark.parametrize("change", [grow, shrink, rewrite])
async def test_a_file_that_changes_while_it_is_sent_is_not_stored(
    faulty: Faulty,
    store: Place,
    container: str,
    make_file: MakeFile,
    change: Callable[[str], None],
) -> None:
    """The last bytes of a file that changed are not sent, so Swift stores nothing."""
    sending = faulty.store(container)
    faulty.proxy.add(stall := Stall(in_request(100_000), match=("PUT", "")))
    source = make_file(content_of(HUGE))
    upload = begin(sending.put("name", source))
    await soon(stall.happened())
    change(source.path)
    stall.release()
    with pytest.raises(FileChangedError, match=source.path):
        await soon(upload)
    await nothing_in_flight(faulty)
    assert await stored(store, "name") is None
    assert len(puts(faulty)) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("change", [grow, shrink, rewrite])
async def test_a_file_that_changed_since_it_was_opened_is_not_stored(
    faulty: Faulty,
    store: Place,
    container: str,
    make_file: MakeFile,
    size: int,
    change: Callable[[str], None],
) -> None:
    """A file that changed after it was opened is not stored."""
    sending = faulty.store(container)
    source = make_file(content_of(size))
    change(source.path)
    with pytest.raises(FileChangedError):
        await sending.put("name", source)
    await nothing_in_flight(faulty)
    assert await stored(store, "name") is None
