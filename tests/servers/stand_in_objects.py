"""Operations of the RGW stand-in on one object."""

from __future__ import annotations

import hashlib
import json
import re
from email.utils import formatdate
from urllib.parse import unquote

from tests.servers.stand_in_model import EMPTY_MD5, Asked, Reply, Stored, refusal, result

_RANGE = re.compile(r"bytes=(\d*)-(\d*)(?:,.*)?")


class Objects:
    """Called with a request whose container exists.

    :param server: the stand-in, whose containers and limits these are.
    """

    def __init__(self, server) -> None:
        self._server = server

    def handle(self, asked: Asked) -> Reply:
        """Answers a request for an object."""
        held = self._server.containers[asked.container].objects
        if asked.method == "PUT":
            return self._put(asked)
        if asked.query.get("multipart-manifest") == "delete" and asked.method == "DELETE":
            return self._delete_whole(asked)
        if asked.name not in held:
            return refusal(404, "NoSuchKey", asked)
        if asked.method in ("GET", "HEAD"):
            return self._get(asked, held[asked.name])
        if asked.method == "POST":
            # Replaces everything, the mark of a static large object too.
            held[asked.name].metadata = asked.metadata()
            return Reply(202)
        if asked.method == "DELETE":
            del held[asked.name]
            return Reply(204)
        if asked.method == "COPY":
            return self._copy(asked, held[asked.name], asked.headers.get("destination", ""))
        return refusal(405, "MethodNotAllowed", asked)

    # PUT. If-Match and If-None-Match are not looked at.

    def _put(self, asked: Asked) -> Reply:
        source = asked.headers.get("x-copy-from")
        if source is not None:
            found = self._find(source)
            if found is None:
                return refusal(404, "NoSuchKey", asked)
            return self._copy(asked, found, f"{asked.container}/{asked.name}")
        if "content-length" not in asked.headers and "transfer-encoding" not in asked.headers:
            return refusal(411, "MissingContentLength", asked)
        if len(asked.body) > self._server.max_object_bytes:
            return refusal(400, "EntityTooLarge", asked)
        quota = self._server.quota_bytes
        if quota is not None and self._server.bytes_used(asked.container) + len(asked.body) > quota:
            return refusal(413, "QuotaExceeded", asked)
        if asked.query.get("multipart-manifest") == "put":
            return self._put_manifest(asked)
        etag = hashlib.md5(asked.body).hexdigest()
        if asked.headers.get("etag", etag) != etag:
            return self._bad_digest(asked)
        stored = self._store(asked, etag)
        if "x-object-manifest" in asked.headers:
            place, _, prefix = unquote(asked.headers["x-object-manifest"]).partition("/")
            stored.joined = (place, prefix)
        return self._created(stored)

    def _put_manifest(self, asked: Asked) -> Reply:
        if asked.headers.get("etag", EMPTY_MD5) != EMPTY_MD5:
            return self._bad_digest(asked)
        try:
            rows = json.loads(asked.body)
            segments = [(*_split(row["path"]), row.get("size_bytes", -1)) for row in rows]
            # The etags are taken as they were sent, right or wrong, and a range is not read.
            sent = [row.get("etag", "") for row in rows]
            etags = "".join(sent)
        except (ValueError, TypeError, KeyError, AttributeError):
            return refusal(400, "InvalidArgument", asked)
        for number, (place, name, size) in enumerate(segments):
            found = self._find(f"{place}/{name}")
            if found is None:
                return refusal(404, "NoSuchKey", asked)
            if size is None or size not in (-1, len(found.data)):
                return refusal(400, "InvalidArgument", asked)
            segments[number] = (place, name, len(found.data))
        stored = self._store(asked, f'"{hashlib.md5(etags.encode()).hexdigest()}"')
        stored.segments = segments
        stored.metadata["x-object-meta-static-large-object"] = "True"
        return self._created(stored)

    def _store(self, asked: Asked, etag: str) -> Stored:
        metadata = asked.metadata()
        now = self._server.now()
        if "x-delete-after" in asked.headers:
            metadata["x-delete-at"] = str(int(now) + int(asked.headers["x-delete-after"]))
        stored = Stored(asked.body, etag, now, asked.headers.get("content-type"), metadata)
        self._server.containers[asked.container].objects[asked.name] = stored
        return stored

    def _copy(self, asked: Asked, source: Stored, destination: str) -> Reply:
        place, name = _split(unquote(destination))
        if place not in self._server.containers:
            return refusal(404, "NoSuchBucket", asked)
        # Of a large object the manifest is copied: both have the same segments then.
        copy = Stored(**{**vars(source), "metadata": {**source.metadata, **asked.metadata()}})
        copy.modified = self._server.now()
        self._server.containers[place].objects[name] = copy
        return self._created(copy)

    def _created(self, stored: Stored) -> Reply:
        modified = formatdate(stored.modified, usegmt=True)
        return Reply(201, b"", {"Etag": stored.etag, "Last-Modified": modified})

    def _bad_digest(self, asked: Asked) -> Reply:
        reply = refusal(422, "BadDigest", asked)
        reply.headers["Etag"] = asked.headers["etag"]
        return reply

    # GET and HEAD

    def _get(self, asked: Asked, stored: Stored) -> Reply:
        if stored.segments is not None and asked.query.get("multipart-manifest") == "get":
            return Reply(200, b"", {"Etag": EMPTY_MD5})
        body, size, etag = self._content(stored)
        compared = EMPTY_MD5 if stored.segments is not None else etag.strip('"')
        if asked.headers.get("if-match", compared).strip('"') != compared:
            return refusal(412, "PreconditionFailed", asked)
        if asked.headers.get("if-none-match", "").strip('"') == compared:
            return Reply(304)
        headers = {
            "Etag": etag,
            "Content-Type": stored.content_type or "binary/octet-stream",
            "Last-Modified": formatdate(stored.modified, usegmt=True),
            "X-Timestamp": f"{stored.modified:.5f}",
            "Accept-Ranges": "bytes",
            **{name.title(): value for name, value in stored.metadata.items()},
        }
        if stored.segments is not None:
            headers["X-Static-Large-Object"] = "True"
        wanted = _range(asked.headers.get("range"), size)
        if wanted is None:
            return Reply(200, body, headers, length=size, silence=len(body) < size)
        start, end = wanted
        if start >= end:
            # Neither Content-Range nor ETag.
            return refusal(416, "InvalidRange", asked)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        part = body[start:end]
        return Reply(206, part, headers, length=end - start, silence=len(part) < end - start)

    def _content(self, stored: Stored) -> tuple[bytes, int, str]:
        """The bytes up to the first gap, the announced size, and the ETag."""
        if stored.joined is not None:
            place, prefix = stored.joined
            held = (
                self._server.containers[place].objects if place in self._server.containers else {}
            )
            found = [held[name] for name in sorted(held) if name.startswith(prefix)]
            etag = hashlib.md5("".join(part.etag for part in found).encode()).hexdigest()
            body = b"".join(part.data for part in found)
            return body, len(body), f'"{etag}"'
        if stored.segments is None:
            return stored.data, len(stored.data), stored.etag
        body = b""
        for place, name, _ in stored.segments:
            segment = self._find(f"{place}/{name}")
            if segment is None:
                break
            body += segment.data
        return body, sum(size for _, _, size in stored.segments), stored.etag

    # DELETE

    def _delete_whole(self, asked: Asked) -> Reply:
        where = f"/{asked.container}/{asked.name}"
        held = self._server.containers[asked.container].objects
        stored = held.get(asked.name)
        if stored is None:
            return result(asked, 0, 0, [[where, "404 Not Found"]], 400)
        if stored.segments is None:
            return result(asked, 0, 0, [[where, "400 Bad Request"]], 400)
        deleted = missing = 0
        for place, name, _ in stored.segments:
            if self._find(f"{place}/{name}") is None:
                missing += 1
            else:
                del self._server.containers[place].objects[name]
                deleted += 1
        del held[asked.name]
        return result(asked, deleted + 1, missing, [], 200)

    def _find(self, path: str) -> Stored | None:
        place, name = _split(unquote(path))
        container = self._server.containers.get(place)
        return None if container is None else container.objects.get(name)


def _split(path: str) -> tuple[str, str]:
    container, _, name = path.lstrip("/").partition("/")
    return container, name


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last; an empty span is a 416, ``None`` the whole object.

    Of several ranges only the first counts.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
