"""What the log says at start: what was configured, and whether Swift agrees.

Nothing here stops Synapse: media that are on its disk are served without Swift.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from swift_provider.client import SwiftClient
from swift_provider.config import Settings
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)


def say_what_is_configured(settings: Settings, wrapper: Any) -> None:
    """One line, and a warning if nothing would ever be stored.

    :param wrapper: with ``store_local``, ``store_remote`` and ``store_synchronous``.
    """
    host = urlsplit(settings.storage_url or "").netloc
    logger.info(
        "Media in Swift: container %s, prefix %s, region %s, endpoint %s, at most %d exchanges "
        "at once, store_local %s, store_remote %s, store_synchronous %s",
        settings.container,
        settings.prefix or "(none)",
        settings.region_name or "(the cloud's)",
        host or "(the catalogue's)",
        settings.threadpool_size,
        _yaml(wrapper.store_local),
        _yaml(wrapper.store_remote),
        _yaml(wrapper.store_synchronous),
    )
    if not (wrapper.store_local or wrapper.store_remote):
        logger.warning(
            "media_storage_providers: store_local and store_remote are both false for the "
            "container %s, so Synapse only reads from it: set store_local (what this server's "
            "users upload) and store_remote (what is fetched from other servers) to true",
            settings.container,
        )


def _yaml(flag: bool) -> str:
    return "true" if flag else "false"


async def check_container(client: SwiftClient, settings: Settings) -> None:
    """Find out what is wrong before the first user does; create the container if that is wanted."""
    container = settings.container
    try:
        try:
            await client.head_container(container)
        except ContainerNotFoundError:
            if not settings.create_container:
                raise
            await client.create_container(container)
            logger.info("Created the Swift container %s", container)
        host = urlsplit(await client.storage_url()).netloc
        logger.info("The Swift container %s at %s is ready", container, host)
    except AccessDeniedError as error:
        logger.warning(
            "This user may not look at the Swift container %s, and perhaps not use it either: %s",
            container,
            error,
        )
    except SwiftProviderError as error:
        advice = "; it is tried again with each file" if error.temporary else ""
        logger.error("The Swift container %s cannot be used: %s%s", container, error, advice)
