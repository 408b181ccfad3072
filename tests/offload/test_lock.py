"""Which runs exclude each other."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swift_provider.errors import ConfigError
from swift_provider.offload.lock import RunLock, StoreLock

HOLD = "import os, fcntl, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), 2); print(); input()"


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
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(ConfigError, match=rf"\(process {holder.pid}\)"):
        StoreLock(str(tmp_path))
    holder.kill()
    holder.communicate()
    StoreLock(str(tmp_path)).close()


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


def test_a_cache_is_locked_by_one_run(tmp_path: Path) -> None:
    """The cache has a lock of its own."""
    path = str(tmp_path / "cache.db")
    with (
        closing(RunLock(path)),
        pytest.raises(ConfigError, match=rf"\(process {os.getpid()}\).*--cache-db"),
    ):
        RunLock(path)
