"""Which runs exclude each other."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swift_provider.errors import ConfigError
from swift_provider.keeper import KeeperLock, lock_path
from swift_provider.offload import lock
from swift_provider.offload.command import cli
from swift_provider.offload.lock import (
    BusyError,
    RunLock,
    StoreLock,
    check_not_kept,
    lock_between_passes,
)
from swift_provider.offload.lock_holder import COMMANDS

HOLD = "import os, fcntl, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), 2); print(); input()"


@contextmanager
def _holding(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of a folder, and is killed at the end of the block.

    :param words: further words of its command line.
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_a_media_store_is_locked_by_one_run(tmp_path: Path) -> None:
    """A second lock is refused, by any path to the folder, and names the process."""
    folder = tmp_path / "store"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    with closing(StoreLock(str(folder))):
        with pytest.raises(ConfigError) as caught:
            StoreLock(f"{link}/")
        assert f"(process {os.getpid()})" in str(caught.value)
        assert str(link) in str(caught.value)
        assert list(folder.iterdir()) == []
    StoreLock(str(folder)).close()


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    """A process that was killed leaves no lock; one that lives is named."""
    with (
        _holding(tmp_path) as holder,
        pytest.raises(ConfigError, match=rf"\(process {holder.pid}\)"),
    ):
        StoreLock(str(tmp_path))
    StoreLock(str(tmp_path)).close()


@pytest.mark.parametrize(
    ("words", "who"),
    [
        (["/usr/bin/swift_media_upload", "--cache-db", "x", "verify", "-q"], "verify"),
        (["/usr/bin/swift_media_upload", "upload", "--delete"], "upload"),
        (["-m", "swift_provider.offload.keeper"], "Synapse's local_disk"),
        (["/usr/bin/backup", "upload"], "another run"),
    ],
)
def test_the_command_that_holds_a_lock(tmp_path: Path, words: list[str], who: str) -> None:
    """It is named, whether or not Synapse keeps the disk within its budget."""
    who = f"'swift_media_upload {who}'" if who in COMMANDS else who
    with (
        _holding(tmp_path, *words),
        closing(KeeperLock(str(tmp_path), "main")),
        pytest.raises(ConfigError) as caught,
    ):
        StoreLock(str(tmp_path))
    assert str(caught.value).startswith(f"{who} is using the media store {tmp_path} (process ")


def test_a_pass_is_waited_for(tmp_path: Path) -> None:
    """Passes of ``local_disk`` come and go; a lock is had once one has ended."""
    with _holding(tmp_path, "-m", "swift_provider.offload.keeper") as holder:
        started = time.monotonic()
        threading.Timer(1, holder.kill).start()
        with closing(lock_between_passes(str(tmp_path))):
            assert time.monotonic() - started >= 1
            with pytest.raises(BusyError):
                StoreLock(str(tmp_path))


def test_a_pass_that_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without end."""
    monkeypatch.setattr(lock, "PASS_SECONDS", 0.5)
    with (
        _holding(tmp_path, "-m", "swift_provider.offload.keeper") as holder,
        pytest.raises(BusyError) as caught,
    ):
        lock_between_passes(str(tmp_path))
    assert str(caught.value).startswith(f"Synapse's local_disk is using the media store {tmp_path}")
    assert str(caught.value).endswith(f"(process {holder.pid}): wait until it ends")


def test_a_pass_whose_process_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Btrfs, or in another container."""
    monkeypatch.setattr(lock, "holder_of_flock", lambda _: None)
    monkeypatch.setattr(lock, "PASS_SECONDS", 2.0)
    with _holding(tmp_path):
        for is_kept in (False, True):
            began = time.monotonic()
            with contextlib.ExitStack() as stack:
                if is_kept:
                    stack.enter_context(closing(KeeperLock(str(tmp_path), "main")))
                with pytest.raises(BusyError):
                    lock_between_passes(str(tmp_path))
            assert (time.monotonic() - began >= 2) == is_kept


def test_a_run_is_not_waited_for(tmp_path: Path) -> None:
    """The operator has started it."""
    with _holding(tmp_path, "/usr/bin/swift_media_upload", "verify"), pytest.raises(BusyError):
        lock_between_passes(str(tmp_path))


def test_a_pass_that_ends_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is not known any more, and the media store is free."""

    def look(_: int) -> None:
        holding.close()

    with closing(StoreLock(str(tmp_path))) as holding:
        monkeypatch.setattr(lock, "holder_of_flock", look)
        lock_between_passes(str(tmp_path)).close()


def test_all_commands_are_known() -> None:
    """Those that may hold a lock."""
    assert cli._COMMANDS.keys() - COMMANDS == {"status", "stats"}


def test_a_folder_of_another_user(tmp_path: Path) -> None:
    """A folder that may only be read can be locked."""
    tmp_path.chmod(0o555)
    try:
        with closing(StoreLock(str(tmp_path))), pytest.raises(ConfigError):
            StoreLock(str(tmp_path))
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: Any, number: int) -> None:
    """NFS cannot lock a folder: the run goes on, and only the cache's lock protects it."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    StoreLock(str(tmp_path)).close()


def test_a_name_that_a_killed_process_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no locks, it stays: the message says how to get rid of it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    store = str(tmp_path)
    KeeperLock(store, "main")
    with pytest.raises(ConfigError) as caught:
        check_not_kept(store, "restore")
    assert str(caught.value).endswith(f"If no process of Synapse runs, delete {lock_path(store)}")
    os.unlink(lock_path(store))
    check_not_kept(store, "restore")


def test_a_cache_is_locked_by_one_run(tmp_path: Path) -> None:
    """The cache has a lock of its own."""
    path = str(tmp_path / "cache.db")
    with (
        closing(RunLock(path)),
        pytest.raises(ConfigError, match=rf"\(process {os.getpid()}\).*--cache-db"),
    ):
        RunLock(path)


@pytest.mark.parametrize(
    ("user", "remedy"),
    [(0, ", as after a run by {}. Delete"), (1, ". Run as {}, or delete")],
)
def test_a_lock_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, remedy: str
) -> None:
    """The message says whose it is. What one run as root has left may be deleted."""
    path = str(tmp_path / "cache.db")
    RunLock(path).close()
    owner = pwd.getpwuid(user).pw_name
    stat = os.stat

    def owned(looked_at: str) -> Any:
        stat(looked_at)  # It may not be there.
        return SimpleNamespace(st_uid=user)

    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    monkeypatch.setattr(os, "stat", owned)
    with pytest.raises(ConfigError) as caught:
        RunLock(path)
    told = f"cannot lock the cache: {path}.lock: Permission denied: it belongs to {owner}"
    told += f"{remedy.format(owner)} {path}*: the next 'update' makes the list again"
    assert str(caught.value).startswith(told)
    os.unlink(f"{path}.lock")
    with pytest.raises(ConfigError, match=f"the folder {tmp_path} belongs to {owner}. Run this in"):
        RunLock(path)
