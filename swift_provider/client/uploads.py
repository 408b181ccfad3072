"""A part of a file as one object in Swift, with the proof that it is there.

The whole of a small file, or one segment of a large one. What Swift's answer
shows is compared with what was read; an object which is not what was sent is
overwritten by the next try, and does not outlive the last one.
"""

from __future__ import annotations

import logging

from swift_provider.client.answers import ObjectInfo, header, normal_etag, object_info
from swift_provider.client.bodies import Body, RunInThread, make_body
from swift_provider.client.file_source import FileSource
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.requester import Request, Requester, drained
from swift_provider.client.slots import Lane
from swift_provider.errors import (
    DamagedError,
    ObjectExistsError,
    ObjectNotFoundError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)


class FilePut:
    """One upload of a part of a file. Call :meth:`perform` once.

    :param if_absent: do not overwrite. Ceph RGW overwrites all the same.
    :ivar md5: hex digest of what was sent, once :meth:`perform` has returned.
    """

    md5: str

    def __init__(
        self,
        requester: Requester,
        run_in_thread: RunInThread,
        container: str,
        name: str,
        source: FileSource,
        offset: int,
        size: int,
        *,
        if_absent: bool = False,
    ) -> None:
        self._requester = requester
        self._run_in_thread = run_in_thread
        self._source = source
        self._offset = offset
        self._headers = {b"Content-Type": b"application/octet-stream"}
        if if_absent:
            self._headers[b"If-None-Match"] = b"*"
        self._bodies: list[Body] = []
        self._damaged = False
        self._request = Request(
            "PUT",
            container,
            name,
            headers=self._headers,
            lane=Lane.WRITE,
            make_body=self._body,
            size=size,
        )

    async def perform(self) -> ObjectInfo:
        """Upload it.

        :raises ObjectExistsError: if ``if_absent``, and somebody else's object is there.
        :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
        :raises OSError: if the file cannot be read.
        :raises SwiftProviderError: if it failed for good.
        """
        try:
            info = await self._requester.perform(self._request, self._stored)
        except ObjectExistsError:
            # With more than one try it may be there because of our own first.
            found = await self._ours() if len(self._bodies) > 1 else None
            if found is None:
                raise
            info = found
        except Exception:  # a cancellation is one of them
            if not self._damaged:
                raise
            found = await self._kept_if_right()
            if found is None:
                raise
            info = found
        self.md5 = info.etag
        return info

    def _body(self) -> Body:
        body = make_body(self._source, self._offset, self._request.size, self._run_in_thread)
        self._bodies.append(body)
        return body

    async def _stored(self, exchange: Exchange) -> ObjectInfo:
        etag = normal_etag(header(exchange.headers, b"ETag"))
        self._damaged = etag != self._bodies[-1].md5
        if self._damaged:
            # What is there now is our own: the next try has to overwrite it.
            self._headers.pop(b"If-None-Match", None)
            raise self._request.target.error(
                DamagedError, "what Swift stored is not what was sent", status=exchange.status
            )
        await drained(exchange)
        assert self._request.name is not None
        return object_info(self._request.name, exchange.headers, self._request.size)

    async def _ours(self) -> ObjectInfo | None:
        """The object, if it is what one of our tries sent to its end."""
        target = self._request.target
        assert target.container is not None
        assert target.name is not None
        try:
            info = await self._requester.head(target.container, target.name)
        except ObjectNotFoundError:
            return None
        sent = {body.md5 for body in self._bodies if body.finished}
        return info if info.is_plain and info.etag in sent else None

    async def _kept_if_right(self) -> ObjectInfo | None:
        """Look whether the object really is damaged, and remove it then."""
        target = self._request.target
        try:
            info = await self._ours()
            if info is None:
                request = Request("DELETE", target.container, target.name, accepts=frozenset({404}))
                await self._requester.perform(request, drained)
            return info
        except SwiftProviderError as error:
            logger.warning(
                "A damaged object is left in Swift as %s/%s: %s",
                target.container,
                target.name,
                error,
            )
            return None
