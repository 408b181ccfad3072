"""Operations of the RGW stand-in on containers and the account."""

from __future__ import annotations

import json
from urllib.parse import unquote

from tests.servers.stand_in_model import Asked, Container, Reply, phrase, refusal, result

#: ``rgw_max_listing_results``: cuts a larger limit without a word.
PAGE_ROWS = 1000
#: So many lines of a bulk-delete are handled; the rest is dropped without a word.
BULK_LINES = 1024


class Listings:
    """Called with a request that has no object.

    :param server: the stand-in, whose containers and limits these are.
    """

    def __init__(self, server) -> None:
        self._server = server

    def account(self, asked: Asked) -> Reply:
        """Lists containers, or deletes in bulk."""
        if asked.method in ("POST", "DELETE") and "bulk-delete" in asked.query:
            return self._bulk_delete(asked)
        if asked.method not in ("GET", "HEAD"):
            return refusal(405, "MethodNotAllowed", asked)
        containers = self._server.containers
        used = {name: self._server.bytes_used(name) for name in containers}
        headers = {
            "X-Account-Container-Count": str(len(containers)),
            "X-Account-Object-Count": str(sum(len(c.objects) for c in containers.values())),
            "X-Account-Bytes-Used": str(sum(used.values())),
        }
        if asked.method == "HEAD":
            return Reply(204, b"", headers)
        rows = [
            {"name": name, "count": len(containers[name].objects), "bytes": used[name]}
            for name in sorted(containers)
        ]
        return self._page(asked, rows, headers)

    def container(self, asked: Asked) -> Reply:
        """Makes, changes, lists or deletes a container."""
        if asked.method == "PUT":
            return self._make(asked)
        if asked.container in self._server.taken:
            return refusal(403, "AccessDenied", asked)
        held = self._server.containers.get(asked.container)
        if held is None:
            return refusal(404, "NoSuchBucket", asked)
        if asked.method == "DELETE":
            if held.objects:
                return refusal(409, "BucketNotEmpty", asked)
            del self._server.containers[asked.container]
            return Reply(204)
        if asked.method == "POST":
            held.metadata.update(_container_metadata(asked))
            return Reply(204)
        if asked.method not in ("GET", "HEAD"):
            return refusal(405, "MethodNotAllowed", asked)
        return self._list(asked, held)

    def _make(self, asked: Asked) -> Reply:
        name = asked.container
        if not 3 <= len(name.encode()) <= 255 or name.startswith("."):
            return refusal(400, "InvalidBucketName", asked)
        if name in self._server.taken:
            return refusal(409, "BucketAlreadyExists", asked)
        policy = asked.headers.get("x-storage-policy")
        if policy is not None and policy not in self._server.policies:
            return refusal(400, "InvalidLocationConstraint", asked)
        held = self._server.containers.get(name)
        if held is None:
            policy = policy or self._server.policies[0]
            held = Container(self._server.now(), policy, _container_metadata(asked))
            self._server.containers[name] = held
            return Reply(201)
        if policy not in (None, held.policy):
            return refusal(409, "BucketAlreadyExists", asked)
        held.metadata.update(_container_metadata(asked))
        return Reply(202)

    def _list(self, asked: Asked, held: Container) -> Reply:
        headers = {
            "X-Container-Object-Count": str(len(held.objects)),
            "X-Container-Bytes-Used": str(self._server.bytes_used(asked.container)),
            "X-Storage-Policy": held.policy,
            "X-Storage-Class": "STANDARD",
            "X-Timestamp": f"{held.made:.5f}" if asked.method == "HEAD" else "0.00000",
            **{name.title(): value for name, value in held.metadata.items()},
        }
        if asked.method == "HEAD":
            return Reply(204, b"", headers)
        rows = []
        for name in sorted(held.objects, key=str.encode):
            folder = _folder(name, asked.query)
            row = {"subdir": folder} if folder else held.objects[name].row(name)
            if row not in rows[-1:]:
                rows.append(row)
        return self._page(asked, rows, headers)

    def _page(self, asked: Asked, rows: list[dict], headers: dict[str, str]) -> Reply:
        """``reverse`` is not looked at; without ``limit`` there is no page."""
        query = asked.query
        limit = query.get("limit", str(len(rows) or 1))
        if not limit.isascii() or not limit.isdigit():
            return refusal(400, "InvalidArgument", asked)
        if limit == "0":
            return Reply(204, b"", headers)
        most = min(int(limit), PAGE_ROWS) if "limit" in query else int(limit)
        kept = []
        for row in rows:
            name = row.get("name") or row["subdir"]
            after = name.encode() > query.get("marker", "").encode()
            before = "end_marker" not in query or name.encode() < query["end_marker"].encode()
            if after and before and name.startswith(query.get("prefix", "")):
                kept.append(row)
        kept = kept[:most]
        if asked.wants_json:
            kind = {"Content-Type": "application/json; charset=utf-8"}
            return Reply(200, json.dumps(kept).encode(), {**headers, **kind})
        if not kept:
            return Reply(204, b"", headers)
        # No newline after the last name.
        text = "\n".join(row.get("name") or row["subdir"] for row in kept)
        return Reply(200, text.encode(), {**headers, "Content-Type": "text/plain; charset=utf-8"})

    def _bulk_delete(self, asked: Asked) -> Reply:
        deleted = missing = 0
        errors = []
        # Split at \n alone: a \r belongs to the name.
        lines = [line for line in asked.body.decode().split("\n") if line]
        for line in lines[:BULK_LINES]:
            status = self._delete_line(unquote(line).removeprefix("/"))
            deleted += status == 204
            missing += status == 404
            if status == 409:
                errors.append([line + "/", phrase(409)])
        return result(asked, deleted, missing, errors, 409 if errors else 200)

    def _delete_line(self, path: str) -> int:
        place, _, name = path.partition("/")
        held = self._server.containers.get(place)
        if held is None or (name and name not in held.objects):
            return 404
        if name:
            del held.objects[name]
        elif held.objects:
            return 409
        else:
            del self._server.containers[place]
        return 204


def _container_metadata(asked: Asked) -> dict[str, str]:
    prefix = "x-container-"
    return {name: value for name, value in asked.headers.items() if name.startswith(prefix)}


def _folder(name: str, query: dict[str, str]) -> str | None:
    """What ``delimiter`` makes of this name in a listing; ``None`` to leave it."""
    delimiter, prefix = query.get("delimiter"), query.get("prefix", "")
    if not delimiter or not name.startswith(prefix):
        return None
    rest, found, _ = name[len(prefix) :].partition(delimiter)
    return prefix + rest + found if found else None
