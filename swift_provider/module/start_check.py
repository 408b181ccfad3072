"""What the log says at start: the configuration, and whether the container can be used.

A problem found here does not stop Synapse: it still serves the files on its own disk.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, gatherResults

from swift_provider.client import Place, SeenPlace, same_place
from swift_provider.config import Settings
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)


def log_configuration(settings: Settings, wrapper: Any, keeps_local: bool) -> None:
    """Log a line for each place. Warn if Synapse would never store a file, or may lose files.

    :param wrapper: has ``store_local``, ``store_remote`` and ``store_synchronous``.
    :param keeps_local: whether Synapse has a media store.
    """
    logger.info(
        "Media in Swift: %s, store_local %s, store_remote %s, store_synchronous %s",
        _place(settings),
        _yaml(wrapper.store_local),
        _yaml(wrapper.store_remote),
        _yaml(wrapper.store_synchronous),
    )
    for mirror in settings.mirrors:
        logger.info("The media are mirrored: %s", _place(mirror))
    if not (wrapper.store_local or wrapper.store_remote):
        logger.warning(
            "media_storage_providers: store_local and store_remote are both false for the "
            "container %s, so Synapse only reads from it. To store files there, set store_local "
            "(files that this server's users upload) and store_remote (files fetched from other "
            "servers) to true",
            settings.container,
        )
    elif not (keeps_local or wrapper.store_synchronous):
        logger.warning(
            "media_storage_providers: store_synchronous is false for the container %s, and "
            "enable_local_media_storage is false: a file whose upload to Swift fails in the "
            "background is lost, because there is no other copy. Set store_synchronous to true",
            settings.container,
        )


def _place(settings: Settings) -> str:
    host = urlsplit(settings.storage_url or "").netloc
    return (
        f"{settings.label}, container {settings.container}, prefix {settings.prefix or '(none)'}, "
        f"region {settings.region_name or '(from the cloud)'}, endpoint "
        f"{host or '(from the catalogue)'}, at most {settings.threadpool_size} requests at once"
    )


def _yaml(flag: bool) -> str:
    return "true" if flag else "false"


async def check_containers(places: Sequence[Place]) -> None:
    """Log whether each container can be used, and whether two of the places are one.

    A container is made if ``create_container`` is set.
    """
    several = len(places) > 1
    answers = await gatherResults(
        Deferred.fromCoroutine(_check(place, place.name if several else "")) for place in places
    )
    pairs = zip(places, answers, strict=True)
    try:
        objection = await same_place(
            [SeenPlace(place, made) for place, made in pairs if made is not None]
        )
    except SwiftProviderError as error:
        logger.warning("It is not known whether the mirrors are different places: %s", error)
    else:
        if objection is not None:
            logger.error(
                "media_storage_providers, container %s: %s", places[0].container, objection
            )


async def _check(place: Place, name: str) -> str | None:
    """:param name: the place's, if there are several.
    :returns: see :attr:`.SeenPlace.made`; ``None`` if the place cannot be used.
    """
    container = f"{place.container} of {name}" if name else place.container
    try:
        try:
            made = await place.check()
        except ContainerNotFoundError:
            if not place.creates_container:
                raise
            await place.create()
            logger.info("Created the Swift container %s", container)
            made = await place.check()
        host = urlsplit(await place.storage_url()).netloc
        logger.info("The Swift container %s at %s is ready", container, host)
        return made
    except AccessDeniedError as error:
        logger.warning(
            "This user may not look at the Swift container %s, and perhaps may not use it "
            "either: %s",
            container,
            error,
        )
        return ""
    except SwiftProviderError as error:
        advice = "; each upload or download tries again" if error.temporary else ""
        logger.error("The Swift container %s cannot be used: %s%s", container, error, advice)
        return None
