"""What an error is to the module."""

from __future__ import annotations

from swift_provider.errors import (
    CacheError,
    DatabaseUnavailableError,
    DiskFailsError,
    DiskFullError,
    DiskGoneError,
    SwiftProviderError,
)
from swift_provider.keeper import Trouble
from swift_provider.offload.lock import BusyError


def trouble_of(error: SwiftProviderError) -> Trouble:
    """What kind of trouble an error is."""
    if isinstance(error, BusyError):
        return Trouble.BUSY
    if isinstance(error, DatabaseUnavailableError):
        return Trouble.DATABASE
    if isinstance(error, (CacheError, DiskFullError, DiskGoneError, DiskFailsError)):
        return Trouble.DISK
    return Trouble.SWIFT if error.temporary else Trouble.REFUSED
