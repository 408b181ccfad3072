"""What proves that a large object is whole, and what must stay for it to become whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from twisted.internet.defer import CancelledError

from swift_provider.client import Place
from swift_provider.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    NewerObjectError,
    ObjectExistsError,
    ServerBusyError,
    TimedOutError,
)
from tests.client.conftest import Faulty
from tests.client.test_large_objects import MIB, SIZE, Raw, cutting, raw
from tests.client.trouble import (
    SHORT_PATIENCE,
    MakeFile,
    begin,
    content_of,
    soon,
    stored,
)
from tests.servers.faults import BEFORE_RESPONSE, ON_REQUEST, Answer, Cut, Pass, Stall

__all__ = ["cutting", "raw"]

MANIFEST = ("PUT", "multipart-manifest=put")
#: A time that no test run reaches.
LATER = "4102444800"


def commit_manifest(raw: Raw, container: str) -> Any:
    """The manifest that Swift was asked to store, stored at last."""
    listed = raw("GET", f"{container}_segments?format=json").json()
    rows = [
        {
            "path": f"/{container}_segments/{row['name']}",
            "etag": row["hash"],
            "size_bytes": row["bytes"],
        }
        for row in listed
    ]
    return raw("PUT", f"{container}/name?multipart-manifest=put", json.dumps(rows))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda: Answer(504, after=None, times=None, match=MANIFEST), ServerBusyError),
        (lambda: Answer(502, after=None, times=None, match=MANIFEST), ServerBusyError),
        (lambda: Stall(ON_REQUEST, times=None, match=MANIFEST), TimedOutError),
    ],
    ids=["504", "502", "no answer"],
)
async def test_a_manifest_that_swift_commits_late_finds_its_segments(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
    raw: Raw,
    fault: Callable[[], Any],
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the outcome of the manifest's PUT is unknown its segments stay, and the log
    says where.
    """
    faulty.proxy.add(fault())
    sending = cutting(patience=SHORT_PATIENCE, response_timeout=1)
    with pytest.raises(error):
        await sending.put("name", make_file(content_of(SIZE)))
    assert f"stay in the container {container}_segments under name/" in caplog.text
    assert commit_manifest(raw, container).status_code == 201
    assert await stored(store, "name") == content_of(SIZE)


