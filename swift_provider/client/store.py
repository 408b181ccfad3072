"""What the provider and the jobs store media in: one place in Swift, or several mirrors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from swift_provider.client.mirrors import MirrorSet
from swift_provider.client.observer import Observer
from swift_provider.client.place import Place
from swift_provider.client.retry import Patience
from swift_provider.config import Settings

logger = logging.getLogger(__name__)

#: Its users ask for objects by the methods that both have. What concerns one place alone, such
#: as its listing, they ask each of the ``members``.
Store = Place | MirrorSet


def _in_background(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    def report(failure: Failure) -> None:
        logger.error("%s failed: %s", name, failure.getTraceback())

    ensureDeferred(work()).addErrback(report)


def open_store(
    reactor: Any,
    settings: Settings,
    *,
    patience: Patience = Patience.MODULE,
    shares_reactor: bool = True,
    observers: Callable[[Settings], Observer] | None = None,
    owner: str | None = None,
    background: Callable[[str, Callable[[], Coroutine[Any, Any, None]]], object] | None = None,
) -> Store:
    """The place that a configuration names, or the set of it and its mirrors.

    Touches no network yet. For the other parameters see :meth:`.SwiftClient.from_settings`.

    :param observers: makes what is told about the work of each place.
    :param owner: see :class:`Place`.
    :param background: runs work of a set that nobody waits for: called with a name and with
        what makes the coroutine. ``None`` to make up for nothing in the background.
    :raises ConfigError: if a cloud, its credentials or a certificate file cannot be found.
    """
    places = [
        Place.from_settings(
            reactor,
            member,
            patience=patience,
            shares_reactor=shares_reactor,
            observer=None if observers is None else observers(member),
            owner=owner,
            mirror=member.label if settings.mirrors else "",
        )
        for member in settings.members
    ]
    if len(places) == 1:
        return places[0]
    repays = background is not None
    return MirrorSet(places, reactor, background or _in_background, repays=repays)
