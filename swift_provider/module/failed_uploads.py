"""How loud the log says that an upload failed: one ERROR for each media.

Synapse stores a picture and then its thumbnails. In an outage all of them fail, for the same
reason.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

#: How many media are remembered whose failure was logged.
MOST = 1000

_THUMBNAILS = {"local_thumbnails": "local_content", "remote_thumbnail": "remote_content"}


class FailedUploads:
    """Remembers the last media whose failure was logged."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, None] = OrderedDict()

    def level(self, path: str) -> int:
        """The level of the log line about a file that failed.

        :param path: relative to the media store.
        """
        media = _content_of(path)
        if media in self._told:
            return logging.INFO
        self._told[media] = None
        if len(self._told) > MOST:
            self._told.popitem(last=False)
        return logging.ERROR

    def stored(self, path: str) -> None:
        """A file was stored: the next failure of its media is news."""
        self._told.pop(_content_of(path), None)


def _content_of(path: str) -> str:
    """The path of the media's content; a thumbnail is a file in a folder of that path."""
    root, _, rest = path.partition("/")
    if root not in _THUMBNAILS:
        return path
    return f"{_THUMBNAILS[root]}/{rest.rpartition('/')[0]}"
