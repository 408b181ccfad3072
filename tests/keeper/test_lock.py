"""One process for each media store keeps its disk within the budget."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swift_provider.keeper import FOLDER, KeeperLock, holder_of


def test_one_process_holds_it(tmp_path: Path) -> None:
    """A second one is refused, and told who holds it; afterwards it may."""
    assert holder_of(str(tmp_path)) is None
    lock = KeeperLock(str(tmp_path), "main")
    assert (holder_of(str(tmp_path)) or "").startswith("main, process ")
    with pytest.raises(BlockingIOError):
        KeeperLock(str(tmp_path), "other")
    lock.close()
    lock.close()
    assert holder_of(str(tmp_path)) is None
    KeeperLock(str(tmp_path), "other").close()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    """The kernel releases the lock; nothing has to be cleaned up."""
    code = (
        "import sys, time; from swift_provider.keeper import KeeperLock\n"
        "lock = KeeperLock(sys.argv[1], 'one'); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert holder_of(str(tmp_path)) == f"one, process {process.pid}"
        process.kill()
        process.wait()
    KeeperLock(str(tmp_path), "two").close()


def test_a_server_that_forgets_the_lock(tmp_path: Path) -> None:
    """NFS does so after it did not hear of a host for a while. The holder notices."""
    lock = KeeperLock(str(tmp_path), "one")
    assert lock.renew() is False
    assert lock._descriptor is not None
    fcntl.flock(lock._descriptor, fcntl.LOCK_UN)
    other = KeeperLock(str(tmp_path), "other")
    with pytest.raises(BlockingIOError):
        lock.renew()
    assert (holder_of(str(tmp_path)) or "").startswith("other, process ")
    lock.close()
    other.close()


def test_a_share_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers EACCES to a lock that is held, also to the process that holds it."""
    holder: list[int] = []

    def lock(descriptor: int, how: int) -> None:
        if holder:
            raise PermissionError(errno.EACCES, "Permission denied")
        if how & fcntl.LOCK_EX:
            holder.append(descriptor)

    monkeypatch.setattr(fcntl, "flock", lock)
    held = KeeperLock(str(tmp_path), "one")
    assert held.renew() is False
    with pytest.raises(BlockingIOError):
        KeeperLock(str(tmp_path), "other")
    assert (holder_of(str(tmp_path)) or "").startswith("one, process ")
    held.close()


def test_locks_that_are_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has signed the file: it is not another process that stands in the way."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for use in (lambda: KeeperLock(str(tmp_path), "one"), lambda: holder_of(str(tmp_path))):
        with pytest.raises(PermissionError, match=r"AppArmor.*local_disk\.lock"):
            use()


def test_a_lock_that_keeps_others_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On some network file systems nobody can read a file that is locked."""

    def denied(*arguments: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    lock = KeeperLock(str(tmp_path), "one")
    monkeypatch.setattr(os, "pread", denied)
    assert holder_of(str(tmp_path)) == "a process of Synapse"
    lock.close()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room for the file is the one that needs a keeper most."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(os, "makedirs", full)
    lock = KeeperLock(str(tmp_path), "main")
    assert holder_of(str(tmp_path)) is None
    lock.close()


def test_room_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a full disk has room for the file, it is locked."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "makedirs", full)
        lock = KeeperLock(str(tmp_path), "main")
        assert not lock.renew()
    assert not lock.renew(), "it was held all the time"
    assert (holder_of(str(tmp_path)) or "").startswith("main, process ")
    with pytest.raises(BlockingIOError):
        KeeperLock(str(tmp_path), "other")
    lock.close()


def test_a_file_that_was_deleted(tmp_path: Path) -> None:
    """The holder takes the lock anew, if no other process was faster."""
    store = str(tmp_path)
    lock = KeeperLock(store, "main")
    assert not lock.renew()
    shutil.rmtree(tmp_path / FOLDER)
    assert lock.renew()
    assert (holder_of(store) or "").startswith("main, process ")
    os.rename(tmp_path / FOLDER, tmp_path / "old")
    other = KeeperLock(store, "other")
    with pytest.raises(BlockingIOError):
        lock.renew()
    assert (holder_of(store) or "").startswith("other, process ")
    other.close()
    lock.close()
    assert holder_of(store) is None


def test_a_filesystem_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever took it last is named until it ends in order."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = KeeperLock(str(tmp_path), "main")
    assert holder_of(str(tmp_path)) == f"main, process {os.getpid()}"
    lock.close()
    assert holder_of(str(tmp_path)) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error says which file it was."""
    (tmp_path / ".swift_provider").write_text("in the way")
    with pytest.raises(OSError, match=r"\.swift_provider"):
        KeeperLock(str(tmp_path), "main")
    assert holder_of(str(tmp_path)) is None


@pytest.mark.parametrize("held", [False, True])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """The lock is let go, so that it can be taken again."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = str(tmp_path)
    use = KeeperLock(store, "main").renew if held else lambda: KeeperLock(store, "main")
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", fail)
        with pytest.raises(OSError, match="Input/output"):
            use()
    KeeperLock(store, "main").close()