async def test_a_cancelled_manifest_finds_its_segments(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """Swift may go on with a manifest's PUT although its client is gone."""
    faulty.proxy.add(stall := Stall(ON_REQUEST, match=MANIFEST))
    upload = begin(cutting().put("name", make_file(content_of(SIZE))))
    await soon(stall.happened())
    upload.cancel()
    with pytest.raises(CancelledError):
        await soon(upload)
    assert commit_manifest(raw, container).status_code == 201
    assert await stored(store, "name") == content_of(SIZE)


async def test_a_refusal_after_an_unknown_outcome_proves_nothing(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """The first PUT of the manifest may still be stored when the second is refused."""
    faulty.proxy.add(
        Answer(504, after=None, match=MANIFEST), Answer(403, times=None, match=MANIFEST)
    )
    with pytest.raises(AccessDeniedError):
        await cutting().put("name", make_file(content_of(SIZE)))
    assert commit_manifest(raw, container).status_code == 201
    assert await stored(store, "name") == content_of(SIZE)


async def test_a_slow_manifest_gets_a_retry_in_the_module_too(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
) -> None:
    """The time for retries is longer than one response timeout."""
    faulty.proxy.add(stall := Stall(ON_REQUEST, match=MANIFEST))
    sending = cutting(patience=SHORT_PATIENCE, response_timeout=2)
    assert SHORT_PATIENCE.total_seconds < 2
    await sending.put("name", make_file(content_of(SIZE)))
    assert stall.fired == 1
    assert await stored(store, "name") == content_of(SIZE)


async def test_412_is_no_refusal_of_our_own_manifest(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A proxy may send a PUT twice: the first stores the manifest, the second gets 412."""
    faulty.proxy.add(Answer(412, after=None, match=MANIFEST))
    with pytest.raises(ObjectExistsError):
        await cutting().put("name", make_file(content_of(SIZE)), if_absent=True)
    assert commit_manifest(raw, container).status_code == 201
    assert await stored(store, "name") == content_of(SIZE)


@pytest.mark.parametrize("etag", ["", '"0123456789abcdef0123456789abcdef"'])
async def test_a_manifest_without_its_headers_is_not_removed(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
    etag: str,
) -> None:
    """Nothing but the MD5 of the manifest itself shows that it was stored as a file."""
    attempt: list[str] = []

    class Stripped(Answer):
        """The HEAD of our own manifest, by a proxy that removes or changes its headers."""

        def parts(self, method: str) -> tuple[bytes, bytes]:
            sent = next(seen for seen in faulty.proxy.requests if MANIFEST[1] in seen.path)
            attempt.append(sent.headers["x-object-meta-upload-attempt"])
            self.headers = {"X-Object-Meta-Upload-Attempt": attempt[0], "ETag": etag}
            return super().parts(method)

    faulty.proxy.add(
        Cut(BEFORE_RESPONSE, times=None, match=MANIFEST), Stripped(200, match=("HEAD", "/name$"))
    )
    with pytest.raises(ConnectionFailedError):
        await cutting(patience=SHORT_PATIENCE).put("name", make_file(content_of(SIZE)))
    assert attempt
    assert await stored(store, "name") == content_of(SIZE)


async def test_412_beside_a_head_without_metadata_keeps_the_segments(
    faulty: Faulty,
    cutting: Callable[..., Place],
    store: Place,
    container: str,
    make_file: MakeFile,
    raw: Raw,
) -> None:
    """A proxy that removes metadata does not show that the object is another's."""
    store_behind = cutting()
    faulty.proxy.add(
        Answer(412, after=None, match=MANIFEST),
        Pass(match=("HEAD", "/name$")),
        Answer(200, match=("HEAD", "/name$")),
    )
    with pytest.raises(ObjectExistsError):
        await store_behind.put("name", make_file(content_of(SIZE)), if_absent=True)
    assert commit_manifest(raw, container).status_code == 201
    assert await stored(store, "name") == content_of(SIZE)


# What proves that it is whole


async def test_a_large_object_with_all_its_segments_has_no_flaw(
    cutting: Callable[..., Place], container: str, make_file: MakeFile
) -> None:
    """Nothing is wrong with what was just stored."""
    store = cutting()
    await store.put("name", make_file(content_of(SIZE)))
    info = await store.head("name", newest=True)
    assert await store.flaw(info) is None
    assert await store.same_content(info, make_file(content_of(SIZE)))


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        (lambda raw, path: raw("DELETE", path), "is gone"),
        (lambda raw, path: raw("PUT", path, content_of(MIB + 1)), "was replaced"),
        (lambda raw, path: raw("PUT", path, content_of(MIB)[::-1]), "was replaced"),
        (lambda raw, path: raw("POST", path, X_Delete_At=LATER), "will be deleted"),
    ],
    ids=["gone", "longer", "other bytes", "expires"],
)
@pytest.mark.parametrize("number", [0, 2])
async def test_a_manifest_outlives_its_segments(
    cutting: Callable[..., Place],
    container: str,
    make_file: MakeFile,
    raw: Raw,
    change: Callable[[Raw, str], Any],
    flaw: str,
    number: int,
) -> None:
    """HEAD of the manifest looks as before; each segment is asked for by its name."""
    store = cutting()
    stored_as = await store.put("name", make_file(content_of(SIZE)))
    segment = raw.names(f"{container}_segments")[number]
    change(raw, f"{container}_segments/{segment}")
    info = await store.head("name", newest=True)
    assert (info.size, info.etag) == (SIZE, stored_as.etag)
    found = await store.flaw(info)
    assert found is not None
    assert flaw in found
    assert segment in found


async def test_all_segments_are_gone(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw
) -> None:
    """The same without a single segment."""
    store = cutting()
    await store.put("name", make_file(content_of(SIZE)))
    for segment in raw.names(f"{container}_segments"):
        raw("DELETE", f"{container}_segments/{segment}")
    assert "is gone" in str(await store.flaw(await store.head("name", newest=True)))


async def test_an_object_that_expires_is_flawed(
    store: Place, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """Storing it again removes the expiry."""
    raw("PUT", f"{container}/name", b"content", X_Delete_At=LATER)
    assert "X-Delete-At" in str(await store.flaw(await store.head("name", newest=True)))
    await store.put("name", make_file(b"content"))
    assert await store.flaw(await store.head("name", newest=True)) is None


@pytest.mark.parametrize("is_segment", [False, True])
async def test_an_expiry_in_a_container_with_versions(
    cutting: Callable[..., Place], container: str, make_file: MakeFile, raw: Raw, is_segment: bool
) -> None:
    """A HEAD does not show it: the name is a link to the newest version, and the link expires."""
    where = f"{container}_segments" if is_segment else container
    store = cutting()
    await store.put("other", make_file(content_of(SIZE)))
    raw("POST", where, X_Versions_Enabled="true")
    await store.put("name", make_file(content_of(SIZE if is_segment else 100)))
    assert await store.flaw(await store.head("name", newest=True)) is None
    name = next(one for one in raw.names(where) if one.startswith("name"))
    raw("POST", f"{where}/{name}", X_Delete_At=LATER)
    assert "X-Delete-At" in str(await store.flaw(await store.head("name", newest=True)))


async def test_an_object_that_expires_is_not_taken_for_our_first_attempt(
    faulty: Faulty, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """After a lost answer, 412 and the right MD5 are no proof if Swift will delete it."""
    raw("PUT", f"{container}/name", b"content", X_Delete_At=LATER)
    faulty.proxy.add(Answer(503, after=None, match=("PUT", "/name$")))
    with pytest.raises(ObjectExistsError):
        await faulty.store(container).put("name", make_file(b"content"), if_absent=True)


async def test_a_version_that_expires_is_not_taken_for_our_first_attempt(
    faulty: Faulty, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """The same in a container with versions, where it is the link that expires."""
    raw("POST", container, X_Versions_Enabled="true")
    raw("PUT", f"{container}/name", b"content")
    raw("POST", f"{container}/name", X_Delete_At=LATER)
    faulty.proxy.add(Answer(503, after=None, match=("PUT", "/name$")))
    with pytest.raises(ObjectExistsError):
        await faulty.store(container).put("name", make_file(b"content"), if_absent=True)
    links = [one for one in faulty.proxy.requests if "symlink=get" in one.path]
    assert links
    assert all(one.headers.get("x-newest") == "true" for one in links), "all replicas are asked"


async def test_a_202_stores_nothing(
    faulty: Faulty, container: str, make_file: MakeFile, raw: Raw
) -> None:
    """Swift answers so if a newer object is there: it is neither overwritten nor removed."""
    raw("PUT", f"{container}/name", b"newer")
    faulty.proxy.add(Answer(202, after=None, match=("PUT", "/name$")))
    with pytest.raises(ObjectExistsError):
        await faulty.store(container).put("name", make_file(b"content"), if_absent=True)
    assert raw("GET", f"{container}/name").content == b"newer"
    faulty.proxy.add(Answer(202, after=None, times=None, match=("PUT", "/name$")))
    sending = faulty.store(container, patience=SHORT_PATIENCE)
    with pytest.raises(NewerObjectError, match="with a later time"):
        await sending.put("name", make_file(b"content"))
    assert raw("GET", f"{container}/name").content == b"newer"


async def test_a_manifest_of_another_program(store: Place, container: str, raw: Raw) -> None:
    """Ranges, nested manifests and bytes in the manifest itself are looked through."""
    content = content_of(5000)
    raw("PUT", f"{container}/part-1", content[:3000])
    raw("PUT", f"{container}/part-2", content[3000:])
    raw(
        "PUT",
        f"{container}/inner?multipart-manifest=put",
        json.dumps([{"path": f"/{container}/part-1"}, {"path": f"/{container}/part-2"}]),
    )
    rows = [
        {"path": f"/{container}/inner"},
        {"path": f"/{container}/part-1", "range": "0-99"},
        {"data": "bW9yZQ=="},
    ]
    raw("PUT", f"{container}/outer?multipart-manifest=put", json.dumps(rows))
    assert len((await stored(store, "outer")) or b"") == 5000 + 100 + 4
    for name in ("inner", "outer"):
        assert await store.flaw(await store.head(name, newest=True)) is None
    raw("DELETE", f"{container}/part-2")
    assert "part-2 is gone" in str(await store.flaw(await store.head("inner", newest=True)))
    assert "inner is incomplete" in str(await store.flaw(await store.head("outer", newest=True)))


def join(raw: Raw, container: str, name: str, *parts: str) -> None:
    """Put a manifest of objects in the same container."""
    rows = [{"path": f"/{container}/{part}"} for part in parts]
    raw("PUT", f"{container}/{name}?multipart-manifest=put", json.dumps(rows))


async def test_a_manifest_that_contains_itself(store: Place, container: str, raw: Raw) -> None:
    """Swift takes it, and nothing can be read from it."""
    raw("PUT", f"{container}/part", b"content")
    join(raw, container, "one", "part")
    join(raw, container, "two", "one", "one")
    join(raw, container, "one", "two", "two")
    for name in ("one", "two"):
        flaw = begin(store.flaw(await store.head(name, newest=True)))
        assert "its segment" in str(await soon(flaw))


async def test_manifests_that_are_nested_deeply(store: Place, container: str, raw: Raw) -> None:
    """As deep as Swift follows them; one more, and it cannot deliver the object."""
    raw("PUT", f"{container}/0", b"content")
    for number in range(1, 12):
        join(raw, container, str(number), str(number - 1))
    assert raw("GET", f"{container}/10").content == b"content"
    assert await store.flaw(await store.head("10", newest=True)) is None
    with pytest.raises(requests.HTTPError):
        raw("GET", f"{container}/11")
    assert "incomplete" in str(await store.flaw(await store.head("11", newest=True)))


async def test_a_manifest_that_is_named_often(faulty: Faulty, container: str, raw: Raw) -> None:
    """It is looked into once, or the requests would multiply with each level."""
    raw("PUT", f"{container}/0", b"content")
    for number in range(1, 5):
        join(raw, container, str(number), *[str(number - 1)] * 3)
    store = faulty.store(container)
    assert await store.flaw(await store.head("4", newest=True)) is None
    asked = [one for one in faulty.proxy.requests if "multipart-manifest=get" in one.path]
    assert len(asked) == 4
    raw("DELETE", f"{container}/0")
    assert "incomplete" in str(await store.flaw(await store.head("4", newest=True)))


async def test_the_proving_head_asks_all_replicas(
    faulty: Faulty, cutting: Callable[..., Place], container: str, make_file: MakeFile
) -> None:
    """The object's HEAD and each segment's carry ``X-Newest``."""
    store = cutting()
    await store.put("name", make_file(content_of(SIZE)))
    seen = len(faulty.proxy.requests)
    await store.flaw(await store.head("name", newest=True))
    heads = [one for one in faulty.proxy.requests[seen:] if one.method == "HEAD"]
    assert len(heads) == 5
    assert [one.headers.get("x-newest") for one in heads] == ["true"] * 5
