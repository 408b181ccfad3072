"""Files in segments: whole or not at all, and nothing left over."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
import requests
from twisted.internet.defer import CancelledError

from swift_provider.client import Observer, Place, SwiftClient, clean_up
from swift_provider.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    ContainerNotFoundError,
    DamagedError,
    FileChangedError,
    NewerObjectError,
    ObjectExistsError,
    ServerBusyError,
    SwiftProviderError,
)
from tests.client.conftest import Faulty
from tests.client.trouble import (
    LONG_PATIENCE,
    MIB,
    SHORT_PATIENCE,
    MakeFile,
    begin,
    content_of,
    nothing_in_flight,
    segments_of,
    slo_etag,
    soon,
    stored,
)
from tests.servers.faults import (
    BEFORE_RESPONSE,
    ON_REQUEST,
    Answer,
    Cut,
    Delay,
    FlipBit,
    Pass,
    Reset,
    Stall,
    Then,
    in_request,
)
from tests.servers.keystone import Credentials, Keystone
from tests.servers.swift import Swift

#: Four segments of one mebibyte, the last of them short.
SIZE = 3 * MIB + 12_345


class Raw:
    """Plain requests to an account, past the client."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._headers = {"X-Auth-Token": token}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {**self._headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer = requests.request(method, f"{self.url}/{path}", data=body, headers=sent, timeout=30)
        if answer.status_code != 404:
            answer.raise_for_status()
        return answer

    def names(self, container: str) -> list[str]:
        """What is in a container; nothing if there is none."""
        answer = self("GET", f"{container}?format=json")
        return [row["name"] for row in answer.json()] if answer.ok and answer.content else []


@pytest.fixture
def raw(swift: Swift, keystone: Keystone, account: Credentials) -> Raw:
    return Raw(swift.account_url(account.project_id), keystone.token(account))


@pytest.fixture
def cutting(faulty: Faulty, container: str) -> Callable[..., Place]:
    """Makes stores that cut files into segments of one mebibyte, behind the proxy."""

    def make(into: str = container, **options: Any) -> Place:
        options = {
            "segment_size": MIB,
            "segment_container": f"{container}_segments",
            "patience": LONG_PATIENCE,
            **options,
        }
        return faulty.store(into, **options)

    return make


@pytest_twisted.async_yield_fixture
async def segment_container(client: SwiftClient, container: str) -> AsyncIterator[str]:
    """The container for the segments, made beforehand.

    If it were missing, the first segment would be sent twice.
    """
    name = f"{container}_segments"
    await Place(client, name).create()
    yield name


