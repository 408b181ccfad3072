"""A file on its way back to the media store, step by step."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest

from swift_provider.errors import FileChangedError
from swift_provider.offload.disk import Expected
from swift_provider.offload.new_file import MediaStore, NewFile
from tests.offload.synapse_store import SynapseStore

CONTENT = b"0123456789"
FILE = Expected("local_content/ab/cd/ef", frozenset([len(CONTENT)]))


@pytest.fixture
def media(store: SynapseStore) -> MediaStore:
    return MediaStore(str(store.base))


def test_two_runs_restore_one_file(media: MediaStore, store: SynapseStore) -> None:
    """As on two hosts: neither removes the other's file, nor gives half of it the final name."""
    first, second = NewFile(media, FILE), NewFile(media, FILE)
    first.write(CONTENT[:5])
    second.write(CONTENT[:3])
    first.write(CONTENT[5:])
    first.keep(keep_bad=False)
    first.close()
    assert (store.base / FILE.path).read_bytes() == CONTENT
    third = NewFile(media, FILE)
    third.close()
    second.write(CONTENT[3:])
    second.keep(keep_bad=False)
    second.close()
    assert (store.base / FILE.path).read_bytes() == CONTENT
    assert store.files() == {FILE.path}


def test_a_leftover_of_a_killed_run_is_removed(media: MediaStore, store: SynapseStore) -> None:
    """The next restore of the same file removes it; those of other files stay."""
    killed = NewFile(media, FILE)
    killed.write(CONTENT)
    (name,) = store.files()
    other = store.base / f"{FILE.path}g~restoring-12345678"
    other.write_bytes(b"")
    odd = store.base / f"{FILE.path}~restoring-fifo"
    os.mkfifo(odd)
    NewFile(media, FILE).close()
    assert (store.base / name).exists(), "a run that lives still writes it"
    fcntl.flock(killed._open.fileno(), fcntl.LOCK_UN)  # as the kernel does when a process ends
    NewFile(media, FILE).close()
    assert {store.base / one for one in store.files()} == {other, odd}
    killed.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_only_the_own_file_is_renamed_or_removed(
    media: MediaStore, store: SynapseStore, replaced: bool
) -> None:
    """If the temporary name is another file's, nothing gets the final name."""
    new = NewFile(media, FILE)
    new.write(CONTENT)
    (name,) = store.files()
    (store.base / name).unlink()
    if replaced:
        (store.base / name).write_bytes(b"of another")
    with pytest.raises(FileChangedError):
        new.keep(keep_bad=False)
    new.close()
    assert store.files() == ({name} if replaced else set())


def _restore(media: MediaStore, *, keep_bad: bool) -> str | None:
    new = NewFile(media, FILE)
    try:
        new.write(CONTENT)
        return new.keep(keep_bad=keep_bad)
    finally:
        new.close()


def _no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on vfat, CIFS and much of FUSE."""

    def link(*arguments: Any, **options: Any) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


def _bad_file(store: SynapseStore) -> Path:
    path = store.base / FILE.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"bad")
    return path


def test_a_bad_file_is_mended_without_hard_links(
    media: MediaStore, store: SynapseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept all the same, and never over another one."""
    _no_links(monkeypatch)
    for number in ("", "2"):
        path = _bad_file(store)
        assert _restore(media, keep_bad=True) == f"{FILE.path}~bad{number}"
        assert path.read_bytes() == CONTENT
        assert Path(f"{path}~bad{number}").read_bytes() == b"bad"
    assert store.files() == {FILE.path, f"{FILE.path}~bad", f"{FILE.path}~bad2"}


def test_a_bad_file_stays_if_no_other_takes_its_name(
    media: MediaStore, store: SynapseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links, a failed rename brings the bad file back."""
    _no_links(monkeypatch)
    path = _bad_file(store)
    rename = os.rename

    def fail(source: str, target: str) -> None:
        if "~restoring" in source:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        _restore(media, keep_bad=True)
    assert store.files() == {FILE.path}
    assert path.read_bytes() == b"bad"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_flushed(
    media: MediaStore, store: SynapseStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A filesystem that does not know it is no failure; a disk that fails is one."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    if number == errno.EINVAL:
        assert _restore(media, keep_bad=False) is None
    else:
        with pytest.raises(OSError, match="Input/output"):
            _restore(media, keep_bad=False)
    assert (store.base / FILE.path).read_bytes() == CONTENT
