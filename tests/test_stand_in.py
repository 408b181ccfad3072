"""The stand-in answers as Ceph's RGW was measured to, where that differs from Swift."""

from __future__ import annotations

import hashlib
import hmac
import json
from urllib.parse import quote

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed

from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import EMPTY_MD5


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Client:
    """Requests to one stand-in, with its token."""

    def __init__(self, server: RgwStandIn) -> None:
        self.server = server
        self.pool = HTTPConnectionPool(reactor, persistent=True)
        self._agent = Agent(reactor, pool=self.pool)

    async def __call__(self, method, path="", body=None, token="stand-in-token", **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["X-Auth-Token"] = token
        url = path if path.startswith("http") else self.server.url + path
        response = await treq.client.HTTPClient(self._agent).request(
            method, url, headers=sent, data=body
        )
        response.body = await response.content()
        response.plain = {
            name.decode().lower(): values[0].decode()
            for name, values in response.headers.getAllRawHeaders()
        }
        return response

    async def slo(self, names=("a", "b"), **changes):
        """Segments named so, of 1000 bytes each, and a manifest ``/box/big`` of them."""
        rows = []
        for name in names:
            data = name.encode() * 1000
            await self("PUT", f"/parts/{name}", data)
            row = {"path": f"/parts/{name}", "size_bytes": 1000, "etag": md5(data), **changes}
            rows.append(row)
        manifest = json.dumps(rows).encode()
        return manifest, await self("PUT", "/box/big?multipart-manifest=put", manifest)


@pytest_twisted.async_yield_fixture
async def rgw():
    """A stand-in with the containers ``box`` and ``parts``, and a client."""
    server = RgwStandIn(reactor)
    await server.start()
    client = Client(server)
    for name in ("box", "parts"):
        assert (await client("PUT", f"/{name}")).code == 201
    yield client
    await client.pool.closeCachedConnections()
    await server.stop()


async def test_put_ignores_conditions(rgw):
    """``If-None-Match: *`` over an existing object is 201, and the object is overwritten."""
    await rgw("PUT", "/box/a", b"old")
    again = await rgw("PUT", "/box/a", b"new", If_None_Match="*", If_Match="nothing")
    assert again.code == 201
    assert (await rgw("GET", "/box/a")).body == b"new"


async def test_put_checks_a_bare_lower_case_etag(rgw):
    """A wrong, quoted or upper-case ETag is 422 and stores nothing; the answer repeats it."""
    right = md5(b"data")
    for etag in (md5(b"other"), f'"{right}"', right.upper()):
        refused = await rgw("PUT", "/box/a", b"data", ETag=etag)
        assert (refused.code, refused.plain["etag"]) == (422, etag)
    assert (await rgw("HEAD", "/box/a")).code == 404
    stored = await rgw("PUT", "/box/a", b"data", ETag=right)
    assert (stored.code, stored.plain["etag"]) == (201, right)


async def test_put_too_large_is_400(rgw):
    """More than the limit is 400 EntityTooLarge; over quota is 413 QuotaExceeded."""
    rgw.server.max_object_bytes = 10
    refused = await rgw("PUT", "/box/a", b"x" * 11)
    assert (refused.code, refused.body) == (400, b"EntityTooLarge")
    rgw.server.quota_bytes = 5
    refused = await rgw("PUT", "/box/a", b"x" * 6)
    assert (refused.code, refused.body) == (413, b"QuotaExceeded")


@pytest.mark.parametrize(("path", "code"), [("/box/no", "NoSuchKey"), ("/none/a", "NoSuchBucket")])
async def test_404_names_what_is_missing(rgw, path, code):
    """The body, text or JSON, tells object from container; HEAD announces it without sending it."""
    text = await rgw("GET", path)
    assert (text.code, text.body) == (404, code.encode())
    as_json = await rgw("GET", path, Accept="application/json")
    assert as_json.json is not None
    assert json.loads(as_json.body) == {"Code": code}
    head = await rgw("HEAD", path)
    assert (head.code, head.body) == (404, b"")
    assert head.plain["content-length"] == str(len(code)) in ("9", "12")


async def test_204_and_304_have_no_length(rgw):
    """A 204 and a 304 come without Content-Length, and the 304 without ETag."""
    await rgw("PUT", "/box/a", b"data")
    same = await rgw("GET", "/box/a", If_None_Match=md5(b"data"))
    assert same.code == 304
    assert "etag" not in same.plain
    assert (await rgw("GET", "/box/a", If_None_Match="*")).code == 200
    gone = await rgw("DELETE", "/box/a")
    assert gone.code == 204
    for answer in (same, gone):
        assert "content-length" not in answer.plain
        assert answer.plain["x-trans-id"].startswith("tx")


@pytest.mark.parametrize(
    ("wanted", "code", "body"),
    [
        ("bytes=2-4", 206, b"cde"),
        ("bytes=8-", 206, b"ijk"),
        ("bytes=-2", 206, b"jk"),
        ("bytes=0-99", 206, b"abcdefghijk"),
        ("bytes=0-1,4-5", 206, b"ab"),
        ("bytes=11-", 416, b"InvalidRange"),
        ("bytes=5-2", 416, b"InvalidRange"),
    ],
)
async def test_ranges(rgw, wanted, code, body):
    """Only the first range counts; a 416 has neither Content-Range nor ETag."""
    await rgw("PUT", "/box/a", b"abcdefghijk")
    got = await rgw("GET", "/box/a", Range=wanted, If_Match=f'"{md5(b"abcdefghijk")}"')
    assert (got.code, got.body) == (code, body)
    assert ("content-range" in got.plain, "etag" in got.plain) == (code == 206, code == 206)


async def test_ranges_of_nothing(rgw):
    """Every range of an empty object is 416."""
    await rgw("PUT", "/box/a", b"")
    for wanted in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        assert (await rgw("GET", "/box/a", Range=wanted)).code == 416


async def test_if_match_on_a_plain_object(rgw):
    """Its ETag matches, quoted or bare; another, a list and ``*`` are 412."""
    await rgw("PUT", "/box/a", b"data")
    right = md5(b"data")
    codes = [
        (await rgw("GET", "/box/a", If_Match=etag)).code
        for etag in (right, f'"{right}"', EMPTY_MD5, f'"{right}", "x"', "*")
    ]
    assert codes == [200, 200, 412, 412, 412]


async def test_large_object(rgw):
    """Its ETag is quoted and joined from what was sent; the whole can be read, also by range."""
    manifest, made = await rgw.slo()
    etag = f'"{md5((md5(b"a" * 1000) + md5(b"b" * 1000)).encode())}"'
    assert (made.code, made.plain["etag"]) == (201, etag)
    whole = await rgw("GET", "/box/big")
    assert whole.body == b"a" * 1000 + b"b" * 1000
    assert whole.plain["etag"] == etag
    assert whole.plain["x-static-large-object"] == "True"
    assert (await rgw("GET", "/box/big", Range="bytes=999-1000")).body == b"ab"
    row = json.loads((await rgw("GET", "/box?format=json")).body)[0]
    assert (row["bytes"], row["hash"]) == (len(manifest), EMPTY_MD5)
    used = await rgw("HEAD", "/box")
    assert used.plain["x-container-bytes-used"] == str(len(manifest))


async def test_if_match_on_a_large_object(rgw):
    """Its own ETag is 412 on GET, HEAD and Range; the md5 of nothing matches; never a 304."""
    _, made = await rgw.slo()
    etag = made.plain["etag"]
    for sent in (etag, etag.strip('"')):
        assert (await rgw("GET", "/box/big", If_Match=sent)).code == 412
        assert (await rgw("HEAD", "/box/big", If_Match=sent)).code == 412
        assert (await rgw("GET", "/box/big", If_Match=sent, Range="bytes=5-")).code == 412
        assert (await rgw("GET", "/box/big", If_None_Match=sent)).code == 200
    assert (await rgw("GET", "/box/big", If_Match=EMPTY_MD5)).code == 200


async def test_manifest_is_hardly_checked(rgw):
    """Wrong etags and ranges pass; a wrong size or null is 400, a missing segment 404."""
    assert (await rgw.slo(etag="wrong"))[1].code == 201
    assert (await rgw.slo(range="0-1"))[1].code == 201
    assert (await rgw("GET", "/box/big")).body == b"a" * 1000 + b"b" * 1000
    for changes in ({"size_bytes": 999}, {"size_bytes": None}, {"etag": None}):
        assert (await rgw.slo(**changes))[1].code == 400
    missing = await rgw.slo(path="/parts/none")
    assert missing[1].code == 404


async def test_manifest_with_etag_header(rgw):
    """The manifest's real ETag is refused with 422; only the md5 of nothing passes."""
    manifest, made = await rgw.slo()
    await rgw("DELETE", "/box/big")
    put = ("PUT", "/box/big?multipart-manifest=put", manifest)
    assert (await rgw(*put, ETag=made.plain["etag"])).code == 422
    assert (await rgw("HEAD", "/box/big")).code == 404
    assert (await rgw(*put, ETag=EMPTY_MD5)).code == 201


async def test_manifest_cannot_be_read_back(rgw):
    """``multipart-manifest=get`` is 200 with nothing in it."""
    await rgw.slo()
    got = await rgw("GET", "/box/big?multipart-manifest=get")
    assert (got.code, got.body, got.plain["etag"]) == (200, b"", EMPTY_MD5)
    assert "x-static-large-object" not in got.plain


async def test_gap_in_a_large_object(rgw):
    """With a segment gone the full length is announced, what is before it comes, then silence."""
    rgw.server.silence_seconds = 0.1
    await rgw.slo(("a", "b", "c"))
    await rgw("DELETE", "/parts/b")
    assert (await rgw("HEAD", "/box/big")).plain["content-length"] == "3000"
    began = reactor.seconds()
    with pytest.raises(ResponseFailed):
        await rgw("GET", "/box/big")
    assert reactor.seconds() - began > 0.08
    assert (await rgw("GET", "/box/big", Range="bytes=0-999")).body == b"a" * 1000


async def test_copy_shares_segments(rgw):
    """A copy of a large object is a second manifest over the same segments."""
    await rgw.slo()
    assert (await rgw("COPY", "/box/big", Destination="/box/twin")).code == 201
    assert (await rgw("PUT", "/box/third", b"", X_Copy_From="/box/big")).code == 201
    deleted = await rgw("DELETE", "/box/big?multipart-manifest=delete&format=json")
    assert json.loads(deleted.body)["Number Deleted"] == 3
    for name in ("twin", "third"):
        assert (await rgw("HEAD", f"/box/{name}")).plain["content-length"] == "2000"
    assert not rgw.server.containers["parts"].objects


async def test_delete_with_segments(rgw):
    """The result is inside a 200: a segment that is gone, a plain object, a missing one."""
    await rgw.slo()
    await rgw("DELETE", "/parts/a")
    await rgw("PUT", "/box/plain", b"x")

    async def delete(name):
        path = f"/box/{name}?multipart-manifest=delete"
        answer = await rgw("DELETE", path, Accept="application/json")
        assert answer.code == 200
        inside = json.loads(answer.body)
        counts = inside["Number Deleted"], inside["Number Not Found"]
        return inside["Response Status"], *counts, len(inside["Errors"])

    assert await delete("big") == ("200 OK", 2, 1, 0)
    assert await delete("plain") == ("400 Bad Request", 0, 0, 1)
    assert await delete("big") == ("400 Bad Request", 0, 0, 1)
    assert (await rgw("HEAD", "/box/plain")).code == 200


async def test_post_replaces_metadata(rgw):
    """A POST replaces all metadata, with it the mark that a manifest had until then."""
    await rgw.slo()
    mark = "x-object-meta-static-large-object"
    assert mark in (await rgw("HEAD", "/box/big")).plain
    await rgw("POST", "/box/big", X_Object_Meta_Colour="red")
    head = (await rgw("HEAD", "/box/big")).plain
    assert (mark in head, head["x-object-meta-colour"]) == (False, "red")
    assert head["x-static-large-object"] == "True"


async def test_dynamic_large_object(rgw):
    """``X-Object-Manifest`` joins what has the prefix, and the ETag is quoted."""
    await rgw("PUT", "/parts/d/1", b"one")
    await rgw("PUT", "/parts/d/2", b"two")
    await rgw("PUT", "/box/joined", b"", X_Object_Manifest="parts/d/")
    got = await rgw("GET", "/box/joined")
    assert (got.body, got.plain["etag"][0]) == (b"onetwo", '"')


async def test_pages_stop_at_1000(rgw):
    """A larger limit gives 1000 rows without a word; without a limit all rows come."""
    objects = rgw.server.containers["box"].objects
    await rgw("PUT", "/box/n0000", b"x")
    objects.update({f"n{number:04}": objects["n0000"] for number in range(1234)})
    first = json.loads((await rgw("GET", "/box?format=json&limit=5000")).body)
    assert [first[0]["name"], first[-1]["name"], len(first)] == ["n0000", "n0999", 1000]
    rest = await rgw("GET", "/box?format=json&limit=5000&marker=n0999&reverse=true")
    assert [row["name"] for row in json.loads(rest.body)] == [f"n{n}" for n in range(1000, 1234)]
    assert (await rgw("GET", "/box?format=json&marker=n1233")).body == b"[]"
    assert len((await rgw("GET", "/box")).body.split(b"\n")) == 1234


async def test_listing_forms(rgw):
    """Text has no last newline, JSON rows RGW's time format, and ``Accept`` is not weighed."""
    for name in ("a/1", "a/2", "b"):
        await rgw("PUT", f"/box/{name}", b"x")
    assert (await rgw("GET", "/box")).body == b"a/1\na/2\nb"
    weighed = await rgw("GET", "/box", Accept="application/json, text/plain;q=0.5")
    assert weighed.plain["content-type"].startswith("text/plain")
    rows = json.loads((await rgw("GET", "/box?delimiter=/", Accept="application/json")).body)
    assert rows[0] == {"subdir": "a/"}
    assert rows[1]["last_modified"].endswith("Z")
    assert len(rows[1]["last_modified"]) == len("2026-01-01T00:00:00.000Z")
    assert "content_type" not in rows[1]
    inside = json.loads((await rgw("GET", "/box?format=json&prefix=a/&end_marker=a/2")).body)
    assert [row["name"] for row in inside] == ["a/1"]
    codes = [(await rgw("GET", f"/box?limit={limit}")).code for limit in ("abc", "0")]
    assert codes == [400, 204]


async def test_bulk_delete_stops_at_1024(rgw):
    """Only the first 1024 lines are handled, the rest is dropped without a word."""
    await rgw("PUT", "/box/n0", b"x")
    objects = rgw.server.containers["box"].objects
    objects.update({f"n{number}": objects["n0"] for number in range(1500)})
    names = "\n".join(f"box/n{number}" for number in range(1500)).encode()

    async def delete(body):
        answer = await rgw("POST", "?bulk-delete", body, Accept="application/json")
        assert answer.code == 200
        return json.loads(answer.body)

    first = await delete(names)
    assert (first["Number Deleted"], first["Number Not Found"]) == (1024, 0)
    assert first["Response Status"] == "200 OK"
    again = await delete(names)
    assert (again["Number Deleted"], again["Number Not Found"]) == (0, 1024)
    assert len(objects) == 1500 - 1024
    crlf = await delete(b"/box/n1400\r\nbox/n1401")
    assert (crlf["Number Deleted"], crlf["Number Not Found"]) == (1, 1)
    full = await delete(b"/box")
    assert (full["Response Status"], full["Errors"]) == (
        "409 Conflict",
        [["/box/", "409 Conflict"]],
    )


async def test_containers(rgw):
    """Names are checked, others' names are 409, a full container stays, and policies are kept."""
    for name in ("ab", ".hidden", "x" * 256):
        refused = await rgw("PUT", f"/{name}")
        assert (refused.code, refused.body) == (400, b"InvalidBucketName")
    rgw.server.taken.add("theirs")
    refused = await rgw("PUT", "/theirs")
    assert (refused.code, refused.body) == (409, b"BucketAlreadyExists")
    assert (await rgw("GET", "/theirs")).code == 403
    rgw.server.policies.append("cold")
    codes = [
        (await rgw("PUT", "/box", X_Storage_Policy=policy)).code
        for policy in ("none", "cold", "default-placement")
    ]
    assert codes == [400, 409, 202]
    await rgw("PUT", "/box/a", b"x")
    assert (await rgw("DELETE", "/box")).code == 409
    await rgw("DELETE", "/box/a")
    assert [(await rgw("DELETE", "/box")).code for _ in range(2)] == [204, 404]


async def test_tokens(rgw):
    """Without a good token it is 401 AccessDenied without WWW-Authenticate; v1 sign-in is 204."""
    for token in (None, "other"):
        refused = await rgw("GET", "/box", token=token)
        assert (refused.code, refused.body) == (401, b"AccessDenied")
        assert "www-authenticate" not in refused.plain
    sign_in = rgw.server.auth_url
    wrong = await rgw("GET", sign_in, token=None, X_Auth_User="matrix:synapse", X_Auth_Key="x")
    assert wrong.code == 401
    right = await rgw(
        "GET", sign_in, token=None, X_Auth_User="matrix:synapse", X_Auth_Key="stand-in-key"
    )
    assert (right.code, right.plain["x-storage-url"]) == (204, rgw.server.url)
    assert (await rgw("GET", "/box", token=right.plain["x-auth-token"])).code == 204
    rgw.server.tokens.clear()
    assert (await rgw("GET", "/box", token=right.plain["x-auth-token"])).code == 401


@pytest.mark.parametrize(
    ("signed", "method", "key", "digest", "code"),
    [
        ("/v1/box/a b", "GET", "k", "sha1", 200),
        ("/swift/v1/box/a b", "GET", "k", "sha1", 200),
        ("/v1/box/a b", "HEAD", "k", "sha1", 200),
        ("/v1/box/absent", "GET", "k", "sha1", 404),
        ("/v1/box/a b", "GET", "k", "sha256", 403),
        ("/v1/box/a b", "GET", "other", "sha1", 403),
        ("/v1/box/a b", "PUT", "k", "sha1", 403),
    ],
)
async def test_temporary_urls(rgw, signed, method, key, digest, code):
    """SHA-1 with a key of the account, the path with and without /swift; 403 for all else."""
    await rgw("PUT", "/box/a%20b", b"x")
    rgw.server.temp_url_keys = ["k"]
    message = f"GET\n4000000000\n{signed}".encode()
    signature = hmac.new(key.encode(), message, digest).hexdigest()
    path = quote(signed.removeprefix("/swift").removeprefix("/v1"))
    query = f"temp_url_sig={signature}&temp_url_expires=4000000000&filename=a%20b&m=1"
    answer = await rgw(method, f"{path}?{query}", token=None)
    assert answer.code == code
    if code == 200:
        assert answer.plain["content-disposition"] == 'attachment; filename="a%20b"'
    late = query.replace("4000000000", "1000000000")
    assert (await rgw(method, f"{path}?{late}", token=None)).code == 403


async def test_info_is_under_swift(rgw):
    """``/swift/info`` is JSON, ``/info`` an S3 404 in XML, an account in the path a missing one."""
    root = rgw.server.url.removesuffix("/swift/v1")
    info = json.loads((await rgw("GET", root + "/swift/info")).body)
    assert (info["bulk_delete"], info["slo"]) == ({}, {"max_manifest_segments": 1000})
    s3 = await rgw("GET", root + "/info")
    assert (s3.code, s3.body[:5], s3.plain["content-type"]) == (404, b"<?xml", "application/xml")
    assert (await rgw("GET", "/AUTH_matrix/box")).body == b"NoSuchBucket"


@pytest.mark.parametrize("name", ["a b", "ü/€", "//x//", "100%", "a?b#c&d+e;f", "..", "a/./b"])
async def test_names(rgw, name):
    """Any name comes back as it was, in the object's URL and in the listing."""
    path = "/box/" + quote(name)
    assert (await rgw("PUT", path, name.encode())).code == 201
    assert (await rgw("GET", path)).body == name.encode()
    assert json.loads((await rgw("GET", "/box?format=json")).body)[0]["name"] == name
    assert (await rgw("POST", "?bulk-delete", b"/box/" + quote(name).encode())).code == 200
    assert not rgw.server.containers["box"].objects


async def test_upload_without_length(rgw):
    """A PUT with neither a length nor chunks is 411; a chunked one is stored."""

    class Wire(Protocol):
        data = b""

        def dataReceived(self, data):
            self.data += data
            if b"\r\n\r\n" in self.data:
                self.answered.callback(self.data)

    codes = []
    for head, body in [
        (b"", b""),
        (b"Transfer-Encoding: chunked\r\n", b"4\r\ndata\r\n0\r\n\r\n"),
    ]:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", rgw.server.port)
        wire = Wire()
        wire.answered = Deferred()
        await connectProtocol(endpoint, wire)
        start = b"PUT /swift/v1/box/a HTTP/1.1\r\nHost: x\r\nX-Auth-Token: stand-in-token\r\n"
        wire.transport.write(start + head + b"Connection: close\r\n\r\n" + body)
        answer = await wire.answered
        codes.append(answer.split()[1])
    assert codes == [b"411", b"201"]
    assert (await rgw("GET", "/box/a")).body == b"data"


async def test_stop_leaves_nothing(rgw):
    """``stop`` ends idle and silent connections, and the timer of the silent one."""
    rgw.server.silence_seconds = 500
    await rgw.slo()
    await rgw("DELETE", "/parts/b")
    server = RgwStandIn(reactor)
    server.containers = rgw.server.containers
    server.silence_seconds = 500
    before = set(reactor.getReaders())
    await server.start()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.port)
    wire = Protocol()
    lost: Deferred[None] = Deferred()
    silent: Deferred[None] = Deferred()
    wire.dataReceived = lambda data: data.endswith(b"a") and silent.callback(None)
    wire.connectionLost = lambda reason: lost.callback(None)
    await connectProtocol(endpoint, wire)
    wire.transport.write(
        b"GET /swift/v1/box/big HTTP/1.1\r\nHost: x\r\nX-Auth-Token: stand-in-token\r\n\r\n"
    )
    await silent
    await server.stop()
    await lost
    assert not set(reactor.getReaders()) - before
    assert not [
        call for call in reactor.getDelayedCalls() if call.getTime() > reactor.seconds() + 400
    ]
