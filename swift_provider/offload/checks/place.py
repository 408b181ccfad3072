"""Checks one place in Swift, from the cloud's name to the rights in the container.

The steps follow each other. A step that cannot tell anything because an earlier one failed is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from swift_provider.client import ContainerFacts, Place, SeenPlace, container_facts, same_place
from swift_provider.config import RedirectSettings, Settings
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    SwiftProviderError,
    UntrustedServerError,
)
from swift_provider.offload.checks import container, redirect
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.rights import Trial
from swift_provider.offload.checks.steps import REQUEST_SECONDS, Steps, StoppedError
from swift_provider.offload.command.place import depends_on_environment
from swift_provider.offload.media_names import shown

_NOT_NEEDED = "not needed, because no media is above segment_size"

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Asked:
    """One place to check.

    :ivar prefix: put before the subjects; empty if there is only one place.
    :ivar where: its options' place in ``homeserver.yaml``.
    :ivar largest: bytes that a media has at most; ``None`` if unknown.
    :ivar stores: whether Synapse stores anything there.
    """

    settings: Settings
    prefix: str
    where: str
    largest: int | None
    stores: bool

    @property
    def redirect(self) -> RedirectSettings | None:
        """Whether clients are sent there; an option of the entry, so no mirror has it."""
        return self.settings.redirect


class PlaceCheck:
    """One check of one place.

    :param left: gets the names of test objects while they may be there.
    :ivar where: its options' place in ``homeserver.yaml``.
    :ivar prefix: put before the subjects.
    :ivar seen: the place, once it is known whether Swift shows its container.
    """

    def __init__(self, reactor: Any, asked: Asked, left: set[str]) -> None:
        self.where = asked.where
        self.prefix = asked.prefix
        self.seen: SeenPlace | None = None
        self._reactor = reactor
        self._asked = asked
        self._left = left
        self._place: Place | None = None
        self._findings = Findings(asked.prefix)
        self._steps = Steps(reactor)

    def stop(self) -> None:
        """End soon; test objects are removed."""
        self._steps.stop()

    async def run(self) -> Findings:
        """Check it; removes what it stored. :meth:`close` comes after it."""
        settings = self._asked.settings
        impatient = replace(
            settings,
            connect_timeout=min(settings.connect_timeout, REQUEST_SECONDS),
            response_timeout=min(settings.response_timeout, REQUEST_SECONDS),
        )
        try:
            place = Place.from_settings(self._reactor, impatient, shares_reactor=False)
        except SwiftProviderError as error:
            self._findings.failed("cloud", error)
            return self._findings
        self._place = place
        self._findings.ok("cloud", f"found {place.client.cloud.title}")
        if depends_on_environment(settings):
            self._findings.note(
                "cloud",
                "the entry does not name it, so another environment may mean another one, and "
                "--delete is refused: set cloud: NAME, of clouds.yaml",
            )
        place.hurry()
        with suppress(StoppedError):
            await self._ask(place)
        return self._findings

    async def close(self) -> None:
        """Close the connections."""
        if self._place is not None:
            await self._place.close()

    async def _ask(self, place: Place) -> None:
        findings = self._findings
        try:
            url = await self._steps.run(place.storage_url())
        except SwiftProviderError as error:
            findings.failed("sign-in", error)
            return
        cloud = place.client.cloud
        region = f", region {cloud.region_name}" if cloud.region_name else ""
        findings.ok("sign-in", f"Swift is at {shown(url)}{region}")
        facts = None
        try:
            facts = await self._steps.run(container_facts(place))
        except AccessDeniedError as error:
            # This user may be allowed all the same to use the objects.
            if _has_no_account(self._asked.settings.storage_url):
                self._no_account(error)
                return
        except SwiftProviderError as error:
            self._no_container(place, url, error)
            if self._asked.redirect is not None:
                redirect.judge_keys(findings, self._asked.redirect, self._redirect_where)
            return
        self.seen = SeenPlace(place, facts.made if facts is not None else "")
        self._tls(url, place)
        if facts is not None:
            container.judge(findings, place, facts)
        if self._asked.stores:
            if not await self._storing(place, facts):
                return
        else:
            await Trial(place, self._steps, findings, self._left).look()
            await self._reading_segments(place)
        if self._asked.redirect is not None:
            where = self._redirect_where
            await redirect.judge(findings, place, self._asked.redirect, where, self._steps)

    async def _storing(self, place: Place, facts: ContainerFacts | None) -> bool:
        """Whether files can be stored.

        :returns: whether anything else can be found out.
        """
        has_room = facts is None or await container.judge_room(
            self._findings, place, facts, self._steps
        )
        await container.judge_sizes(self._findings, place, self._asked.largest, self._steps)
        if has_room:
            trial = Trial(place, self._steps, self._findings, self._left)
            if await trial.run(may_look=facts is not None):
                await self._segments(place)
            elif facts is None:
                return False
        return True

    @property
    def _redirect_where(self) -> str:
        return f"{self._asked.where}.redirect"

    def _no_account(self, error: SwiftProviderError) -> None:
        self._findings.wrong(
            "container",
            "storage_url names no account: write it to the end, as in …/v1/AUTH_… "
            f"({error.text()})",
            by_server=True,
        )

    def _no_container(self, place: Place, url: str, error: SwiftProviderError) -> None:
        if error.temporary:
            self._findings.wrong(
                "container",
                f"Swift at {shown(url)} cannot be used: {error.text()}. Check that URL, the "
                "network and firewalls",
                by_server=True,
            )
        elif isinstance(error, UntrustedServerError):
            self._findings.failed("TLS", error)
        elif isinstance(error, ContainerNotFoundError) and place.creates_container:
            self._findings.note(
                "container",
                f"{place.container} does not exist yet: Synapse creates it when it starts, if this "
                "user may (create_container)",
            )
        else:
            self._findings.failed("container", error)

    def _tls(self, url: str, place: Place) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https":
            if parts.hostname not in _LOOPBACK:
                self._findings.note(
                    "TLS",
                    f"{parts.scheme}://{parts.netloc} is not encrypted: token and media can be "
                    "read on the way",
                )
        elif place.client.cloud.verify is False:
            self._findings.note(
                "TLS", "certificates are not checked (verify: false): name the authority in cacert"
            )
        else:
            self._findings.ok("TLS", f"the certificate of {parts.netloc} is trusted")

    async def _reading_segments(self, place: Place) -> None:
        segments = place.segments
        try:
            await self._steps.run(segments.check())
        except ContainerNotFoundError:
            self._findings.ok("segments", f"{segments.container} does not exist")
        except SwiftProviderError as error:
            self._findings.failed("segments", error)
        else:
            self._findings.ok("segments", f"{segments.container} can be looked at")

    async def _segments(self, place: Place) -> None:
        segments = place.segments
        largest, size = self._asked.largest, place.client.settings.segment_size
        needed = largest is None or largest > size
        may_look = True
        try:
            await self._steps.run(segments.check())
        except ContainerNotFoundError:
            text = (
                f"{segments.container} does not exist yet, and is created when the first file "
                "above segment_size is uploaded, if this user may create containers"
            )
            self._findings.ok("segments", text if needed else _NOT_NEEDED)
            return
        except AccessDeniedError:
            may_look = False
            if not needed:
                self._findings.ok("segments", _NOT_NEEDED)
                return
        except SwiftProviderError as error:
            self._findings.failed("segments", error)
            return
        trial = Trial(segments, self._steps, self._findings, self._left, "segments ")
        await trial.run(may_look=may_look)


async def judge_mirrors(places: Sequence[PlaceCheck]) -> Findings:
    """Whether the places of each entry differ. Call after they were checked.

    :param places: of all entries.
    """
    findings = Findings()
    for where in dict.fromkeys(place.where for place in places):
        seen = [one.seen for one in places if one.where == where and one.seen is not None]
        try:
            objection = await same_place(seen)
        except SwiftProviderError as error:
            objection = error.text()
        if objection is not None:
            findings.wrong("mirrors", objection)
    return findings


def _has_no_account(storage_url: str | None) -> bool:
    return storage_url is not None and re.search(r"/v1/?\Z", storage_url) is not None
