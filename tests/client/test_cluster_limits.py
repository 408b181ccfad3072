"""The cluster's limits, and files that are cut because of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_twisted

from swift_provider.client import SwiftClient, cluster_limits
from swift_provider.client.cluster_limits import ClusterLimits
from swift_provider.errors import ObjectTooLargeError
from tests.client.conftest import Faulty, RecordingProxy
from tests.client.trouble import (
    LONG_PATIENCE,
    MIB,
    MakeFile,
    begin,
    content_of,
    segments_of,
    slo_etag,
    soon,
    stored,
)
from tests.servers.faults import Answer
from tests.servers.fixtures import SMALL_MAX_FILE_SIZE, SMALL_REGION
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

LIMITS = json.dumps({"swift": {"max_file_size": 7 * MIB}}).encode()


@pytest_twisted.async_yield_fixture
async def small(
    small_swift: Swift,
    account: Credentials,
    make_client: Callable[..., SwiftClient],
    make_fault_proxy: Callable[..., Awaitable[RecordingProxy]],
) -> AsyncIterator[Faulty]:
    """The cluster of small objects, behind a proxy."""
    proxy = await make_fault_proxy(urlsplit(small_swift.url).port)
    url = proxy.url_for(small_swift.account_url(account.project_id))
    yield Faulty(proxy, url, make_client)


async def test_the_clusters_limit_makes_segments(small: Faulty, make_file: MakeFile) -> None:
    """A file above ``max_file_size`` is cut, though ``segment_size`` would allow it whole."""
    store = small.store(
        f"limit-{uuid4().hex[:8]}", region_name=SMALL_REGION, patience=LONG_PATIENCE
    )
    await store.create()
    content = content_of(2 * SMALL_MAX_FILE_SIZE + 1)
    info = await store.put("name", make_file(content))
    assert info.etag == slo_etag(content, SMALL_MAX_FILE_SIZE)
    assert len(segments_of(small)) == 4  # three, and one before there was a container
    assert await stored(store, "name") == content
    whole = content_of(SMALL_MAX_FILE_SIZE)
    assert (await store.put("whole", make_file(whole))).is_plain
    asked = [seen for seen in small.proxy.requests if seen.path == "/info"]
    assert len(asked) == 1


async def test_a_cluster_that_hides_its_limits(small: Faulty, make_file: MakeFile) -> None:
    """Without ``/info`` the usual limits hold, and the client does not ask for each file."""
    store = small.store(
        f"limit-{uuid4().hex[:8]}", region_name=SMALL_REGION, patience=LONG_PATIENCE
    )
    await store.create()
    small.proxy.add(Answer(503, times=None, match=("GET", "/info")))
    uploads = [begin(store.put(f"name-{n}", make_file(content_of(2 * MIB)))) for n in range(4)]
    for upload in uploads:
        await soon(upload)
    with pytest.raises(ObjectTooLargeError, match="segment_size"):
        await store.put("name", make_file(content_of(2 * SMALL_MAX_FILE_SIZE + 1)))
    assert len([seen for seen in small.proxy.requests if seen.path == "/info"]) == 1


async def test_a_cluster_without_static_large_objects(
    faulty: Faulty, container: str, make_file: MakeFile
) -> None:
    """Where manifests are not supported, a file is stored as one object."""
    info = json.dumps({"swift": {"max_file_size": 5 * MIB}}).encode()
    faulty.proxy.add(Answer(200, info, match=("GET", "/info")))
    stored_as = await faulty.store(container, segment_size=MIB).put(
        "name", make_file(content_of(4 * MIB))
    )
    assert stored_as.is_plain


GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("size", "wanted", "max_segments", "expected"),
    [
        (10 * MIB, 10 * MIB, 1000, None),
        (10 * MIB + 1, 10 * MIB, 1000, 10 * MIB),
        (10 * MIB + 1, GIB, 1000, None),
        (2 * GIB + 1, 4 * GIB, 1000, 2 * GIB),
        (100 * MIB, 10 * MIB, 3, 34_952_534),
        (100 * MIB, 10 * MIB, 0, None),
    ],
)
async def test_the_size_of_segments(
    faulty: Faulty, size: int, wanted: int, max_segments: int, expected: int | None
) -> None:
    """Segments have the wanted size, within the cluster's limits on their size and number."""
    limits = {
        "swift": {"max_file_size": 2 * GIB},
        "slo": {"max_manifest_segments": max_segments},
    }
    faulty.proxy.add(Answer(200, json.dumps(limits).encode(), match=("GET", "/info")))
    assert await faulty.client().cluster.segment_size(size, wanted) == expected


