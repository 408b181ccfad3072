"""Whether everything is there that a large object is made of.

A manifest outlives its segments, so each segment is asked for by its name, and each
manifest among them is looked into.
"""

from __future__ import annotations

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.manifest import Row, joined_etag, rows_of_ours, rows_shown
from swift_provider.client.observer import Progress
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.client.symlinks import expires_as_link, is_symlink
from swift_provider.client.together import together
from swift_provider.errors import ContainerNotFoundError, ObjectNotFoundError

#: A manifest lists at most 1000 segments (Swift's ``max_manifest_segments``), each
#: with a name of at most 1024 bytes.
_MANIFEST_BYTES = 2 * 1024 * 1024

#: How many manifests Swift follows from one into the other (``max_slo_recursion_depth``
#: in its ``common/middleware/slo.py``); it cannot deliver an object that is nested deeper.
MOST_NESTED = 10

#: Container and name.
_Place = tuple[str, str]


async def read_manifest(exchange: Exchange) -> bytes:
    """The body of an answer about a manifest."""
    return await exchange.read(_MANIFEST_BYTES)


async def shown(
    requester: Requester, container: str, info: ObjectInfo, progress: Progress | None = None
) -> list[Row] | None:
    """The rows of a manifest; ``None`` if the cluster does not show it."""
    # Not with format=raw, which leaves "sub_slo" out.
    request = Request("GET", container, info.name, query="multipart-manifest=get")
    tries = requester.new_tries(progress)
    return rows_shown(await requester.perform(request, read_manifest, tries=tries))


class FlawSearch:
    """One search, through one object.

    :param segment_container: the container for the segments of this client's uploads.
    """

    def __init__(self, requester: Requester, segment_container: str) -> None:
        self._requester = requester
        self._segment_container = segment_container
        #: Manifests within the object. Many may name the same one: it is looked into once.
        self._seen: set[_Place] = set()

    async def flaw(
        self, container: str, info: ObjectInfo, above: tuple[_Place, ...] = ()
    ) -> str | None:
        """Ask for each segment of a manifest by its name.

        :param above: the manifests that contain this one, the outermost first.
        :returns: what is wrong, for a person; ``None`` if every segment is there.
        :raises SwiftProviderError: if Swift fails for good.
        """
        rows = await shown(self._requester, container, info)
        rows = rows or rows_of_ours(info, self._segment_container)
        if rows is None:
            return "it has segments, and Swift does not show which"
        above = (*above, (container, info.name))
        etags = [""] * len(rows)
        flaws: list[str] = []
        left = iter(enumerate(rows))

        async def work() -> None:
            for number, row in left:
                if flaws:
                    return
                etags[number], flaw = await self._look_at_segment(row, above)
                if flaw is not None:
                    flaws.append(f"its segment {row.container}/{row.name} {flaw}")

        await together(work)
        if not flaws and all(row.is_whole for row in rows) and joined_etag(etags) != info.etag:
            flaws.append("its segments are not those that it was stored with")
        return flaws[0] if flaws else None

    async def _look_at_segment(self, row: Row, above: tuple[_Place, ...]) -> tuple[str, str | None]:
        """:returns: the segment's ETag, and what is wrong with it."""
        if not row.name:
            return "", None
        try:
            found = await self._requester.head(row.container, row.name, newest=True)
        except (ObjectNotFoundError, ContainerNotFoundError):
            return "", "is gone"
        # A link is no proof: somebody may delete its target without knowing of the link. The
        # link may also expire, and a HEAD does not show that: it shows the target's facts.
        if is_symlink(found, row.container, await self._requester.storage_url()):
            return "", f"is a link to another object, {found.content_location}"
        try:
            if found.expires or await expires_as_link(self._requester, row.container, found):
                return "", "will be deleted by Swift (X-Delete-At)"
        except ObjectNotFoundError:
            return "", "is gone"
        if found.size != row.size or (row.is_whole and row.etag not in ("", found.etag)):
            return "", "was replaced"
        if found.static_large:
            return found.etag, await self._look_inside(row, found, above)
        return found.etag, None

    async def _look_inside(
        self, row: Row, found: ObjectInfo, above: tuple[_Place, ...]
    ) -> str | None:
        place = (row.container, row.name)
        if place in above:
            return "contains itself"
        if len(above) == MOST_NESTED:
            return "is nested deeper than Swift can follow"
        if place in self._seen:
            return None  # the first look reports what is wrong with it
        self._seen.add(place)
        flaw = await self.flaw(row.container, found, above)
        return None if flaw is None else "is incomplete"
