"""Where the bytes of a file are that Synapse asks to store.

Synapse passes a path relative to its media store. With
``enable_local_media_storage: false`` there is no media store: the bytes are in a
temporary file whose name Synapse does not pass (element-hq/synapse#19413), but
which it shows to spam checkers just before, with the very same ``file_info``.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from swift_provider.client import FileSource


class UploadPlaces:
    """Finds the file to upload.

    :param media_store: Synapse's ``media_store_path``; ``None`` if it keeps no local media.
    """

    def __init__(self, media_store: str | None) -> None:
        self._media_store = None if media_store is None else Path(media_store)
        self._shown: dict[int, tuple[weakref.ref[Any], str]] = {}

    def shown(self, file_info: Any, path: str) -> None:
        """Synapse showed a spam checker the file that ``file_info`` describes."""
        key = id(file_info)
        forget = weakref.ref(file_info, lambda _: self._shown.pop(key, None))
        self._shown[key] = (forget, path)

    def open(self, path: str, file_info: Any) -> FileSource:
        """Open the file, at once: Synapse may unlink it as soon as it gets its turn again.

        :param path: relative to the media store.
        :raises OSError: if there is no such file.
        """
        return FileSource.open(self.local_path(path, file_info))

    def local_path(self, path: str, file_info: Any) -> str:
        """The file's name.

        :raises FileNotFoundError: if Synapse has not told it in any of the ways known.
        """
        # Announced in Synapse's documentation of the interface, not there so far.
        told: str | None = getattr(file_info, "upload_path", None)
        if told is not None:
            return told
        if self._media_store is not None:
            return str(self._media_store / path)
        reference, shown = self._shown.get(id(file_info), (None, ""))
        if reference is not None and reference() is file_info:
            return shown
        raise FileNotFoundError(
            f"Synapse keeps no local media and did not tell where the bytes of {path} are"
        )
