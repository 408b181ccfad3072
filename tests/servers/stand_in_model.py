"""What the RGW stand-in keeps, and how its answers look."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus

#: RGW takes it for the MD5 of every manifest: the md5 of nothing.
EMPTY_MD5 = hashlib.md5(b"").hexdigest()


@dataclass
class Reply:
    """An answer.

    :param length: ``Content-Length``, if it is not the body's; ``None`` for the body's.
    :param silence: after the body, say nothing more and keep the connection for a while.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    silence: bool = False


@dataclass
class Asked:
    """A request, taken apart.

    :param container: ``None`` for the account.
    :param name: the object's; ``None`` for the container itself.
    :param headers: names in lower case.
    :param query: each parameter's first value.
    """

    method: str
    container: str | None
    name: str | None
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes

    @property
    def wants_json(self) -> bool:
        """RGW does not weigh: a list in ``Accept`` gets text."""
        return (
            self.query.get("format") == "json" or self.headers.get("accept") == "application/json"
        )

    def metadata(self) -> dict[str, str]:
        """The headers that stay with an object."""
        return {
            name: value
            for name, value in self.headers.items()
            if name.startswith("x-object-meta-") or name == "x-delete-at"
        }


@dataclass
class Stored:
    """An object.

    :param data: the bytes; for a manifest the JSON as it was sent.
    :param etag: in quotes for a large object.
    :param segments: container, name and size of each; ``None`` for a plain object.
    :param joined: container and prefix of a dynamic large object.
    """

    data: bytes
    etag: str
    modified: float
    content_type: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    segments: list[tuple[str, str, int]] | None = None
    joined: tuple[str, str] | None = None

    def row(self, name: str) -> dict[str, object]:
        """The object in a JSON listing; a manifest counts as what was sent."""
        when = datetime.fromtimestamp(self.modified, timezone.utc)
        row: dict[str, object] = {
            "name": name,
            "hash": self.etag if self.segments is None else EMPTY_MD5,
            "bytes": len(self.data),
            "last_modified": when.strftime("%Y-%m-%dT%H:%M:%S.")
            + f"{when.microsecond // 1000:03}Z",
        }
        if self.content_type is not None:
            row["content_type"] = self.content_type
        return row


@dataclass
class Container:
    """A container and its objects."""

    made: float
    policy: str = "default-placement"
    metadata: dict[str, str] = field(default_factory=dict)
    objects: dict[str, Stored] = field(default_factory=dict)


def refusal(status: int, code: str, asked: Asked | None = None) -> Reply:
    """An error with RGW's code as its body, and nothing more."""
    if asked is not None and asked.wants_json:
        body, kind = json.dumps({"Code": code}).encode(), "application/json; charset=utf-8"
    else:
        body, kind = code.encode(), "text/plain; charset=utf-8"
    return Reply(status, body, {"Content-Type": kind})


def phrase(status: int) -> str:
    """``404 Not Found``, as rows and results inside a body have it."""
    return f"{status} {HTTPStatus(status).phrase}"


def result(asked: Asked, deleted: int, missing: int, errors: list, status: int) -> Reply:
    """What a bulk-delete says: always 200, the truth is inside."""
    content = {
        "Number Deleted": deleted,
        "Number Not Found": missing,
        "Errors": errors,
        "Response Status": phrase(status),
        "Response Body": "",
    }
    if asked.wants_json:
        kind, body = "application/json; charset=utf-8", json.dumps(content)
    else:
        kind, body = "text/plain", "\n".join(f"{key}: {value}" for key, value in content.items())
    return Reply(200, body.encode(), {"Content-Type": kind})
