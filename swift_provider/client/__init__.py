"""An asynchronous Swift client for Twisted programs; knows nothing of Synapse.

:class:`Store` is what the rest of the package uses: one place in Swift, and what can be
done with the objects there.
"""

from swift_provider.client.answers import ListedObject, ObjectInfo
from swift_provider.client.client import SwiftClient
from swift_provider.client.direct_access import DirectAccess, Links
from swift_provider.client.downloads import Download, WholeDownload
from swift_provider.client.file_source import FileSource
from swift_provider.client.observer import Observer
from swift_provider.client.retry import Patience
from swift_provider.client.store import Store
from swift_provider.client.temp_url import TempUrl
from swift_provider.client.temp_url_keys import read_keys
from swift_provider.client.threads import Threads

__all__ = [
    "DirectAccess",
    "Download",
    "FileSource",
    "Links",
    "ListedObject",
    "ObjectInfo",
    "Observer",
    "Patience",
    "Store",
    "SwiftClient",
    "TempUrl",
    "Threads",
    "WholeDownload",
    "read_keys",
]
