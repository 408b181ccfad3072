"""The options of ``local_disk``: Synapse's disk is kept within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from swift_provider.config.mappings import Checks, checked
from swift_provider.config.values import (
    check_age,
    check_bytes,
    check_flag,
    check_free_space,
    type_of,
)
from swift_provider.errors import ConfigError


@dataclass(frozen=True)
class LocalDiskSettings:
    """How much of the disk Synapse's media may take.

    :ivar max_size: bytes that media and thumbnails may take; ``None`` for no limit.
    :ivar min_free: bytes that stay free on the media store's file system, or (a float) the
        share of the file system; ``None`` for no limit.
    :ivar older_than: seconds; media leave the disk if nobody has accessed them for this long.
        ``None``: none leave it because of their age.
    :ivar prune: once a day, delete from Swift what Synapse has deleted.
    """

    max_size: int | None = None
    min_free: int | float | None = None
    older_than: int | None = None
    prune: bool = False

    @property
    def limits_disk(self) -> bool:
        """Whether anything is ever removed from the disk."""
        return any(limit is not None for limit in (self.max_size, self.min_free, self.older_than))


def check_local_disk(value: object, name: str) -> LocalDiskSettings:
    """:raises ConfigError: naming the option and the remedy."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must hold options such as 'max_size: 50G', not {type_of(value)}")
    settings = LocalDiskSettings(**checked(value, _CHECKS, name))
    if not (settings.limits_disk or settings.prune):
        raise ConfigError(
            f"{name} has nothing to do: set {name}.max_size, {name}.min_free, "
            f"{name}.older_than or {name}.prune, or remove {name}"
        )
    return settings


_CHECKS: Checks = {
    "max_size": check_bytes,
    "min_free": check_free_space,
    "older_than": check_age,
    "prune": check_flag,
}

#: The options' names.
LOCAL_DISK_OPTIONS = frozenset(_CHECKS)

assert {option.name for option in fields(LocalDiskSettings)} == LOCAL_DISK_OPTIONS
