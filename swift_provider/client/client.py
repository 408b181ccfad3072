"""The connection to one account in Swift: sign-in, slots, connections and threads.

What can be done with objects is in :mod:`swift_provider.client.place`.
"""

from __future__ import annotations

from typing import Any

from swift_provider.client.cluster_limits import Cluster
from swift_provider.client.download_turns import Turns
from swift_provider.client.drained import drained
from swift_provider.client.http.tls import TlsPolicy
from swift_provider.client.http.transport import Limits, Transport
from swift_provider.client.identity.clouds import Cloud, find_cloud
from swift_provider.client.identity.token import Authenticator
from swift_provider.client.large_objects import LargeObjects
from swift_provider.client.observer import Observer
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.client.retry import Patience
from swift_provider.client.slots import Slots, uploads_beside_readers
from swift_provider.client.threads import Threads
from swift_provider.config import Settings


class SwiftClient:
    """One account. Make one per process and account with :meth:`from_settings`.

    :ivar settings: what it was made from.
    :ivar cloud: what the settings and the files of the cloud say about it.
    :ivar requester: sends its requests.
    :ivar slots: its exchanges, in flight and waiting.
    :ivar reading: threads that read the files of uploads.
    :ivar noting: threads that compute the CRC-32 of a file before it is sent.
    :ivar hashing: threads that hash whole files, to compare them with objects.
    :ivar turns: of its downloads.
    :ivar cluster: the cluster's limits.
    :ivar large_objects: its segmented objects.
    """

    def __init__(
        self,
        settings: Settings,
        requester: Requester,
        transport: Transport,
        slots: Slots,
        signing_in: Threads,
        cloud: Cloud,
    ) -> None:
        reactor = transport.reactor
        self.settings = settings
        self.cloud = cloud
        self.requester = requester
        self.slots = slots
        self.reading = Threads(reactor, "swift-read")
        self.noting = Threads(reactor, "swift-crc32")
        self.hashing = Threads(reactor, "swift-hash")
        self.turns = Turns(reactor)
        self.cluster = Cluster(requester, reactor)
        self.large_objects = LargeObjects(
            requester, settings.segment_container, self.create_container
        )
        self._transport = transport
        self._outside: Transport | None = None
        self._signing_in = signing_in

    @classmethod
    def from_settings(
        cls,
        reactor: Any,
        settings: Settings,
        *,
        patience: Patience = Patience.MODULE,
        shares_reactor: bool = True,
        observer: Observer | None = None,
        mirror: str = "",
    ) -> SwiftClient:
        """Find the cloud and its credentials; touches no network yet.

        :param patience: how long to retry.
        :param shares_reactor: other work depends on this reactor, and downloads must not
            wait for uploads; ``False`` where the client is all that the process does.
        :param observer: told about the client's work; may be ``None``.
        :param mirror: see :class:`.Requester`.
        :raises ConfigError: if the cloud, its credentials or a certificate file cannot be found.
        """
        observer = observer or Observer()
        cloud = find_cloud(settings)
        size = settings.threadpool_size
        transport = Transport(
            reactor,
            TlsPolicy(cloud.verify, cloud.cert),
            Limits(settings.connect_timeout, settings.response_timeout, settings.idle_timeout),
            connections=size,
        )
        for_uploads = uploads_beside_readers(size) if shares_reactor else size
        slots = Slots(size, for_uploads, reactor, observer)
        signing_in = Threads(reactor, "swift-sign-in")
        authenticator = Authenticator(
            reactor,
            cloud,
            signing_in.run,
            observer=observer,
            connect_timeout=settings.connect_timeout,
            response_timeout=settings.response_timeout,
        )
        requester = Requester(transport, authenticator, slots, patience, observer, mirror)
        return cls(settings, requester, transport, slots, signing_in, cloud)

    def outside(self) -> Transport:
        """Connections such as anybody makes: without this client's certificate, and with trust
        in the usual authorities beside ``cacert``.

        :raises ConfigError: the first time, if the usual authorities cannot be read.
        """
        if self._outside is None:
            self._outside = Transport(
                self._transport.reactor,
                TlsPolicy.of_anybody(self.cloud.verify),
                self._transport.limits,
                connections=1,
            )
        return self._outside

    async def create_container(self, name: str) -> None:
        """Make a container, in the settings' storage policy; one that exists stays as it is.

        :raises RequestRefusedError: if it belongs to somebody else, or has another policy.
        :raises SwiftProviderError: if it failed for good.
        """
        headers = {}
        if self.settings.storage_policy is not None:
            headers[b"X-Storage-Policy"] = self.settings.storage_policy.encode("utf-8")
        await self.requester.perform(Request("PUT", name, headers=headers), drained)

    async def close(self) -> None:
        """Close idle connections and end the threads; call when nothing is in flight."""
        for threads in (self._signing_in, self.reading, self.noting, self.hashing):
            threads.stop()
        await self._transport.close()
        if self._outside is not None:
            await self._outside.close()
