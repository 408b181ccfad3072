"""An asynchronous Swift client for Twisted programs; knows nothing of Synapse."""

from swift_provider.client.answers import ListedObject, ObjectInfo
from swift_provider.client.client import SwiftClient
from swift_provider.client.downloads import Download
from swift_provider.client.file_source import FileSource, Fingerprint, fingerprint_of
from swift_provider.client.observer import Observer
from swift_provider.client.retry import Patience

__all__ = [
    "Download",
    "FileSource",
    "Fingerprint",
    "ListedObject",
    "ObjectInfo",
    "Observer",
    "Patience",
    "SwiftClient",
    "fingerprint_of",
]
