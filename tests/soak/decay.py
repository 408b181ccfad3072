"""What goes wrong with objects inside Swift, while the files are still on Synapse's disk.

Segments vanish, somebody sets an expiry, objects are deleted or replaced. The next offload
must see that such an object is no proof. It happens only between two runs of the script:
what Swift loses just after it has proven that it has it, nobody can keep.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from tests.servers.swift_account import Account
from tests.soak.home import Home
from tests.soak.record import Record, Stored

#: How many objects are spoiled at a time.
MOST = 6
#: The script runs before the expiry and after it.
EXPIRES_SECONDS = "20"
#: Where Synapse keeps local media, in the media store and in the container.
LOCAL = "local_content"


class Decay:
    """Spoils objects.

    :param container: where they are.
    """

    def __init__(self, account: Account, container: str, random_: random.Random) -> None:
        self._account = account
        self._container = container
        self._random = random_
        #: How often each kind of damage was done.
        self.came: Counter[str] = Counter()

    def spoil(self, home: Home, record: Record) -> None:
        """Spoil the objects of some media whose files are on the disk. Blocking."""
        on_disk = [one for one in record.stored() if (home.media_store / file_of(one)).exists()]
        self._random.shuffle(on_disk)
        left = MOST
        # Segments are few: begin with the large ones.
        for media in sorted(on_disk[: 10 * MOST], key=lambda one: -one.size):
            if left and self._spoil(media):
                left -= 1

    def _spoil(self, media: Stored) -> bool:
        """:returns: whether there was an object to spoil."""
        name = file_of(media)
        found = self._account.call("HEAD", self._container, name)
        if found is None:
            return False
        kinds: dict[str, Callable[[], None]] = {
            "object deleted": lambda: self._delete(name),
            "object replaced": lambda: self._replace(name, media.size),
            "object expires": lambda: self._expire(name),
        }
        place = self._account, self._container
        if found.headers.get("X-Static-Large-Object"):
            kinds = {"segment deleted": lambda: lose_segment(*place, name, self._random)}
        kind = self._random.choice(list(kinds))
        kinds[kind]()
        self.came[kind] += 1
        return True

    def _delete(self, name: str) -> None:
        self._account.call("DELETE", self._container, name)

    def _replace(self, name: str, size: int) -> None:
        other = self._random.randbytes(size)
        self._account.call("PUT", self._container, name, data=other)

    def _expire(self, name: str) -> None:
        headers = {"X-Delete-After": EXPIRES_SECONDS}
        self._account.call("POST", self._container, name, headers=headers)


def lose_segment(account: Account, container: str, name: str, random_: random.Random) -> None:
    """Delete one segment of a large object. Blocking."""
    query = {"multipart-manifest": "get", "format": "json"}
    manifest = account.call("GET", container, name, params=query)
    if manifest is not None:
        segment = random_.choice(manifest.json())["name"]
        segment_container, _, segment_name = segment.lstrip("/").partition("/")
        account.call("DELETE", segment_container, segment_name)


def file_of(media: Stored) -> str:
    """A local media's file in the media store, and its object in the container."""
    media_id = media.media_id
    return f"{LOCAL}/{media_id[:2]}/{media_id[2:4]}/{media_id[4:]}"
