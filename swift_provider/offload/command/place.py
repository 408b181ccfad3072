"""Compares the place in Swift that a run uses with those where Synapse looks."""

from __future__ import annotations

import logging
import os
import re

from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import Homeserver

logger = logging.getLogger(__name__)

_PARTS = {
    "container": "container",
    "prefix": "prefix",
    "cloud": "cloud",
    "region_name": "region",
    "storage_url": "storage URL",
}
#: A storage URL that names the account. Ceph's may not: then the sign-in chooses it.
_WITH_ACCOUNT = re.compile(r".*/v1/[^/%$()]+")


def check_place(homeserver: Homeserver, settings: Settings) -> None:
    """Refuse to delete files for a place where Synapse would never look for them.

    The options are compared as they are written: nobody signs in to find out whether two
    clouds are the same. If the environment decides (``OS_CLOUD``, other ``OS_*`` variables,
    or the only cloud in ``clouds.yaml``), that of Synapse may be another one.

    An entry with mirrors promises that each of its places holds each file, so a run with
    fewer of them proves too little.

    :param settings: those of the run.
    :raises ConfigError: if ``homeserver.yaml`` exists and no entry for Swift names the place; or
        if the one that does has further places.
    """
    this = "; and ".join(map(_place, settings.members))
    if not homeserver.where:
        logger.warning(
            "There is no homeserver.yaml to compare with: make sure that an entry of Synapse's "
            "media_storage_providers has %s, or Synapse will not find the deleted files",
            this,
        )
        return
    entries = homeserver.entries()
    mine = [member.place for member in settings.members]
    found = [entry for entry in entries if any(one.place in mine for one in entry.members)]
    if not found:
        places = "; or in ".join(_place(one) for entry in entries for one in entry.members)
        looks = f"looks in {places}" if entries else "has no entry for Swift"
        raise ConfigError(
            f"Synapse would not find the files that --delete removes: they go to {this}, and "
            f"media_storage_providers in {homeserver.where} {looks}. Leave out the options that "
            "differ, correct the entry, or give --even-so if this is meant"
        )
    left = [[one for one in entry.members if one.place not in mine] for entry in found]
    if all(left):
        others = "; and ".join(map(_place, left[0]))
        raise ConfigError(
            f"The files that --delete removes would be proven to be in {this} only. But the entry "
            f"of media_storage_providers in {homeserver.where} has further places that must hold "
            f"them: {others}. Leave out the options that differ from the entry, or give --even-so "
            "if this is meant"
        )
    if any(map(depends_on_environment, settings.members)):
        raise ConfigError(
            "Synapse may not find the files that --delete removes: its entry for Swift "
            f"({this}) leaves it to the environment which cloud they go to, and Synapse may run "
            "in another one than this script. Name the cloud in the entry (cloud: NAME, of "
            "clouds.yaml; or auth; or a storage_url with the account), or give --even-so if the "
            "script has the same OS_* variables and the same clouds.yaml as Synapse"
        )


def depends_on_environment(settings: Settings) -> bool:
    """Whether it is not the settings that say which account the files go to.

    Then ``--delete`` is refused: Synapse's environment may be another one than the script's.
    """
    if settings.storage_url is not None and _WITH_ACCOUNT.fullmatch(settings.storage_url):
        return False
    if settings.cloud is None:
        return settings.auth is None and settings.auth_type is None
    # The cloud that the OS_* variables make up.
    return settings.cloud == (os.environ.get("OS_CLOUD_NAME") or "envvars")


def _place(settings: Settings) -> str:
    values = {text: getattr(settings, option) for option, text in _PARTS.items()}
    named = [f"{text} {value}" for text, value in values.items() if value]
    if settings.auth is not None:
        named.append("with its own auth")
    return ", ".join(named)
