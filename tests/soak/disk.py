"""A small disk for a media store, which can be full for a while."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

SIZE_BYTES = 3 * 1024**3
#: What is left on a full disk: a folder or two, but no file.
LEFT_BYTES = 16 * 1024


class Disk:
    """A disk that is never full: a folder of the machine's own disk."""

    can_be_full = False

    def fill(self) -> None:
        """Leave no space."""

    def empty(self) -> None:
        """Undo :meth:`fill`; may be called again."""


class SmallDisk(Disk):
    """A filesystem in memory.

    :param folder: where it is mounted.
    """

    can_be_full = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()

    def fill(self) -> None:
        at = os.statvfs(self._folder)
        used = (at.f_blocks - at.f_bfree) * at.f_frsize
        self._resize(used + LEFT_BYTES)

    def empty(self) -> None:
        self._resize(SIZE_BYTES)

    def _resize(self, size: int) -> None:
        # It fails if a writer was faster than we are. Then the disk is about full anyway.
        options = f"remount,size={size}"
        with self._changing:
            subprocess.run(["mount", "-o", options, self._folder], check=False, capture_output=True)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """A disk for ``folder``, until the end of the block. Only root gets a small one."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "swift-soak", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
        trouble = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        trouble = str(error)
    if trouble:
        print(
            f"No disk will be full in this soak, because only root may mount one: {trouble}",
            file=sys.stderr,
        )
        yield Disk()
        return
    try:
        yield SmallDisk(folder)
    finally:
        # A server that was killed a moment ago may still hold a file.
        subprocess.run(["umount", "--lazy", folder], check=True)
