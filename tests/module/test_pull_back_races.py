"""Two pull-backs of one file, step by step: no part ever has the final name."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from swift_provider.module.pull_back import PullBack

WHOLE, PART = b"A" * 100, b"B" * 5


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_the_second_waits_for_the_first(final: Path) -> None:
    """The second does not open the file between the first one's open and its rename."""
    first, second = PullBack(str(final)), PullBack(str(final))
    first.protect()
    of_first = final.open("wb")
    # As in another process; it waits for the lock, which the first one holds.
    waiting = threading.Thread(target=second.protect)
    waiting.start()
    first.begin()
    waiting.join(10)
    of_second = final.open("wb")
    second.begin()
    of_first.write(WHOLE[:10])
    of_first.flush()
    assert not final.exists()
    of_second.write(PART)
    of_second.flush()
    of_first.write(WHOLE[10:])
    of_first.close()
    first.publish()
    first.end()
    assert final.read_bytes() == WHOLE
    second.end()
    of_second.close()
    assert final.read_bytes() == WHOLE
    assert os.listdir(final.parent) == [final.name]


def test_a_whole_file_is_not_published_into_an_open(final: Path) -> None:
    """It waits until the other pull-back has renamed its empty file."""
    first, second = PullBack(str(final)), PullBack(str(final))
    first.protect()
    with final.open("wb") as file:
        first.begin()
        file.write(WHOLE)
    second.protect()
    publishing = threading.Thread(target=first.publish)
    publishing.start()
    with final.open("wb"):
        second.begin()
    publishing.join(10)
    assert final.read_bytes() == WHOLE
    first.end()
    second.end()
    assert os.listdir(final.parent) == [final.name]


@pytest.fixture
def _no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, where only files that are open for writing can be locked."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("_no_locks")
@pytest.mark.parametrize("begins_first", [True, False])
@pytest.mark.parametrize("publishes", [0, 1, None])
def test_two_workers_without_a_lock(final: Path, begins_first: bool, publishes: int | None) -> None:
    """The empty file of the first is no whole one, whatever the second does between its steps."""
    pull_backs = [PullBack(str(final)), PullBack(str(final))]
    first, second = pull_backs
    first.protect()
    files = [final.open("wb", buffering=0)]
    second.protect()
    if begins_first:
        first.begin()
        files.append(final.open("wb", buffering=0))
    else:
        files.append(final.open("wb", buffering=0))
        first.begin()
    second.begin()
    files[0].write(WHOLE[:30])
    assert not final.exists()
    files[1].write(WHOLE[:20])
    assert not final.exists()
    if publishes is not None:
        files[publishes].write(WHOLE[files[publishes].tell() :])
        pull_backs[publishes].publish()
    for pull_back, file in zip(pull_backs, files, strict=True):
        file.close()
        pull_back.end()
    assert not final.exists() or final.read_bytes() == WHOLE
    assert set(os.listdir(final.parent)) <= {final.name}


def test_an_unused_pull_back_releases_the_folder(final: Path) -> None:
    """A responder that is entered and left without a delivery locks nothing out."""
    final.write_bytes(WHOLE)
    for _ in range(3):
        unused = PullBack(str(final))
        unused.protect()
        assert not final.exists()
        unused.end()
        assert final.read_bytes() == WHOLE
