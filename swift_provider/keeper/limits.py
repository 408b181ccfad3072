"""How far the disk is over its limits, and how much has to go."""

from __future__ import annotations

import os
from dataclasses import dataclass

from swift_provider.config import LocalDiskSettings

#: Once a limit is passed, so much more than needed is freed, as a share of the limit: a run
#: costs the same however little it frees.
LOW_MARK = 0.1


@dataclass(frozen=True)
class Space:
    """A file system, in bytes.

    :ivar free: what others than root may use.
    """

    total: int
    used: int
    free: int

    @classmethod
    def of(cls, path: str) -> Space:
        """The file system of a folder. Blocks if the disk does.

        :raises OSError: if the disk cannot be read.
        """
        status = os.statvfs(path)
        size = status.f_frsize
        return cls(
            total=status.f_blocks * size,
            used=(status.f_blocks - status.f_bfree) * size,
            free=status.f_bavail * size,
        )


def over_limits(limits: LocalDiskSettings, on_disk: int, space: Space | None) -> int:
    """By how many bytes the disk is over its limits; 0 if it is within them.

    :param on_disk: bytes that media and thumbnails take.
    :param space: ``None`` if it is not known; then it does not count.
    """
    over = 0
    if limits.max_size is not None:
        over = on_disk - limits.max_size
    if space is not None:
        over = max(over, _min_free(limits, space) - space.free)
    return max(0, over)


def space_to_free(limits: LocalDiskSettings, on_disk: int, space: Space) -> int:
    """How many bytes have to go; 0 if the disk is within its limits."""
    needed = 0
    if limits.max_size is not None and on_disk > limits.max_size:
        needed = on_disk - int(limits.max_size * (1 - LOW_MARK))
    wanted = _min_free(limits, space)
    if space.free < wanted:
        needed = max(needed, int(wanted * (1 + LOW_MARK)) - space.free)
    return needed


def _min_free(limits: LocalDiskSettings, space: Space) -> int:
    """In bytes; 0 if there is no such limit."""
    least = limits.min_free or 0
    return int(least * space.total) if isinstance(least, float) else least
