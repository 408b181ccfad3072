"""A file on its way back to the media store, step by step."""

from __future__ import annotations

import fcntl
import os

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
