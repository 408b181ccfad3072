"""Files in segments: whole or not at all, and nothing left over."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_twisted
import requests
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from swift_provider.client import SwiftClient
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    DamagedError,
    FileChangedError,
    ObjectExistsError,
    ObjectTooLargeError,
    ServerBusyError,
)
from tests.client.conftest import Faulty
from tests.client.trouble import (
    LONG_PATIENCE,
    SHORT_PATIENCE,
    MakeFile,
    begin,
    content_of,
    nothing_under_way,
    puts,
    soon,
    stored,
)
from tests.servers.fault_proxy import FaultProxy
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
    in_request,
)
from tests.servers.fixtures import SMALL_MAX_FILE_SIZE, SMALL_REGION
from tests.servers.keystone import Credentials, Keystone
from tests.servers.swift import Swift

MIB = 1024 * 1024
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
def cutting(faulty: Faulty, container: str) -> Callable[..., SwiftClient]:
    """Clients that cut files into segments of one mebibyte, behind the proxy."""

    def make(**options: Any) -> SwiftClient:
        options = {
            "segment_size": MIB,
            "segment_container": f"{container}_segments",
            "patience": LONG_PATIENCE,
            **options,
        }
        return faulty.client(**options)

    return make


def segments_of(faulty: Faulty) -> list[Any]:
    """The PUT requests for segments that the proxy saw, objects only."""
    return [seen for seen in puts(faulty) if re.search(r"_segments/.", seen.path)]


def slo_etag(content: bytes, segment_size: int = MIB) -> str:
    parts = [content[at : at + segment_size] for at in range(0, len(content), segment_size)]
    return hashlib.md5("".join(hashlib.md5(p).hexdigest() for p in parts).encode()).hexdigest()


async def test_a_large_file_becomes_segments_and_a_manifest(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """Segments lie under the object's name and one attempt; deleting removes all of them."""
    client = cutting()
    content = content_of(SIZE)
    info = await client.put_object(container, "a/b", make_file(content))
    assert (info.etag, info.size) == (slo_etag(content), SIZE)
    names = raw.names(f"{container}_segments")
    assert len(names) == 4
    (prefix,) = {name.rpartition("/")[0] for name in names}
    assert re.fullmatch(r"a/b/[0-9a-f]{32}", prefix)
    assert await stored(client, container, "a/b") == content
    head = await client.head_object(container, "a/b")
    assert head.static_large
    assert head.segment_size == MIB
    assert await client.same_content(head, container, make_file(content))
    assert not await client.same_content(head, container, make_file(content[:-1] + b"?"))

    assert await client.delete_object(container, "a/b") is True
    assert await client.delete_object(container, "a/b") is False
    assert raw.names(container) == raw.names(f"{container}_segments") == []


