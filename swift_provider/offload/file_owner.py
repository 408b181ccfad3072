"""Why this user may not write the files of a cache: mostly another user ran the script there."""

from __future__ import annotations

import os
import pwd


def remedy_of_owner(cache_path: str, path: str) -> str:
    """What to do about a file of a cache that cannot be written; empty if its owner is right.

    :param path: the file. If it does not exist, its folder counts.
    """
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return _remedy_of_folder(os.path.dirname(os.path.abspath(path)))
    if owner == os.geteuid():
        return ""
    name = _name(owner)
    # Nobody should run it as root.
    remedy = f", as after a run by {name}. Delete" if owner == 0 else f". Run as {name}, or delete"
    return (
        f": it belongs to {name}{remedy} {cache_path}*: the next 'update' makes the list again, "
        "and only status forgets what the commands did last"
    )


def _remedy_of_folder(folder: str) -> str:
    try:
        owner = os.stat(folder).st_uid
    except OSError:
        return ""
    return (
        f": the folder {folder} belongs to {_name(owner)}. Run this in a folder that you may "
        "write, or give --cache-db"
    )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user {user}"
