"""Decides which requests are answered by a redirect to Swift instead of with the file.

The Matrix specification ("Content repository") lets a homeserver answer a client's
download or thumbnail request with 307: always on the authenticated endpoints, on the old
ones only if the client asks for it by ``allow_redirect=true``. Everything else is
streamed, and so is everything while temporary URLs are not known to work.

Homeservers ask on the old endpoints, too, with ``allow_redirect=true`` and
``allow_remote=false``. They are not redirected: Synapse would keep Swift's
``application/octet-stream`` as the type of the media, and take an error of Swift for one of this
homeserver.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import parse_qs

from synapse.media._base import FileInfo
from synapse.module_api import ModuleApi, make_deferred_yieldable

from swift_provider.client import DirectAccess, Links, ObjectInfo, Store
from swift_provider.errors import SwiftProviderError
from swift_provider.module.client_request import AUTHENTICATED, OLD, request_in_context
from swift_provider.module.log_context import begin_for_caller

logger = logging.getLogger(__name__)

#: How long to wait before the next check: after a failed one, at first and at most; and
#: after a good one, because the key in Swift may be replaced.
FIRST_SECONDS = 60.0
MOST_SECONDS = 3600.0
GOOD_SECONDS = 600.0

#: How long clients are redirected after the last good check, although Swift cannot tell
#: whether that still works.
PROVEN_SECONDS = 2 * GOOD_SECONDS

#: How many files are remembered as small. A HEAD before the GET costs about 10 ms and 0.8 ms
#: of processor time (measured on loopback), and media never change.
SMALL_FILES = 10_000

#: If the system's clock was set by more seconds than this since a check, what that check has
#: learned of Swift's time does not hold any more.
MOST_SET = 30.0


class Redirecting:
    """The redirects of one provider. Call :meth:`check` once; it repeats itself.

    :param above: bytes; smaller files are streamed.
    :ivar links: makes URLs; ``None`` as long as they are not known to work.
    """

    def __init__(
        self, store: Store, access: DirectAccess, above: int, reactor: Any, api: ModuleApi
    ) -> None:
        self.links: Links | None = None
        self._store = store
        self._access = access
        self._above = above
        self._reactor = reactor
        self._api = api
        self._next = self._wait = FIRST_SECONDS
        self._proven_at = 0.0
        self._call: Any = None
        self._clock_offset = 0.0
        self._small: dict[str, None] = {}
        self._said: tuple[str, ...] | None = None

    # Whether temporary URLs work

    async def check(self) -> None:
        """Find out whether temporary URLs work, log it, and schedule the next check."""
        self._call = None
        if self._clock_was_set():
            self.links = None
        self._clock_offset = _clock_offset()
        try:
            verdict = await make_deferred_yieldable(begin_for_caller(self._access.check))
            self._conclude(verdict.links, verdict.flaws, verdict.warnings)
        except SwiftProviderError as error:
            self._cannot_tell(error)
        finally:
            self._call = self._reactor.callLater(
                self._next, self._api.run_as_background_process, "swift_check_redirect", self.check
            )

    def _cannot_tell(self, error: SwiftProviderError) -> None:
        """A check had no result, for example because Swift is busy."""
        proven = 0 <= self._reactor.seconds() - self._proven_at <= PROVEN_SECONDS
        if error.temporary and self.links is not None and proven:
            self._next = FIRST_SECONDS
            logger.info(
                "Clients are still redirected to the Swift container %s, though Swift cannot tell "
                "now whether that works: %s. The next check is in %d seconds",
                self._store.container,
                error,
                self._next,
            )
            return
        if error.temporary:
            self._wait = min(self._wait, GOOD_SECONDS)
        self._conclude(None, (f"Swift cannot tell: {error}",), ())

    def _conclude(
        self, links: Links | None, flaws: tuple[str, ...], warnings: tuple[str, ...]
    ) -> None:
        self.links = links
        if links is None:
            self._next, self._wait = self._wait, min(self._wait * 2, MOST_SECONDS)
        else:
            self._next, self._wait = GOOD_SECONDS, FIRST_SECONDS
            self._proven_at = self._reactor.seconds()
        self._report(links, flaws, warnings)

    def _report(
        self, links: Links | None, flaws: tuple[str, ...], warnings: tuple[str, ...]
    ) -> None:
        said = flaws + warnings
        if said == self._said:
            return
        self._said = said
        for flaw in flaws:
            logger.error(
                "Clients are not redirected to the Swift container %s: %s. Files are streamed "
                "until a later check succeeds; the next is in %d seconds",
                self._store.container,
                flaw,
                self._next,
            )
        for warning in warnings:
            logger.warning("redirect, Swift container %s: %s", self._store.container, warning)
        if links is not None:
            logger.info(
                "Clients are redirected to the Swift container %s for files above %d bytes "
                "(signed with %s)",
                self._store.container,
                self._above,
                links.signer.digest,
            )

    # Which requests

    def links_for(self, path: str, file_info: FileInfo) -> Links | None:
        """What makes the URL, if the request that Synapse handles now may be redirected.

        :param path: of the file.
        :returns: ``None`` to stream the file.
        """
        if self._clock_was_set():
            self._check_anew()
        if self.links is None:
            return None
        if path in self._small:
            self._remember_small(path)
            return None
        request = request_in_context()
        if request is None or request.method not in ("GET", "HEAD"):
            return None
        endpoint = redirectable_endpoint(request.url)
        thumbnail = file_info.thumbnail
        # A thumbnail request that fetches the file itself makes a thumbnail from it.
        if endpoint != ("download" if thumbnail is None else "thumbnail"):
            return None
        if thumbnail is not None and 0 < thumbnail.length <= self._above:
            return None
        return self.links

    def _clock_was_set(self) -> bool:
        """Since the last check began. The URLs' times would be wrong, and the next check late."""
        return abs(_clock_offset() - self._clock_offset) > MOST_SET

    def _check_anew(self) -> None:
        self.links = None
        if self._call is not None:
            self._call.reset(0)
            self._call = None

    async def allows(self, path: str, info: ObjectInfo, links: Links | None) -> bool:
        """Whether a client may be sent to an object.

        :param path: of the file.
        :param info: from a HEAD just before.
        :param links: from :meth:`links_for`; the answer to ``None`` is no.
        """
        if links is None:
            return False
        if info.size is not None and info.size <= self._above:
            self._remember_small(path)
            return False
        try:
            return await self._access.allows(info, links)
        except SwiftProviderError as error:
            logger.info("%s is streamed: %s", info.name, error)
            return False

    def _remember_small(self, path: str) -> None:
        """The file that was asked for least recently is forgotten first."""
        self._small.pop(path, None)
        while len(self._small) >= SMALL_FILES:
            del self._small[next(iter(self._small))]
        self._small[path] = None


def redirectable_endpoint(url: str) -> str | None:
    """``"download"`` or ``"thumbnail"``, if a client that asks for ``url`` accepts a redirect.

    :param url: path and query, as Synapse logs it.
    """
    path, _, query = url.partition("?")
    match = AUTHENTICATED.match(path)
    if match is None:
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        if asked.get("allow_redirect") == "true" and asked.get("allow_remote") != "false":
            match = OLD.match(path)
    return match[1] if match else None


def _clock_offset() -> float:
    """Changes only when the system's clock is set, or the machine was suspended."""
    return time.time() - time.monotonic()
