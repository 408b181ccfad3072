"""What the log says at start: the configuration, and whether the container can be used.

A problem found here does not stop Synapse: it still serves the files on its own disk.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from swift_provider.client import Store
from swift_provider.config import Settings
from swift_provider.errors import (
    AccessDeniedError,
    ContainerNotFoundError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)


def log_configuration(settings: Settings, wrapper: Any, keeps_local: bool) -> None:
    """Log one line. Warn if Synapse would never store a file here, or may lose files.

    :param wrapper: has ``store_local``, ``store_remote`` and ``store_synchronous``.
    :param keeps_local: whether Synapse has a media store.
    """
    host = urlsplit(settings.storage_url or "").netloc
    logger.info(
        "Media in Swift: container %s, prefix %s, region %s, endpoint %s, at most %d exchanges "
        "at once, store_local %s, store_remote %s, store_synchronous %s",
        settings.container,
        settings.prefix or "(none)",
        settings.region_name or "(from the cloud)",
        host or "(from the catalogue)",
        settings.threadpool_size,
        _yaml(wrapper.store_local),
        _yaml(wrapper.store_remote),
        _yaml(wrapper.store_synchronous),
    )
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


def _yaml(flag: bool) -> str:
    return "true" if flag else "false"


async def check_container(store: Store, settings: Settings) -> None:
    """Log whether the container can be used; create it if ``create_container`` is set."""
    container = settings.container
    try:
        try:
            await store.check()
        except ContainerNotFoundError:
            if not settings.create_container:
                raise
            await store.create()
            logger.info("Created the Swift container %s", container)
        host = urlsplit(await store.storage_url()).netloc
        logger.info("The Swift container %s at %s is ready", container, host)
    except AccessDeniedError as error:
        logger.warning(
            "This user may not look at the Swift container %s, and perhaps may not use it "
            "either: %s",
            container,
            error,
        )
    except SwiftProviderError as error:
        advice = "; each upload or download tries again" if error.temporary else ""
        logger.error("The Swift container %s cannot be used: %s%s", container, error, advice)
