"""The options that the Synapse module and the upload script share."""

from swift_provider.config.local_disk import LocalDiskSettings
from swift_provider.config.mappings import mapping, nearest
from swift_provider.config.redirect import RedirectSettings
from swift_provider.config.settings import MEDIA_FOLDERS, Settings, parse_settings
from swift_provider.config.values import GIB, KIB, MIB

__all__ = [
    "GIB",
    "KIB",
    "MEDIA_FOLDERS",
    "MIB",
    "LocalDiskSettings",
    "RedirectSettings",
    "Settings",
    "mapping",
    "nearest",
    "parse_settings",
]
