"""``upload`` to several places: each gets each file, and a file goes once all have it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.mirrors import Mirrors, closed_url, silent_url
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def _fill(store: SynapseStore, count: int = 5) -> dict[str, bytes]:
    contents = {}
    for number in range(count):
        content = b"content %d" % number
        contents[store.add_local(f"media-{number}", content)] = content
    return contents


def _upload(mirrors: Mirrors, *options: str, status: int = 0) -> dict[str, Any]:
    return mirrors.run("upload", mirrors.store.base, "--all", *options, status=status)


def test_each_place_gets_each_file(mirrors: Mirrors, store: SynapseStore) -> None:
    """Whether both lack it or one does; then the file goes."""
    contents = _fill(store)
    first, second, *_ = contents
    mirrors.a[first] = contents[first]
    mirrors.b[second] = contents[second]
    summary = _upload(mirrors)
    assert (summary["already_there"], summary["uploaded"], summary["failed"]) == (0, 5, {})
    assert mirrors.a.names() == mirrors.b.names() == set(contents)
    summary = _upload(mirrors, "--delete")
    assert (summary["already_there"], summary["uploaded"], summary["deleted"]) == (5, 0, 5)
    assert store.files() == set()
    assert {name: mirrors.b[name] for name in contents} == contents
    assert {one["left_out"] for one in summary["members"].values()} == {None}


@pytest.mark.parametrize("wrong", ["a", "b"])
@pytest.mark.parametrize("when", ["all", "any"])
def test_other_bytes_in_one_place(
    mirrors: Mirrors, store: SynapseStore, wrong: str, when: str
) -> None:
    """The file stays, whatever the other place has, and the failure names the place."""
    path = store.add_local("abcdef", b"right")
    objects = {"a": mirrors.a, "b": mirrors.b}[wrong]
    objects[path] = b"wrong"
    summary = _upload(mirrors, "--delete", "--delete-when", when, status=1)
    assert summary["failed"] == {f"{wrong}: Swift has another file under this name": 1}
    assert store.files() == {path}
    assert objects[path] == b"wrong"


@pytest.mark.parametrize("other", ["a", "b"])
@pytest.mark.parametrize("size", [7, 2_500_000])
def test_a_file_that_may_be_bad_goes_to_no_place(
    mirrors: Mirrors, store: SynapseStore, other: str, size: int
) -> None:
    """One place has another object of that length, and the database knows no SHA-256."""
    mirrors.configure(of_a={"segment_size": "1M"}, segment_size="1M")
    path = store.add_local("abcdef", bytes(size))
    has, lacks = (mirrors.a, mirrors.b) if other == "a" else (mirrors.b, mirrors.a)
    has[path] = b"r" * size
    for options in ([], ["--delete", "--delete-when", "any"]):
        summary = _upload(mirrors, *options, status=1)
        assert summary["failed"] == {f"{other}: Swift has another file under this name": 1}
        assert (summary["uploaded"], summary["already_there"]) == (0, 0)
    assert lacks.names() == set()
    assert has[path] == b"r" * size
    assert store.files() == {path}


async def test_a_file_that_may_be_bad_and_a_late_listing(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials
) -> None:
    """The place whose listing lacks the object is asked before another place gets the file."""
    path = store.add_local("abcdef", bytes(5))
    mirrors.b[path] = b"right"
    proxy = await _through(swift)
    kind = {"Content-Type": "application/json", "X-Trans-Id": "made-up"}
    proxy.add(Answer(200, b"[]", kind, times=None, match=("GET", "prefix=")))
    mirrors.configure(storage_url=proxy.url_for(swift.account_url(account.project_id)))
    summary = await deferToThread(_upload, mirrors, status=1)
    await proxy.stop()
    assert summary["failed"] == {"b: Swift has another file under this name": 1}
    assert mirrors.a.names() == set()


async def test_a_file_that_may_be_bad_and_a_place_that_cannot_be_asked(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials
) -> None:
    """Its listing has an object, which may be the better copy: no other place gets the file."""
    path = store.add_local("abcdef", bytes(5))
    mirrors.b[path] = b"right"
    proxy = await _through(swift)
    proxy.add(Answer(403, times=None, match=("HEAD", path)))
    mirrors.configure(storage_url=proxy.url_for(swift.account_url(account.project_id)))
    summary = await deferToThread(_upload, mirrors, status=1)
    await proxy.stop()
    assert sum(summary["failed"].values()) == 1
    assert mirrors.a.names() == set()
    assert store.files() == {path}


@pytest.mark.parametrize("known", ["sha256", "length"])
def test_the_database_shows_that_an_object_is_wrong(
    mirrors: Mirrors, store: SynapseStore, known: str
) -> None:
    """It is replaced, and the other place gets the file, too."""
    sha256 = hashlib.sha256(b"right").hexdigest() if known == "sha256" else None
    path = store.add_local("abcdef", b"right", sha256=sha256)
    mirrors.b[path] = b"wrong" if known == "sha256" else b"cut"
    summary = _upload(mirrors)
    assert (summary["uploaded"], summary["replaced"], summary["failed"]) == (1, 1, {})
    assert mirrors.a[path] == mirrors.b[path] == b"right"


def test_an_object_that_will_expire_in_one_place(mirrors: Mirrors, store: SynapseStore) -> None:
    """It is no proof: it is stored again there, before the file goes."""
    (path,) = _fill(store, 1)
    _upload(mirrors)
    mirrors.b.let_expire(path)
    summary = _upload(mirrors, "--delete")
    assert (summary["replaced"], summary["deleted"]) == (1, 1)
    assert "x-delete-at" not in mirrors.b.headers(path)


@pytest.mark.parametrize("away", ["a", "b"])
def test_one_place_is_unreachable(mirrors: Mirrors, store: SynapseStore, away: str) -> None:
    """The other one gets the files, none goes, and the status is 1."""
    contents = _fill(store)
    if away == "a":
        mirrors.configure(of_a={"storage_url": closed_url()})
    else:
        mirrors.configure(storage_url=closed_url())
    there = mirrors.b if away == "a" else mirrors.a
    summary = _upload(mirrors, "--delete", status=1)
    assert there.names() == set(contents) == store.files()
    assert (summary["uploaded"], summary["deleted"], summary["stopped"]) == (5, 0, None)
    assert summary["members"][away]["lacking"] == 5
    assert summary["members"][away]["left_out"].startswith("HEAD ")
    assert summary["told"].count(f"{away} is left out of the rest of this run: HEAD ") == 1
    ended = mirrors.plain("upload", store.base, "--all", "--delete")
    assert ended.returncode == 1
    assert f"Not in {away}: 5 (HEAD " in ended.stdout
    assert f"Left out of this run: {away}: HEAD " in ended.stdout
    assert "Already in Swift: 0" in ended.stdout


def test_one_place_does_not_answer(mirrors: Mirrors, store: SynapseStore) -> None:
    """The run waits for it for a while only, and begins."""
    contents = _fill(store)
    with silent_url() as url:
        mirrors.configure(storage_url=url)
        summary = _upload(mirrors, "--delete", status=1)
    assert mirrors.a.names() == store.files() == set(contents)
    assert "no answer within 5 seconds" in summary["members"]["b"]["left_out"]


def test_one_proof_is_enough(mirrors: Mirrors, store: SynapseStore) -> None:
    """With --delete-when any; the status tells that the other place lacks the files."""
    contents = _fill(store)
    mirrors.configure(storage_url=closed_url())
    summary = _upload(mirrors, "--delete", "--delete-when", "any", status=1)
    assert (summary["deleted"], summary["members"]["b"]["lacking"]) == (5, 5)
    assert store.files() == set()
    assert mirrors.a.names() == set(contents)


def test_no_place_can_be_used(mirrors: Mirrors, store: SynapseStore) -> None:
    """The run does not begin; the error names both."""
    contents = _fill(store)
    mirrors.configure(of_a={"storage_url": closed_url()}, storage_url=closed_url())
    ended = mirrors.plain("upload", store.base, "--all", "--delete", "--delete-when", "any")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.splitlines()[-1].startswith("swift_media_upload: a: HEAD ")
    assert "; b: HEAD " in ended.stderr
    assert store.files() == set(contents)


def test_a_mistake_in_the_configuration(mirrors: Mirrors, store: SynapseStore) -> None:
    """A container that is missing, in one place: the run does not begin."""
    contents = _fill(store)
    mirrors.configure(container="no-such-container")
    ended = mirrors.plain("upload", store.base, "--all", "--delete", "--delete-when", "any")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "\nswift_media_upload: b: HEAD no-such-container: " in ended.stderr
    assert store.files() == set(contents)
    assert mirrors.a.names() == set()


async def _through(swift: Swift) -> FaultProxy:
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    return proxy


async def test_one_place_fails_during_the_run(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials
) -> None:
    """After some files in a row it is left out; the others go on to the place that works."""
    contents = _fill(store, 60)
    proxy = await _through(swift)
    proxy.add(Answer(503, times=None, match=("PUT", "/local_content/")))
    url = proxy.url_for(swift.account_url(account.project_id))
    mirrors.configure(storage_url=url, of_a={"threadpool_size": 4})
    summary = await deferToThread(_upload, mirrors, "--delete", status=1)
    await proxy.stop()
    assert mirrors.a.names() == store.files() == set(contents)
    assert mirrors.b.names() == set()
    b = summary["members"]["b"]
    assert (summary["uploaded"], summary["deleted"], b["lacking"]) == (60, 0, 60)
    assert b["left_out"].startswith("PUT ")
    asked = {one.path for one in proxy.requests if one.method == "PUT"}
    assert len(asked) < 30


async def test_one_file_fails_in_one_place(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials
) -> None:
    """It stays, and is named; all others go."""
    contents = _fill(store)
    failing = sorted(contents)[2]
    proxy = await _through(swift)
    proxy.add(Answer(403, times=None, match=("PUT", failing)))
    mirrors.configure(storage_url=proxy.url_for(swift.account_url(account.project_id)))
    summary = await deferToThread(_upload, mirrors, "--delete", status=1)
    await proxy.stop()
    assert store.files() == {failing}
    assert (summary["deleted"], summary["failed"]) == (4, {})
    assert summary["members"]["b"]["lacking"] == 1
    assert summary["members"]["b"]["left_out"] is None
    assert f"Not in b: {failing}: PUT " in summary["told"]


def test_large_files(mirrors: Mirrors, store: SynapseStore) -> None:
    """Each place has its own segments; a segment that one lost is stored again there."""
    content = bytes(range(256)) * 12 * 1024
    path = store.add_local("large", content)
    mirrors.configure(of_a={"segment_size": "1M"}, segment_size="2M")
    _upload(mirrors)
    assert (len(mirrors.a.segments()), len(mirrors.b.segments())) == (3, 2)
    mirrors.b.delete_segment(1)
    summary = _upload(mirrors, "--delete")
    assert (summary["replaced"], summary["deleted"]) == (1, 1)
    assert mirrors.a[path] == mirrors.b[path] == content


@pytest.mark.parametrize("answers", [True, False])
async def test_a_place_whose_listing_fails(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials, answers: bool
) -> None:
    """It is asked for each object. It is left out if it no longer answers about its container."""
    contents = _fill(store)
    proxy = await _through(swift)
    proxy.add(Answer(503, times=None, match=("GET", rf"/{mirrors.b.container}\?")))
    if not answers:
        container = ("HEAD", f"/{mirrors.b.container}$")
        proxy.add(Answer(204, times=1, match=container), Answer(503, times=None, match=container))
    mirrors.configure(storage_url=proxy.url_for(swift.account_url(account.project_id)))
    summary = await deferToThread(_upload, mirrors, status=0 if answers else 1)
    await proxy.stop()
    left_out = summary["members"]["b"]["left_out"]
    assert left_out is None if answers else left_out.startswith("GET ")
    assert mirrors.b.names() == (set(contents) if answers else set())
