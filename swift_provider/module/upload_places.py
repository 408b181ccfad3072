"""Where the bytes are of a file that Synapse asks to store.

Synapse passes a path relative to its media store. With ``enable_local_media_storage:
false`` there is no media store. The bytes are in a temporary file, and Synapse does not
pass its name (element-hq/synapse#19413). But just before, Synapse passes that name to
spam checkers, with the same ``file_info`` object.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from swift_provider.client import FileSource
from swift_provider.module.upload_queue import WaitingFile


class UploadPlaces:
    """Finds the file to upload.

    :param media_store: Synapse's ``media_store_path``; ``None`` if it keeps no local media.
    """

    def __init__(self, media_store: str | None) -> None:
        self._media_store = None if media_store is None else Path(media_store)
        self._remembered: dict[int, tuple[weakref.ref[Any], str]] = {}

    def remember(self, file_info: Any, local_path: str) -> None:
        """Note the file of a ``file_info``, until that object is gone."""
        key = id(file_info)
        reference = weakref.ref(file_info, lambda _: self._remembered.pop(key, None))
        self._remembered[key] = (reference, local_path)

    def open(self, path: str, file_info: Any) -> FileSource:
        """Open the file before anything is awaited: Synapse may unlink it soon afterwards.

        :param path: relative to the media store.
        :raises OSError: if there is no such file.
        """
        return FileSource.open(self.local_path(path, file_info))

    def wait(self, path: str, file_info: Any) -> WaitingFile:
        """The file, for an upload that begins later. Opened if Synapse may unlink it.

        :raises OSError: if there is no such file.
        """
        local_path = self.local_path(path, file_info)
        if self._media_store is not None and local_path == str(self._media_store / path):
            return WaitingFile(local_path)
        return WaitingFile(local_path, FileSource.open(local_path))

    def local_path(self, path: str, file_info: Any) -> str:
        """The file's name.

        :raises FileNotFoundError: if Synapse did not say where the bytes are.
        """
        # Synapse documents this field in StorageProvider.store_file, but does not set it yet.
        upload_path: str | None = getattr(file_info, "upload_path", None)
        if upload_path is not None:
            return upload_path
        if self._media_store is not None:
            return str(self._media_store / path)
        reference, local_path = self._remembered.get(id(file_info), (None, ""))
        if reference is not None and reference() is file_info:
            return local_path
        raise FileNotFoundError(
            f"Synapse keeps no local media and did not say where the bytes of {path} are"
        )
