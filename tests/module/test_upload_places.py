"""Where the bytes of an upload are."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from swift_provider.module.upload_places import UploadPlaces


class FileInfo:
    """Like Synapse's; only its identity counts."""


def test_media_store(tmp_path: Path) -> None:
    """If Synapse keeps local media, the bytes are below its media store."""
    assert UploadPlaces(str(tmp_path)).local_path("a/b", FileInfo()) == str(tmp_path / "a/b")


def test_what_synapse_tells_wins(tmp_path: Path) -> None:
    """The path in ``file_info.upload_path`` is used wherever Synapse gives one."""
    info = FileInfo()
    info.upload_path = "/tmp/told"
    for store in (str(tmp_path), None):
        assert UploadPlaces(store).local_path("a/b", info) == "/tmp/told"


def test_shown_to_spam_checkers() -> None:
    """Without a media store, the path is the one remembered with this ``file_info`` object."""
    places, info = UploadPlaces(None), FileInfo()
    places.remember(info, "/tmp/shown")
    assert places.local_path("a/b", info) == "/tmp/shown"
    with pytest.raises(FileNotFoundError, match="a/b"):
        places.local_path("a/b", FileInfo())


class LocalPath(str):
    """A path that can be referenced weakly."""


def test_nothing_is_remembered_for_ever() -> None:
    """A path is forgotten with its ``file_info``, so that no other can be taken for it."""
    places, info = UploadPlaces(None), FileInfo()
    path = LocalPath("/tmp/shown")
    remembered = weakref.ref(path)
    places.remember(info, path)
    del path
    gc.collect()
    assert remembered() == "/tmp/shown"
    del info
    gc.collect()
    assert remembered() is None
