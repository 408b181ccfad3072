"""Names the process that holds a lock, as far as Linux tells it."""

from __future__ import annotations

import os

#: What the module's child process is started with.
_KEEPER = "swift_provider.offload.keeper"
_SCRIPT = "swift_media_upload"
#: What a pass of the module's child process is to a reader.
LOCAL_DISK = "Synapse's local_disk"
#: The script's commands that may hold a lock.
COMMANDS = frozenset(
    (
        *("update-db", "check-deleted", "update", "write", "upload", "offload"),
        *("verify", "prune", "restore", "sync"),
    )
)


def holder_of_flock(descriptor: int) -> str | None:
    """The number of the process that holds the ``flock`` of a file; ``None`` if unknown."""
    found = os.fstat(descriptor)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    try:
        with open("/proc/locks", encoding="ascii") as lines:
            for line in lines:
                # "1: FLOCK ADVISORY WRITE <process> <device>:<inode> 0 EOF"
                parts = line.split()
                if parts[1] == "FLOCK" and parts[5] == f"{device}:{found.st_ino}":
                    return parts[4]
    except (OSError, ValueError, IndexError):
        pass
    return None


def what_runs(process: str | None) -> str:
    """What a process is, for the beginning of a message.

    :param process: its number; ``None`` if unknown.
    :returns: ``another run`` if the system does not tell it.
    """
    words = _words_of(process) if process else []
    if _KEEPER in words:
        return LOCAL_DISK
    names = [os.path.basename(word) for word in words]
    if _SCRIPT in names:
        after = words[names.index(_SCRIPT) + 1 :]
        command = next((word for word in after if word in COMMANDS), None)
        if command is not None:
            return f"'{_SCRIPT} {command}'"
    return "another run"


def _words_of(process: str) -> list[str]:
    try:
        with open(f"/proc/{int(process)}/cmdline", "rb") as file:
            return file.read().decode("utf-8", "replace").split("\0")
    except (OSError, ValueError):
        return []
