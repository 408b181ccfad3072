"""What is taken for a media's file, and what may be removed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from swift_provider.client import FileSource
from swift_provider.errors import FileChangedError, KeptError
from swift_provider.offload.checked_file import open_checked
from swift_provider.offload.database import Facts
from swift_provider.offload.disk import Expected, files_of, remove
from swift_provider.offload.media_names import Media
from tests.offload.synapse_store import SynapseStore

CONTENT = b"content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_files_of_a_media(store: SynapseStore) -> None:
    """The file first, then its thumbnails, each with the lengths that the database knows."""
    content = store.add_local("abcdef", CONTENT)
    known = store.add_thumbnail("abcdef", b"thumb")
    unknown = store.add_thumbnail("abcdef", b"thumb", width=96)
    strange = os.fsencode(store.base / Path(known).parent) + b"/\xff\xfe"
    with open(strange, "wb") as file:
        file.write(b"x")
    facts = Facts("abcdef", len(CONTENT), SHA256, {"32-32-image-png-crop": {5}})
    files, left = files_of(str(store.base), Media("", "abcdef", "abcdef", "local"), facts)
    assert files == [
        Expected(content, frozenset([len(CONTENT)]), SHA256),
        Expected(known, frozenset([5])),
        Expected(unknown, frozenset()),
    ]
    assert left == [str(Path(known).parent) + "/\udcff\udcfe"]


def test_a_folder_in_a_files_place(store: SynapseStore) -> None:
    """A file where a folder should be, and a folder where a file should be, harm nothing."""
    (store.base / "local_content" / "ab").write_bytes(b"a file")
    (store.base / "local_thumbnails" / "xy").write_bytes(b"a file")
    place = store.base / "local_thumbnails" / "ab" / "cd" / "ef" / "32-32-image-png-crop"
    place.mkdir(parents=True)
    facts = Facts("abcdef", 7, None)
    files, _ = files_of(str(store.base), Media("", "abcdef", "abcdef", "local"), facts)
    assert [file.path.rpartition("/")[2] for file in files] == ["32-32-image-png-crop"]
    none = files_of(str(store.base), Media("", "xyzabc", "xyzabc", "local"), facts)
    assert none == ([], [])
    with pytest.raises(KeptError, match="not a regular file"):
        open_checked(str(store.base), files[0])


def test_empty_folders_go_with_a_file(store: SynapseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders made from the id go when they are empty; a server's folder and a root stay."""
    keep_open_files_as_nfs_does(monkeypatch)
    local = store.add_local("abcdef", CONTENT)
    neighbour = store.add_local("abxyzz", CONTENT)
    remote = store.add_remote("example.org", "m", "ghijkl", CONTENT)
    thumbnail = store.add_thumbnail("m", origin="example.org", filesystem_id="ghijkl")
    base = store.base
    for path in (local, remote, thumbnail):
        with FileSource.open(base / path) as source:
            remove(str(base), path, source)
    folders = {str(p.relative_to(base)) for p in base.rglob("*") if p.is_dir()}
    assert folders == {
        "local_content",
        "local_content/ab",
        "local_content/ab/xy",
        "local_thumbnails",
        "remote_content",
        "remote_content/example.org",
        "remote_thumbnail",
        "remote_thumbnail/example.org",
    }
    assert store.files() == {neighbour}


def keep_open_files_as_nfs_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is deleted while it is open gets another name, until it is closed."""
    unlink = os.unlink

    def unlink_or_rename(path: str) -> None:
        descriptors = Path("/proc/self/fd")
        if any(os.path.realpath(one) == path for one in descriptors.iterdir()):
            os.rename(path, f"{os.path.dirname(path)}/.nfs0001")
        else:
            unlink(path)

    monkeypatch.setattr(os, "unlink", unlink_or_rename)


@pytest.mark.parametrize("change", ["longer", "same length", "replaced", "link"])
def test_a_file_that_changed_stays(store: SynapseStore, change: str) -> None:
    """A file that is not the one that was compared is not removed."""
    path = store.add_local("abcdef", CONTENT)
    whole = store.base / path
    written = whole.stat().st_mtime_ns
    with FileSource.open(whole) as source:
        if change == "longer":
            with open(whole, "ab") as file:
                file.write(b"more")
        elif change == "same length":
            with open(whole, "r+b") as file:
                file.write(b"C")
            os.utime(whole, ns=(0, written + 1))
        else:
            os.rename(whole, f"{whole}.old")
            if change == "link":
                whole.symlink_to(f"{whole}.old")
            else:
                whole.write_bytes(CONTENT)
                os.utime(whole, ns=(0, written))
        with pytest.raises(FileChangedError):
            remove(str(store.base), path, source)
    assert os.path.lexists(whole)