async def test_a_small_file_needs_no_limits(faulty: Faulty) -> None:
    """For a file up to one mebibyte the client does not ask for the limits."""
    assert await faulty.client().cluster.segment_size(MIB, 1000) is None
    assert faulty.proxy.requests == []


async def test_the_limits_are_asked_for_once(faulty: Faulty) -> None:
    """Several requests for the limits share one answer."""
    client = faulty.client()
    faulty.proxy.add(Answer(200, LIMITS, match=("GET", "^/info$")))
    asked = [begin(client.cluster.limits()) for _ in range(3)]
    for limits in asked:
        assert await soon(limits) == ClusterLimits(7 * MIB, 0, (), hides_manifests=True)
    assert len(faulty.proxy.requests) == 1


async def test_asked_again(faulty: Faulty) -> None:
    """The limits are asked for again at once. Without an answer those from before hold."""
    cluster = faulty.client().cluster
    faulty.proxy.add(Answer(200, LIMITS, match=("GET", "^/info$")))
    before = await cluster.limits()
    faulty.proxy.add(Answer(503, match=("GET", "^/info$")))
    cluster.ask_again()
    assert await cluster.limits() == before
    assert await cluster.limits() == before
    assert len(faulty.proxy.requests) == 2
    cluster.ask_again()
    assert (await cluster.limits()).temp_url_digests


async def test_openstack_swift_keeps_what_is_there(faulty: Faulty) -> None:
    """A real Swift says so; a cluster that does not say what it is gets no such trust."""
    assert (await faulty.client().cluster.limits()).keeps_existing
    faulty.proxy.add(Answer(404, times=None, match=("GET", "^/info$")))
    assert not (await faulty.client().cluster.limits()).keeps_existing


@pytest.mark.parametrize("status", [200, 302, 403, 404])
@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"[]", b'{"error": "login"}'])
async def test_a_page_in_the_place_of_the_limits_is_not_kept(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    """The usual limits hold for a while; then the client asks again, and keeps the answer."""
    monkeypatch.setattr(cluster_limits, "ASK_AGAIN_SECONDS", 0.0)
    cluster = faulty.client().cluster
    faulty.proxy.add(
        Answer(status, body, match=("GET", "^/info$"), foreign=True),
        Answer(200, LIMITS, match=("GET", "^/info$")),
    )
    assert await cluster.limits() == ClusterLimits()
    for _ in range(2):
        assert await cluster.limits() == ClusterLimits(7 * MIB, 0, (), hides_manifests=True)
    assert len(faulty.proxy.requests) == 2


ODD = ["-1", "1e999", "5e9", "true", "null", '"5"', "[]", "5" * 5000, "[" * 100_000]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_file_size", "0"),
        ("max_file_size", "1"),
        *(("max_file_size", value) for value in ODD),
        *(("max_manifest_segments", value) for value in ODD),
    ],
    ids=range(2 + 2 * len(ODD)),
)
async def test_a_limit_that_no_cluster_can_have(faulty: Faulty, key: str, value: str) -> None:
    """The usual one holds in its place."""
    section = "swift" if key == "max_file_size" else "slo"
    rest = '"slo": {}' if section == "swift" else '"swift": {}'
    body = f'{{"{section}": {{"{key}": {value}}}, {rest}}}'.encode()
    faulty.proxy.add(Answer(200, body, match=("GET", "^/info$")))
    limits = await faulty.client().cluster.limits()
    usual = ClusterLimits()
    assert (limits.max_file_size, limits.max_segments) == (usual.max_file_size, usual.max_segments)


@pytest.mark.parametrize("slo", ["null", "5", "[]"])
async def test_a_section_that_cannot_be_read(faulty: Faulty, slo: str) -> None:
    """Static large objects are there, and their limits unknown."""
    body = b'{"swift": {}, "slo": %b}' % slo.encode()
    faulty.proxy.add(Answer(200, body, match=("GET", "^/info$")))
    limits = await faulty.client().cluster.limits()
    assert limits.max_segments == ClusterLimits().max_segments
