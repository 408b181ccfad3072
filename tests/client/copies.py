"""Two places, each behind a proxy of its own, and what the tests of copies ask about them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from swift_provider.client import Place, SwiftClient, copy
from swift_provider.client.answers import ObjectInfo
from tests.client.conftest import Faulty, RecordingProxy
from tests.client.trouble import MIB, SHORT_PATIENCE, nothing_in_flight
from tests.servers.faults import Answer

OWNER = "here.example"


@dataclass
class Side:
    """One of the two places.

    :ivar direct: past the proxy.
    """

    faulty: Faulty
    container: str
    direct: Place
    make_client: Callable[..., SwiftClient]

    @property
    def proxy(self) -> RecordingProxy:
        return self.faulty.proxy

    def place(self, **options: Any) -> Place:
        """By a new client, through the proxy."""
        options = {**self._segments, "patience": SHORT_PATIENCE, **options}
        return Place(self.faulty.client(**options), self.container, "p/", "somebody.else")

    def past_proxy(self, **options: Any) -> Place:
        """By a new client that sees no fault; it uploads as the homeserver OWNER."""
        return Place(self.make_client(**{**self._segments, **options}), self.container, "p/", OWNER)

    @property
    def _segments(self) -> dict[str, Any]:
        return {"segment_size": MIB, "segment_container": f"{self.container}_segments"}

    async def names(self) -> list[str]:
        """Everything that is here, segments too."""
        found = [row.name async for page in self.direct.list() for row in page]
        await self.direct.segments.create()
        segments = [row.name async for page in self.direct.segments.list() for row in page]
        return [*found, *segments]

    def seen(self, method: str) -> list[Any]:
        """The requests for objects, and for segments."""
        return [
            one
            for one in self.proxy.requests
            if one.method == method and f"/{self.container}" in one.path and "/p/" in one.path
        ]


@dataclass
class Pair:
    """Where an object is copied from, and where to."""

    source: Side
    target: Side

    async def copy(self, name: str = "name", if_absent: bool = False) -> ObjectInfo:
        return await copy(self.source.place(), self.target.place(), name, if_absent=if_absent)

    async def nothing_in_flight(self) -> None:
        await nothing_in_flight(self.source.faulty)
        await nothing_in_flight(self.target.faulty)


async def make_side(
    make_faulty: Callable[..., Awaitable[Faulty]], make_client: Callable[..., SwiftClient]
) -> Side:
    container = f"copies-{uuid4().hex[:12]}"
    faulty = await make_faulty()
    client = make_client(segment_container=f"{container}_segments")
    direct = Place(client, container, "p/")
    await direct.create()
    return Side(faulty, container, direct, make_client)


def limits(max_file_size: int, max_segments: int = 1000) -> Answer:
    """A cluster with other limits than the one behind the proxy."""
    answer = {
        "swift": {"max_file_size": max_file_size, "max_object_name_length": 1024},
        "slo": {"max_manifest_segments": max_segments},
    }
    return Answer(200, json.dumps(answer).encode(), match=("GET", "/info"))
