"""The older name of :mod:`swift_provider`, which configurations may still use."""

from typing import Any

import swift_provider


def __getattr__(name: str) -> Any:
    if name == "SwiftStorageProviderBackend":
        return swift_provider.SwiftStorageProviderBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