async def test_each_attempt_has_segments_of_its_own(
    cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """An upload never writes over the segments of another one."""
    client = cutting()
    for _ in range(2):
        await client.put_object(container, "name", make_file(content_of(SIZE)))
    assert len(raw.names(f"{container}_segments")) == 8


async def test_segments_go_at_once_but_within_the_slots(
    faulty: Faulty, cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """The segments of one file share the line, and take no more slots than there are."""
    for size, peak in ((8, 4), (3, 3)):
        client = cutting(threadpool_size=size, shares_reactor=False)
        await client.create_container(f"{container}_segments")
        faulty.proxy.clear()
        faulty.proxy.add(Delay(0.3, times=None, match=("PUT", "_segments/")))
        faulty.proxy.exchanges_peak = 0
        await client.put_object(container, "name", make_file(content_of(9 * MIB)))
        assert faulty.proxy.exchanges_peak == peak


async def test_files_up_to_the_segment_size_are_one_object(
    faulty: Faulty, cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """Only what is larger is cut."""
    client = cutting(segment_size=2 * MIB)
    info = await client.put_object(container, "name", make_file(content_of(2 * MIB)))
    assert info.is_plain
    assert segments_of(faulty) == []


# Failed attempts leave nothing


async def test_segments_are_sent_again_like_any_object(
    faulty: Faulty, cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """Each segment has its own tries: lost, refused or damaged, the next try is whole."""
    faulty.proxy.add(
        Reset(in_request(MIB // 2), match=("PUT", "_segments/.*/00000000")),
        FlipBit(in_request(MIB // 2), match=("PUT", "_segments/.*/00000001")),
        Answer(401, match=("PUT", "_segments/.*/00000002")),
        Cut(BEFORE_RESPONSE, match=("PUT", "_segments/.*/00000003")),
    )
    client = cutting()
    # If it were missing, its 404 would race with the first fault.
    await client.create_container(client.settings.segment_container)
    content = content_of(SIZE)
    await client.put_object(container, "name", make_file(content))
    assert len(segments_of(faulty)) == 8
    assert await stored(client, container, "name") == content


LASTING = {
    "refused": (Answer(403, times=None), AccessDeniedError),
    "down": (Answer(503, times=None), ServerBusyError),
    "damaged": (FlipBit(in_request(5), times=None), DamagedError),
}


@pytest.mark.parametrize("fault", LASTING)
async def test_a_segment_that_fails_takes_the_others_with_it(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    fault: str,
) -> None:
    """One segment that cannot be stored: neither object nor segments are left."""
    lasting, kind = LASTING[fault]
    lasting.match = ("PUT", "_segments/.*/00000002")
    faulty.proxy.add(lasting)
    client = cutting(patience=SHORT_PATIENCE)
    await client.create_container(f"{container}_segments")
    with pytest.raises(kind):
        await client.put_object(container, "name", make_file(content_of(SIZE)))
    assert len(segments_of(faulty)) >= 3
    assert raw.names(container) == raw.names(f"{container}_segments") == []
    await nothing_under_way(faulty, client)


async def test_a_file_that_changes_leaves_no_segments(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A change after the first segments were sent is seen, and they are removed."""
    client = cutting()
    source = make_file(content_of(SIZE))
    faulty.proxy.add(stall := Stall(BEFORE_RESPONSE, match=("PUT", "_segments/.*/00000000")))
    await client.create_container(f"{container}_segments")
    upload = begin(client.put_object(container, "name", source))
    await soon(stall.happened())
    with open(source.path, "ab") as file:
        file.write(b"more")
    stall.release()
    with pytest.raises(FileChangedError):
        await soon(upload)
    assert raw.names(container) == raw.names(f"{container}_segments") == []


@pytest.mark.parametrize(
    "match", ["_segments/.*/00000000", "_segments/.*/00000002", "multipart-manifest=put"]
)
@pytest.mark.parametrize("place", [ON_REQUEST, BEFORE_RESPONSE])
async def test_cancelled_at_any_moment(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    match: str,
    place: Any,
) -> None:
    """Cancelling removes the segments, unless the object was complete by then."""
    client = cutting()
    await client.create_container(f"{container}_segments")
    faulty.proxy.add(stall := Stall(place, match=("PUT", match)))
    upload = begin(client.put_object(container, "name", make_file(content_of(SIZE))))
    await soon(stall.happened())
    upload.cancel()
    complete = match == "multipart-manifest=put" and place == BEFORE_RESPONSE
    if complete:
        assert (await soon(upload)).etag == slo_etag(content_of(SIZE))
        assert await stored(client, container, "name") == content_of(SIZE)
    else:
        with pytest.raises(CancelledError):
            await soon(upload)
        assert raw.names(container) == raw.names(f"{container}_segments") == []
    await nothing_under_way(faulty, client)


# The manifest


async def test_a_manifest_that_is_refused_takes_its_segments_with_it(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """Without a manifest the segments are of no use to anybody."""
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "multipart-manifest=put")))
    client = cutting()
    with pytest.raises(AccessDeniedError):
        await client.put_object(container, "name", make_file(content_of(SIZE)))
    assert raw.names(container) == raw.names(f"{container}_segments") == []


@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize("times", [1, None])
async def test_a_manifest_whose_answer_is_lost_is_a_success(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    times: int | None,
    if_absent: bool,
) -> None:
    """If the object is there, it stays, with its segments."""
    faulty.proxy.add(Cut(BEFORE_RESPONSE, times=times, match=("PUT", "multipart-manifest=put")))
    client = cutting(patience=SHORT_PATIENCE)
    content = content_of(SIZE)
    info = await client.put_object(container, "name", make_file(content), if_absent=if_absent)
    assert info.etag == slo_etag(content)
    assert len(raw.names(f"{container}_segments")) == 4
    assert await stored(client, container, "name") == content


async def test_an_older_object_of_the_same_content_is_not_taken_for_the_new_one(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """The segments of a failed attempt go, even if an equal object is there with its own."""
    client = cutting(patience=SHORT_PATIENCE)
    content = content_of(SIZE)
    await client.put_object(container, "name", make_file(content))
    before = raw.names(f"{container}_segments")
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "multipart-manifest=put")))
    with pytest.raises(AccessDeniedError):
        await client.put_object(container, "name", make_file(content))
    assert raw.names(f"{container}_segments") == before
    assert await stored(client, container, "name") == content


async def test_it_stays_unknown_whether_the_manifest_was_stored(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Segments that an object may need are kept, and the log says where."""
    faulty.proxy.add(
        Cut(BEFORE_RESPONSE, times=None, match=("PUT", "multipart-manifest=put")),
        Answer(503, times=None, match=("HEAD", "/name$")),
    )
    client = cutting(patience=SHORT_PATIENCE)
    with pytest.raises(Exception, match="PUT"):
        await client.put_object(container, "name", make_file(content_of(SIZE)))
    assert len(raw.names(f"{container}_segments")) == 4
    assert f"left in {container}_segments under name/" in caplog.text
    faulty.proxy.clear()
    assert await stored(client, container, "name") == content_of(SIZE)


async def test_large_files_do_not_overwrite_either(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """``if_absent`` is looked at before the first segment, and again with the manifest."""
    client = cutting()
    await client.put_object(container, "name", make_file(b"theirs"))
    with pytest.raises(ObjectExistsError):
        await client.put_object(container, "name", make_file(content_of(SIZE)), if_absent=True)
    assert segments_of(faulty) == []
    faulty.proxy.add(Answer(404, match=("HEAD", "/name$")))
    with pytest.raises(ObjectExistsError):
        await client.put_object(container, "name", make_file(content_of(SIZE)), if_absent=True)
    assert segments_of(faulty) != []
    assert raw.names(f"{container}_segments") == []
    assert await stored(client, container, "name") == b"theirs"


async def test_a_manifest_with_a_wrong_etag_is_no_success(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """The answer to the manifest has to prove the whole content."""
    wrong = {"ETag": '"' + hashlib.md5(b"else").hexdigest() + '"'}
    faulty.proxy.add(
        Answer(201, headers=wrong, after=None, times=None, match=("PUT", "multipart-manifest=put"))
    )
    client = cutting(patience=SHORT_PATIENCE)
    with pytest.raises(DamagedError, match="manifest"):
        await client.put_object(container, "name", make_file(content_of(SIZE)))
    assert raw.names(container) == raw.names(f"{container}_segments") == []


# Limits of the cluster


@pytest_twisted.async_yield_fixture
async def small(
    small_swift: Swift, account: Credentials, make_client: Callable[..., SwiftClient]
) -> AsyncIterator[Faulty]:
    """The cluster of small objects, behind a proxy."""
    proxy = FaultProxy(reactor, "127.0.0.1", urlsplit(small_swift.url).port)
    await proxy.start()
    url = proxy.url_for(small_swift.account_url(account.project_id))
    yield Faulty(proxy, url, make_client)
    await proxy.stop()


async def test_the_clusters_limit_makes_segments(small: Faulty, make_file: MakeFile) -> None:
    """A file above ``max_file_size`` is cut, though ``segment_size`` would allow it whole."""
    client = small.client(region_name=SMALL_REGION, patience=LONG_PATIENCE)
    container = f"limit-{uuid4().hex[:8]}"
    await client.create_container(container)
    content = content_of(2 * SMALL_MAX_FILE_SIZE + 1)
    info = await client.put_object(container, "name", make_file(content))
    assert info.etag == slo_etag(content, SMALL_MAX_FILE_SIZE)
    assert len(segments_of(small)) == 4  # three, and one before there was a container
    assert await stored(client, container, "name") == content
    whole = content_of(SMALL_MAX_FILE_SIZE)
    assert (await client.put_object(container, "whole", make_file(whole))).is_plain
    asked = [seen for seen in small.proxy.requests if seen.path == "/info"]
    assert len(asked) == 1


async def test_a_cluster_that_hides_its_limits(small: Faulty, make_file: MakeFile) -> None:
    """Without ``/info`` the usual limits hold; asking costs one try in a long time."""
    client = small.client(region_name=SMALL_REGION, patience=LONG_PATIENCE)
    container = f"limit-{uuid4().hex[:8]}"
    await client.create_container(container)
    small.proxy.add(Answer(503, times=None, match=("GET", "/info")))
    uploads = [
        begin(client.put_object(container, f"name-{n}", make_file(content_of(2 * MIB))))
        for n in range(4)
    ]
    for upload in uploads:
        await soon(upload)
    with pytest.raises(ObjectTooLargeError, match="segment_size"):
        await client.put_object(
            container, "name", make_file(content_of(2 * SMALL_MAX_FILE_SIZE + 1))
        )
    assert len([seen for seen in small.proxy.requests if seen.path == "/info"]) == 1


async def test_a_cluster_without_static_large_objects(
    faulty: Faulty, cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """Where manifests are not known, a file is stored as one object, as long as that goes."""
    info = json.dumps({"swift": {"max_file_size": 5 * MIB}}).encode()
    faulty.proxy.add(Answer(200, info, match=("GET", "/info")))
    stored_as = await cutting().put_object(container, "name", make_file(content_of(SIZE)))
    assert stored_as.is_plain


# Deleting, and the content of others' large objects


async def test_a_deletion_that_is_answered_too_late(
    faulty: Faulty,
    cutting: Callable[..., SwiftClient],
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A deletion whose answer is lost is repeated, and says that there was something."""
    client = cutting()
    for name, size in (("small", 10), ("large", SIZE)):
        await client.put_object(container, name, make_file(content_of(size)))
        faulty.proxy.add(Cut(BEFORE_RESPONSE, match=("DELETE", "")))
        assert await client.delete_object(container, name) is True
    assert raw.names(container) == raw.names(f"{container}_segments") == []


async def test_a_deletion_that_fails_inside(
    faulty: Faulty, cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """Swift answers 200 to a deletion in parts, whatever happened: the verdict is inside."""
    client = cutting(patience=SHORT_PATIENCE)
    await client.put_object(container, "name", make_file(content_of(SIZE)))
    verdict = {
        "Response Status": "400 Bad Request",
        "Errors": [["/x/y", "503 Service Unavailable"]],
        "Number Deleted": 0,
        "Number Not Found": 0,
    }
    faulty.proxy.add(Answer(200, json.dumps(verdict).encode(), match=("DELETE", ""), times=None))
    with pytest.raises(DamagedError, match="1 parts were not deleted"):
        await client.delete_object(container, "name")


async def test_others_static_large_objects_are_compared(
    client: SwiftClient, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """Segments' sizes are read from the manifest where we did not note them."""
    content = content_of(5000)
    rows = []
    for number, part in enumerate((content[:1000], content[1000:4000], content[4000:])):
        raw("PUT", f"{container}/part-{number}", part)
        rows.append({"path": f"/{container}/part-{number}"})
    raw("PUT", f"{container}/slo?multipart-manifest=put", json.dumps(rows))
    info = await client.head_object(container, "slo")
    assert info.static_large
    assert info.segment_size is None
    assert await client.same_content(info, container, make_file(content))
    assert not await client.same_content(info, container, make_file(content[:-1] + b"?"))
    assert not await client.same_content(info, container, make_file(content[:-1]))


async def test_dynamic_large_objects_prove_nothing(
    client: SwiftClient, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """What a listing puts together may be something else a moment later."""
    raw("PUT", f"{container}/parts/1", b"con")
    raw("PUT", f"{container}/parts/2", b"tent")
    raw("PUT", f"{container}/dlo", b"", X_Object_Manifest=f"{container}/parts/")
    info = await client.head_object(container, "dlo")
    assert info.dynamic_large
    assert info.size == 7
    assert not await client.same_content(info, container, make_file(b"content"))


async def test_a_segment_container_may_not_be_made(
    faulty: Faulty, cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile
) -> None:
    """Who may not make the segment container is told so."""
    faulty.proxy.add(Answer(403, times=None, match=("PUT", "_segments$")), Pass())
    with pytest.raises(AccessDeniedError, match="_segments"):
        await cutting().put_object(container, "name", make_file(content_of(SIZE)))


async def test_the_objects_container_is_missing(
    cutting: Callable[..., SwiftClient], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """A large file for a container that does not exist leaves no segments behind."""
    with pytest.raises(ContainerNotFoundError, match="nowhere"):
        await cutting().put_object("nowhere", "name", make_file(content_of(SIZE)))
    assert raw.names(f"{container}_segments") == []
