"""An asynchronous Swift client for Twisted programs; knows nothing of Synapse.

:class:`Store` is what the rest of the package uses: objects in one place in Swift, or in
several places that mirror each other, and what can be done with them.

A program that stores a file and gets it back::

    from sys import argv

    from twisted.internet.task import react
    from twisted.protocols.ftp import FileConsumer

    from swift_provider.client import FileSource, open_store
    from swift_provider.config import parse_settings

    async def main(reactor, path):
        store = open_store(reactor, parse_settings({"container": "notes"}))
        with FileSource.open(path) as source:
            stored = await store.put("today", source)
        print(f"{stored.size} bytes, MD5 {stored.etag}")
        download = await store.get("today")
        await download.deliver(FileConsumer(open(f"{path}.copy", "wb")))
        await store.close()

    react(main, argv[1:])

It takes the cloud from ``clouds.yaml`` or ``OS_*`` variables, as openstacksdk does. An error that
a method raises is final: the client has done all retries by then. Errors are in
:mod:`swift_provider.errors`. The attribute ``temporary`` says whether the same operation may
succeed later.
"""

from swift_provider.client.answers import ListedObject, ObjectInfo
from swift_provider.client.asking import Asking, give_up
from swift_provider.client.client import SwiftClient
from swift_provider.client.containers import (
    ContainerFacts,
    Quota,
    account_quota,
    container_facts,
)
from swift_provider.client.copying import copy, unreliable
from swift_provider.client.direct_access import DirectAccess
from swift_provider.client.direct_check import MOST_SKEW, Links
from swift_provider.client.downloads import Download, WholeDownload
from swift_provider.client.file_source import FileSource
from swift_provider.client.mirrors import MirrorSet
from swift_provider.client.observer import Observer, Progress
from swift_provider.client.place import Place
from swift_provider.client.retry import Patience
from swift_provider.client.sameness import SeenPlace, same_place
from swift_provider.client.store import Store, open_store
from swift_provider.client.temp_url import TempUrl
from swift_provider.client.temp_url_keys import read_keys
from swift_provider.client.threads import Threads

__all__ = [
    "MOST_SKEW",
    "Asking",
    "ContainerFacts",
    "DirectAccess",
    "Download",
    "FileSource",
    "Links",
    "ListedObject",
    "MirrorSet",
    "ObjectInfo",
    "Observer",
    "Patience",
    "Place",
    "Progress",
    "Quota",
    "SeenPlace",
    "Store",
    "SwiftClient",
    "TempUrl",
    "Threads",
    "WholeDownload",
    "account_quota",
    "container_facts",
    "copy",
    "give_up",
    "open_store",
    "read_keys",
    "same_place",
    "unreliable",
]