async def test_a_large_file_becomes_segments_and_a_manifest(
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """Segments lie under the object's name and one attempt; deleting removes all of them."""
    store = cutting()
    content = content_of(SIZE)
    info = await store.put("a/b", make_file(content))
    assert (info.etag, info.size) == (slo_etag(content), SIZE)
    names = raw.names(f"{container}_segments")
    assert len(names) == 4
    (prefix,) = {name.rpartition("/")[0] for name in names}
    assert re.fullmatch(r"a/b/[0-9a-f]{32}", prefix)
    assert await stored(store, "a/b") == content
    head = await store.head("a/b")
    assert head.static_large
    assert head.segment_size == MIB
    assert await store.same_content(head, make_file(content))
    assert not await store.same_content(head, make_file(content[:-1] + b"?"))

    assert await store.delete("a/b") is True
    assert await store.delete("a/b") is False
    assert raw.names(container) == raw.names(f"{container}_segments") == []


async def test_each_attempt_has_segments_of_its_own(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """An upload never writes over the segments of another one."""
    store = cutting()
    for _ in range(2):
        await store.put("name", make_file(content_of(SIZE)))
    assert len(raw.names(f"{container}_segments")) == 8


@pytest.mark.usefixtures("segment_container")
async def test_segments_go_at_once_but_within_the_slots(
    faulty: Faulty, cutting: Callable[..., Place], make_file: MakeFile
) -> None:
    """Four segments of a file are sent at once, within the number of slots."""
    for size, peak in ((8, 4), (3, 3)):
        store = cutting(threadpool_size=size, shares_reactor=False)
        faulty.proxy.clear()
        faulty.proxy.add(Delay(0.3, times=None, match=("PUT", "_segments/")))
        faulty.proxy.exchanges_peak = 0
        await store.put("name", make_file(content_of(9 * MIB)))
        assert faulty.proxy.exchanges_peak == peak


async def test_files_up_to_the_segment_size_are_one_object(
    faulty: Faulty, cutting: Callable[..., Place], make_file: MakeFile
) -> None:
    """A file up to the segment size is not cut."""
    store = cutting(segment_size=2 * MIB)
    info = await store.put("name", make_file(content_of(2 * MIB)))
    assert info.is_plain
    assert segments_of(faulty) == []


# Failed attempts leave nothing


@pytest.mark.usefixtures("segment_container")
async def test_segments_are_sent_again_like_any_object(
    faulty: Faulty, cutting: Callable[..., Place], make_file: MakeFile
) -> None:
    """A segment that is lost, refused or damaged is retried on its own."""
    faulty.proxy.add(
        Reset(in_request(MIB // 2), match=("PUT", "_segments/.*/00000000")),
        FlipBit(in_request(MIB // 2), match=("PUT", "_segments/.*/00000001")),
        Answer(401, match=("PUT", "_segments/.*/00000002")),
        Cut(BEFORE_RESPONSE, match=("PUT", "_segments/.*/00000003")),
    )
    store = cutting()
    content = content_of(SIZE)
    await store.put("name", make_file(content))
    assert len(segments_of(faulty)) == 8
    assert await stored(store, "name") == content


LASTING = {
    "refused": (lambda: Answer(403, times=None), AccessDeniedError),
    "down": (lambda: Answer(503, times=None), ServerBusyError),
    "damaged": (lambda: FlipBit(in_request(5), times=None), DamagedError),
}


@pytest.mark.usefixtures("segment_container")
@pytest.mark.parametrize("fault", LASTING)
async def test_a_segment_that_fails_takes_the_others_with_it(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    fault: str,
) -> None:
    """If a segment cannot be stored, neither the object nor segments are left."""
    make_fault, kind = LASTING[fault]
    lasting = make_fault()
    lasting.match = ("PUT", "_segments/.*/00000002")
    faulty.proxy.add(lasting)
    store = cutting(patience=SHORT_PATIENCE)
    with pytest.raises(kind):
        await store.put("name", make_file(content_of(SIZE)))
    assert len(segments_of(faulty)) >= 3
    assert raw.names(container) == raw.names(f"{container}_segments") == []
    await nothing_in_flight(faulty)


@pytest.mark.usefixtures("segment_container")
async def test_a_file_that_changes_leaves_no_segments(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A change after the first segment was sent is noticed, and the segments are removed."""
    store = cutting()
    source = make_file(content_of(SIZE))
    faulty.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("PUT", "_segments/.*/00000000")))
    upload = begin(store.put("name", source))
    await soon(stall.happened())
    with open(source.path, "ab") as file:
        file.write(b"more")
    stall.release()
    with pytest.raises(FileChangedError):
        await soon(upload)
    assert raw.names(container) == raw.names(f"{container}_segments") == []


@pytest.mark.usefixtures("segment_container")
@pytest.mark.parametrize(
    "match", ["_segments/.*/00000000", "_segments/.*/00000002", "multipart-manifest=put"]
)
@pytest.mark.parametrize("place", [ON_REQUEST, BEFORE_RESPONSE])
async def test_cancelled_at_any_moment(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    match: str,
    place: Any,
) -> None:
    """Cancelling removes the segments, unless a manifest may need them."""
    store = cutting()
    faulty.proxy.add(stall := Stall(place, match=("PUT", match)))
    upload = begin(store.put("name", make_file(content_of(SIZE))))
    await soon(stall.happened())
    upload.cancel()
    manifest = match == "multipart-manifest=put"
    if manifest and place == BEFORE_RESPONSE:
        assert (await soon(upload)).etag == slo_etag(content_of(SIZE))
        assert await stored(store, "name") == content_of(SIZE)
    elif manifest:
        with pytest.raises(CancelledError):
            await soon(upload)
        assert len(raw.names(f"{container}_segments")) == 4
    else:
        with pytest.raises(CancelledError):
            await soon(upload)
        assert raw.names(container) == raw.names(f"{container}_segments") == []
    await nothing_in_flight(faulty)


@pytest.mark.usefixtures("segment_container")
@pytest.mark.parametrize(
    ("cancelled_at", "slow", "logged"),
    [
        ("_segments/.*/00000002", ("DELETE", "_segments/"), "Segments of a failed upload are left"),
        ("multipart-manifest=put", ("HEAD", "/name$"), "It is not known whether"),
    ],
)
async def test_a_cancelled_upload_ends_soon(
    faulty: Faulty,
    cutting: Callable[..., Place],
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cancelled_at: str,
    slow: tuple[str, str],
    logged: str,
) -> None:
    """What it does last has a time limit as a whole; the log says what is left over."""
    monkeypatch.setattr(clean_up, "CANCELLED_CLEAN_UP_SECONDS", 0.5)
    store = cutting()
    faulty.proxy.add(
        stall := Stall(ON_REQUEST, match=("PUT", cancelled_at)),
        Stall(ON_REQUEST, match=slow, times=None),
    )
    upload = begin(store.put("name", make_file(content_of(SIZE))))
    await soon(stall.happened())
    upload.cancel()
    with pytest.raises(CancelledError):
        await soon(upload)
    assert logged in caplog.text
    await nothing_in_flight(faulty)


@pytest.mark.usefixtures("segment_container")
async def test_only_segments_that_were_begun_are_removed(
    faulty: Faulty, cutting: Callable[..., Place], make_file: MakeFile
) -> None:
    """A file of a thousand segments whose first one fails leaves nothing else to remove."""
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "_segments/.*/00000000")))
    with pytest.raises(AccessDeniedError):
        await cutting().put("name", make_file(content_of(SIZE)))
    removed = [one.path[-8:] for one in faulty.proxy.requests if one.method == "DELETE"]
    # Twice, because a 404 is believed only then.
    assert removed == ["00000000"] * 2


# The manifest


async def test_a_manifest_that_is_refused_takes_its_segments_with_it(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """When Swift refuses the manifest, its segments are removed."""
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "multipart-manifest=put")))
    store = cutting()
    with pytest.raises(AccessDeniedError):
        await store.put("name", make_file(content_of(SIZE)))
    assert raw.names(container) == raw.names(f"{container}_segments") == []


@pytest.mark.usefixtures("segment_container")
async def test_a_manifest_that_is_refused_early_costs_its_connection(
    faulty: Faulty, cutting: Callable[..., Place], container: str, make_file: MakeFile
) -> None:
    """The server may read no more from it: the next request would wait in vain."""
    retried: list[Any] = []

    class Retries(Observer):
        def retried(self, error: SwiftProviderError) -> None:
            retried.append(error)

    manifest = ("PUT", "multipart-manifest=put")
    faulty.proxy.add(Answer(401, then=Then.STOP_READING, match=manifest))
    store = cutting(threadpool_size=1, response_timeout=3, observer=Retries())
    await store.put("name", make_file(content_of(SIZE)))
    assert retried == []
    assert [one.status for one in faulty.proxy.requests if manifest[1] in one.path] == [401, 201]


NOT_SEEN = [
    b"Errors:\n/c/name/1, 503 Service Unavailable\n",
    b'{"Errors": [["/c/name/1", "404 Not Found"]], "Response Status": "400 Bad Request"}',
]


@pytest.mark.parametrize("body", NOT_SEEN, ids=["text", "json"])
@pytest.mark.parametrize("times", [1, None])
async def test_a_manifest_whose_segments_swift_could_not_look_at(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    times: int | None,
    body: bytes,
) -> None:
    """It is retried, and the segments stay: they are whole."""
    manifest = ("PUT", "multipart-manifest=put")
    faulty.proxy.add(Answer(400, body, after=None, times=times, match=manifest))
    store = cutting(patience=SHORT_PATIENCE)
    if times is None:
        with pytest.raises(ServerBusyError, match="look at each segment"):
            await store.put("name", make_file(content_of(SIZE)))
    else:
        await store.put("name", make_file(content_of(SIZE)))
        assert await stored(store, "name") == content_of(SIZE)
    assert len(raw.names(f"{container}_segments")) == 4


@pytest.mark.parametrize("times", [1, None])
async def test_a_manifest_that_swift_does_not_store(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    times: int | None,
) -> None:
    """202: a newer object, or a newer deletion, is there. The ETag is right all the same."""
    content = content_of(SIZE)
    headers = {"ETag": f'"{slo_etag(content)}"'}
    manifest = ("PUT", "multipart-manifest=put")
    faulty.proxy.add(Answer(202, after=None, headers=headers, times=times, match=manifest))
    store = cutting(patience=SHORT_PATIENCE)
    if times is None:
        with pytest.raises(NewerObjectError, match="with a later time"):
            await store.put("name", make_file(content))
        assert raw.names(container) == []
    else:
        await store.put("name", make_file(content))
        assert await stored(store, "name") == content
    assert len(raw.names(f"{container}_segments")) == 4


@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize("times", [1, None])
async def test_a_manifest_whose_answer_is_lost_is_a_success(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    times: int | None,
    if_absent: bool,
) -> None:
    """If the manifest was stored, the upload succeeds and the segments stay."""
    faulty.proxy.add(Cut(BEFORE_RESPONSE, times=times, match=("PUT", "multipart-manifest=put")))
    store = cutting(patience=SHORT_PATIENCE)
    content = content_of(SIZE)
    info = await store.put("name", make_file(content), if_absent=if_absent)
    assert info.etag == slo_etag(content)
    assert len(raw.names(f"{container}_segments")) == 4
    assert await stored(store, "name") == content


async def test_an_older_object_of_the_same_content_is_not_taken_for_the_new_one(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A failed attempt removes its own segments, even if an equal object exists."""
    store = cutting(patience=SHORT_PATIENCE)
    content = content_of(SIZE)
    await store.put("name", make_file(content))
    before = raw.names(f"{container}_segments")
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "multipart-manifest=put")))
    with pytest.raises(AccessDeniedError):
        await store.put("name", make_file(content))
    assert raw.names(f"{container}_segments") == before
    assert await stored(store, "name") == content


async def test_it_stays_unknown_whether_the_manifest_was_stored(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Segments that an object may need are kept, and the log names them."""
    faulty.proxy.add(
        Cut(BEFORE_RESPONSE, times=None, match=("PUT", "multipart-manifest=put")),
        Answer(503, times=None, match=("HEAD", "/name$")),
    )
    store = cutting(patience=SHORT_PATIENCE)
    with pytest.raises(ConnectionFailedError, match="PUT"):
        await store.put("name", make_file(content_of(SIZE)))
    assert len(raw.names(f"{container}_segments")) == 4
    assert f"stay in the container {container}_segments under name/" in caplog.text
    faulty.proxy.clear()
    assert await stored(store, "name") == content_of(SIZE)


async def test_large_files_do_not_overwrite_either(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """``if_absent`` is checked before the first segment, and again with the manifest."""
    store = cutting()
    await store.put("name", make_file(b"theirs"))
    with pytest.raises(ObjectExistsError):
        await store.put("name", make_file(content_of(SIZE)), if_absent=True)
    assert segments_of(faulty) == []
    faulty.proxy.add(Answer(404, times=2, match=("HEAD", r"/name\?symlink=get$")))
    with pytest.raises(ObjectExistsError):
        await store.put("name", make_file(content_of(SIZE)), if_absent=True)
    assert segments_of(faulty) != []
    assert raw.names(f"{container}_segments") == []
    assert await stored(store, "name") == b"theirs"


async def test_a_manifest_with_a_wrong_etag_is_no_success(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """The answer to the manifest has to prove the whole content. Its segments stay, as
    Swift has not refused it.
    """
    wrong = {"ETag": '"' + hashlib.md5(b"else").hexdigest() + '"'}
    faulty.proxy.add(
        Answer(201, headers=wrong, after=None, times=None, match=("PUT", "multipart-manifest=put"))
    )
    store = cutting(patience=SHORT_PATIENCE)
    with pytest.raises(DamagedError, match="manifest"):
        await store.put("name", make_file(content_of(SIZE)))
    assert raw.names(container) == []
    assert len(raw.names(f"{container}_segments")) == 4


# Limits of the cluster


# Deleting, and the content of others' large objects


async def test_a_deletion_that_is_answered_too_late(
    faulty: Faulty,
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A deletion whose answer is lost is repeated, and reports that the object existed."""
    store = cutting()
    for name, size in (("small", 10), ("large", SIZE)):
        await store.put(name, make_file(content_of(size)))
        faulty.proxy.add(Cut(BEFORE_RESPONSE, match=("DELETE", "")))
        assert await store.delete(name) is True
    assert raw.names(container) == raw.names(f"{container}_segments") == []


async def test_a_segment_that_cannot_be_deleted(
    faulty: Faulty, cutting: Callable[..., Place], container: str, make_file: MakeFile
) -> None:
    """It is an error; the manifest is gone by then, so no object is without its segments."""
    store = cutting(patience=SHORT_PATIENCE)
    await store.put("name", make_file(content_of(SIZE)))
    faulty.proxy.add(Answer(503, match=("DELETE", f"{container}_segments"), times=None))
    with pytest.raises(ServerBusyError):
        await store.delete("name")
    assert await store.delete("name") is False


@pytest.mark.parametrize("copy", ["elsewhere/a", "elsewhere/b/a", "here/b/a"])
async def test_the_segments_of_a_copied_manifest_stay(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw, copy: str
) -> None:
    """A copy of a manifest is deleted alone: its segments are those of the original."""
    place, _, name = copy.partition("/")
    into = container if place == "here" else f"{container}-copy"
    raw("PUT", into)
    content = content_of(SIZE)
    store = cutting()
    await store.put("a", make_file(content))
    raw("COPY", f"{container}/a?multipart-manifest=get", Destination=f"{into}/{name}")
    copied = cutting(into)
    assert (await copied.head(name)).static_large
    assert await copied.delete(name) is True
    assert await copied.delete(name) is False
    assert await stored(store, "a") == content
    assert await store.delete("a") is True
    assert raw.names(f"{container}_segments") == []


async def test_segments_of_other_tools_stay(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """A segment with another name, or without a mark, may be another object's."""
    store = cutting()
    names = [f"a/1700000000.000000/100/50/{number:08}" for number in range(2)]
    names.append(f"a/{'0' * 32}/00000000")
    raw("PUT", f"{container}_segments")
    for name in names:
        raw("PUT", f"{container}_segments/{name}", b"x")
    rows = [{"path": f"/{container}_segments/{name}"} for name in names]
    raw("PUT", f"{container}/a?multipart-manifest=put", json.dumps(rows))
    assert await store.delete("a") is True
    assert raw.names(container) == []
    assert raw.names(f"{container}_segments") == sorted(names)


async def test_others_static_large_objects_are_compared(
    store: Place, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """Segment sizes that the client did not note are read from the manifest."""
    content = content_of(5000)
    rows = []
    for number, part in enumerate((content[:1000], content[1000:4000], content[4000:])):
        raw("PUT", f"{container}/part-{number}", part)
        rows.append({"path": f"/{container}/part-{number}"})
    raw("PUT", f"{container}/slo?multipart-manifest=put", json.dumps(rows))
    info = await store.head("slo")
    assert info.static_large
    assert info.segment_size is None
    assert await store.same_content(info, make_file(content))
    assert not await store.same_content(info, make_file(content[:-1] + b"?"))
    assert not await store.same_content(info, make_file(content[:-1]))


async def test_dynamic_large_objects_prove_nothing(
    store: Place, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """A dynamic large object is never said to have the same content."""
    raw("PUT", f"{container}/parts/1", b"con")
    raw("PUT", f"{container}/parts/2", b"tent")
    raw("PUT", f"{container}/dlo", b"", X_Object_Manifest=f"{container}/parts/")
    info = await store.head("dlo")
    assert info.dynamic_large
    assert info.size == 7
    assert not await store.same_content(info, make_file(b"content"))


async def test_a_segment_container_may_not_be_made(
    faulty: Faulty, cutting: Callable[..., Place], make_file: MakeFile
) -> None:
    """The error names a segment container that this user may not create."""
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "_segments$")), Pass())
    with pytest.raises(AccessDeniedError, match="_segments"):
        await cutting().put("name", make_file(content_of(SIZE)))


async def test_the_objects_container_is_missing(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """A large file for a container that does not exist leaves no segments behind."""
    with pytest.raises(ContainerNotFoundError, match="nowhere"):
        await cutting(into="nowhere").put("name", make_file(content_of(SIZE)))
    assert raw.names(f"{container}_segments") == []
