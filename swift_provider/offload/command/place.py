"""Compares the place in Swift that a run uses with those where Synapse looks."""

from __future__ import annotations

import logging

from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import DECIDING, Homeserver

logger = logging.getLogger(__name__)

_PARTS = {
    "container": "container",
    "prefix": "prefix",
    "cloud": "cloud",
    "region_name": "region",
    "storage_url": "storage URL",
}


def check_place(homeserver: Homeserver, settings: Settings) -> None:
    """Refuse to delete files for a place where Synapse would never look for them.

    The options are compared as they are written: nobody signs in to find out whether two
    clouds are the same.

    :param settings: those of the run.
    :raises ConfigError: if ``homeserver.yaml`` exists and no entry for Swift names the place.
    """
    this = _place(settings)
    if not homeserver.where:
        logger.warning(
            "There is no homeserver.yaml to compare with: make sure that an entry of Synapse's "
            "media_storage_providers has %s, or Synapse will not find the deleted files",
            this,
        )
        return
    entries = homeserver.entries()
    if not any(_same(settings, entry) for entry in entries):
        places = "; or in ".join(map(_place, entries))
        looks = f"looks in {places}" if entries else "has no entry for Swift"
        raise ConfigError(
            f"Synapse would not find the files that --delete removes: they go to {this}, and "
            f"media_storage_providers in {homeserver.where} {looks}. Leave out the options that "
            "differ, correct the entry, or give --even-so if this is meant"
        )


def _same(one: Settings, other: Settings) -> bool:
    return all(getattr(one, option) == getattr(other, option) for option in DECIDING)


def _place(settings: Settings) -> str:
    values = {text: getattr(settings, option) for option, text in _PARTS.items()}
    named = [f"{text} {value}" for text, value in values.items() if value]
    if settings.auth is not None:
        named.append("with its own auth")
    return ", ".join(named)
