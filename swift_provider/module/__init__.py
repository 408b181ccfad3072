"""Synapse's side: the storage provider that ``media_storage_providers`` names.

This is the only part of the package that imports Synapse. Its import refuses a Synapse
that is too old, before anything else of Synapse is imported.
"""

from swift_provider.module.synapse_version import check_synapse_version

check_synapse_version()

from swift_provider.module.provider import SwiftStorageProviderBackend  # noqa: E402

__all__ = ["SwiftStorageProviderBackend"]
