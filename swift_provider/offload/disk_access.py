"""Whether this user may do with the media store what a run needs. Asked before a run begins.

A run as the wrong user would fail with each file, and a dry run would promise too much. Only a
few folders are looked at: those below the media store, and one of media in each of them.
"""

from __future__ import annotations

import os
import pwd

from swift_provider.errors import ConfigError
from swift_provider.keeper import FOLDER
from swift_provider.offload.media_names import ROOTS

#: Made by ``local_disk``, perhaps before the first media come, and by mkfs.
_NOBODYS = {FOLDER, "lost+found"}
#: Synapse's folders of media are at most this deep below each root.
_DEPTH = 5


def check_readable(base_path: str) -> None:
    """:raises ConfigError: if the media store, or a root of it, cannot be listed."""
    for folder in (base_path, *_roots(base_path)):
        try:
            os.listdir(folder)
        except PermissionError:
            raise ConfigError(_wrong_user("read", folder)) from None
        except OSError as error:
            raise ConfigError(_disk_fails("read", folder, error)) from None


def check_may_delete(base_path: str) -> None:
    """:raises ConfigError: if files in the media store cannot be deleted."""
    for root in _roots(base_path):
        folder = _of_media(root)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(_wrong_user("delete in", folder))


def check_may_write(base_path: str) -> None:
    """:raises ConfigError: if files in the media store cannot be created."""
    roots = _roots(base_path)
    # A root that is missing has to be made.
    folders = roots if len(roots) == len(ROOTS) else [base_path, *roots]
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(_wrong_user("write in", folder))


def check_reachable(base_path: str) -> None:
    """:raises ConfigError: if the media store's folder cannot be looked at at all."""
    if is_absent(base_path):
        return  # for others to say
    try:
        os.stat(base_path)
    except PermissionError:
        raise ConfigError(_wrong_user("look into", base_path)) from None
    except OSError as error:
        raise ConfigError(_disk_fails("look into", base_path, error)) from None


def is_empty(path: str) -> bool:
    """Whether a folder holds nothing but what no media store is known by.

    :raises OSError: if it cannot be listed.
    """
    return _NOBODYS.issuperset(os.listdir(path))


def is_absent(path: str) -> bool:
    """Whether there is nothing of that name. What cannot be looked at may be there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _may_be_seen(folder: str) -> bool:
    try:
        os.stat(folder)
    except OSError:
        return False
    return True


def _roots(base_path: str) -> list[str]:
    whole = [os.path.join(base_path, root) for root in ROOTS]
    return [one for one in whole if not is_absent(one)]


def _of_media(root: str) -> str:
    """A folder of media below a root; the root itself if there is none."""
    folder = root
    for _ in range(_DEPTH):
        try:
            with os.scandir(folder) as entries:
                folders = (one.path for one in entries if one.is_dir(follow_symlinks=False))
                inner = next(folders, None)
        except OSError:
            break
        if inner is None:
            break
        folder = inner
    return folder


def _disk_fails(what: str, folder: str, error: OSError) -> str:
    return f"Cannot {what} {folder}: {error.strerror}. Check the disk, and whether it is mounted"


def _wrong_user(what: str, folder: str) -> str:
    if not _may_be_seen(folder):
        what, folder = "look into", os.path.realpath(folder)
        while not _may_be_seen(folder):
            folder = os.path.dirname(folder)
    owner, me = os.stat(folder).st_uid, os.geteuid()
    if owner == me or me == 0:
        return f"Cannot {what} {folder}: check its permissions, and whether it is mounted read-only"
    return (
        f"Cannot {what} {folder}: owned by {name_of(owner)}, you are {name_of(me)}. "
        f"Run as {name_of(owner)}"
    )


def name_of(user: int) -> str:
    """A user's name, or else the number."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
