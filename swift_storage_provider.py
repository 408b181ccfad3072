"""The older name of :mod:`swift_provider`, which configurations may still use."""

from swift_provider import SwiftStorageProviderBackend

__all__ = ["SwiftStorageProviderBackend"]
