"""Keep a Matrix homeserver's media in OpenStack Swift.

``SwiftStorageProviderBackend`` is the class that Synapse loads. It is imported at its
first use, so that ``import swift_provider`` needs neither Synapse nor Twisted.
"""

from typing import TYPE_CHECKING, Any

from swift_provider._version import __version__

if TYPE_CHECKING:
    from swift_provider.module import SwiftStorageProviderBackend

__all__ = ["SwiftStorageProviderBackend", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "SwiftStorageProviderBackend":
        from swift_provider.module import SwiftStorageProviderBackend

        return SwiftStorageProviderBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
