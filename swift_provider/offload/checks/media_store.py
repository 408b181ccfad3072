"""Checks Synapse's media store: found, may be written to, and with space. Changes nothing, blocks.

Whether files can be made and deleted is told by the permissions of the folders, because a test
file would be left if this process was killed.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from swift_provider.config import LocalDiskSettings
from swift_provider.errors import ConfigError
from swift_provider.keeper import Space
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.local_disk import judge_limits
from swift_provider.offload.command.homeserver import Homeserver
from swift_provider.offload.disk_access import is_absent, is_empty, name_of
from swift_provider.offload.media_names import ROOTS
from swift_provider.sizes import readable

#: How many folders are looked at, and how long the files are counted.
_MOST_FOLDERS = 500
_COUNTING_SECONDS = 5.0

#: Less than this share of the disk free is worth a note.
_LITTLE = 0.05


def check_media_store(
    homeserver: Homeserver, base_path: str | None, limits: LocalDiskSettings | None
) -> Findings:
    """Look at the media store and its disk.

    :param base_path: of the command line; ``None`` for that of ``homeserver.yaml``.
    :param limits: of ``local_disk``; ``None`` if it is not used.
    """
    findings = Findings()
    try:
        path = base_path or homeserver.media_store_path()
    except ConfigError as error:
        findings.failed("media store", error)
        return findings
    if path is None:
        findings.wrong(
            "media store",
            f"no media_store_path in {homeserver.where}: give BASE_PATH, Synapse's media store",
        )
        return findings
    try:
        if _judge_folders(findings, path):
            space = Space.of(path)
            _judge_space(findings, space)
            if limits is not None:
                until = time.monotonic() + _COUNTING_SECONDS
                judge_limits(findings, path, limits, space, until)
    except OSError as error:
        remedy = "check the disk, and whether it is mounted"
        if isinstance(error, PermissionError):
            remedy = "run as Synapse's user"
        failed = error.filename or path
        findings.wrong("media store", f"{failed} cannot be read ({error.strerror}): {remedy}")
    return findings


def _judge_folders(findings: Findings, path: str) -> bool:
    """:returns: whether the folder is a media store that can be looked into."""
    if is_absent(path) or not stat.S_ISDIR(os.stat(path).st_mode):
        findings.wrong(
            "media store",
            f"there is no folder {path}: correct media_store_path, or mount its disk",
        )
        return False
    roots = []
    for root in (f"{path}/{name}" for name in ROOTS):
        if not is_absent(root):
            os.stat(root)  # raises OSError, if its disk fails
            roots.append(root)
        elif os.path.islink(root):
            findings.wrong("media store", f"{root} is a link to nothing: mount the disk")
            return False
    if not roots and not is_empty(path):
        findings.wrong(
            "media store",
            f"{path} holds none of the folders of a media store, such as local_content: correct "
            "media_store_path, or mount its disk",
        )
        return False
    if not roots:
        findings.note(
            "media store",
            f"{path} is empty: right if Synapse has stored no media yet, else mount its disk",
        )
    folders = itertools.chain([path], *(_folders(root, 3) for root in roots))
    for folder in itertools.islice(folders, _MOST_FOLDERS):
        try:
            reason = _cannot_delete_in(folder)
        except FileNotFoundError:  # Synapse has deleted it meanwhile.
            continue
        if reason is not None:
            findings.wrong("media store", reason)
            return True
    user = name_of(os.geteuid())
    findings.ok("media store", f"{path}, {user} may write and delete files there")
    owner = os.stat(path).st_uid
    if os.geteuid() == 0 and owner != 0:
        findings.note(
            "media store",
            f"you are root, and it belongs to {name_of(owner)}: run check as that user to see "
            f"whether Synapse may do all this: sudo -u {_for_sudo(owner)} swift_media_upload …",
        )
    return True


def _folders(folder: str, depth: int) -> Iterator[str]:
    """A folder and those below it, as far as they can be listed."""
    yield folder
    if not depth or not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
        return
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _folders(entry.path, depth - 1)


def _cannot_delete_in(folder: str) -> str | None:
    """Why this user cannot make and delete files there; ``None`` if it can."""
    found = os.stat(folder)
    user, owner = os.geteuid(), found.st_uid
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return f"{folder} is on a disk that is mounted read-only: mount it for writing"
        return (
            f"{folder} belongs to {name_of(owner)}, and {name_of(user)} may not write there: run "
            "as the user that Synapse runs as, or give the media store to it (chown -R)"
        )
    if found.st_mode & stat.S_ISVTX and user not in (0, owner):
        return (
            f"{folder} belongs to {name_of(owner)} and has the sticky bit, so {name_of(user)} may "
            f"not delete others' files: chmod -t {folder}"
        )
    return None


def _for_sudo(user: int) -> str:
    name = name_of(user)
    return f"'#{user}'" if " " in name else name


def _judge_space(findings: Findings, space: Space) -> None:
    text = f"{readable(space.free)} of {readable(space.total)} are free"
    if not space.total:
        findings.note("disk space", "this file system does not say how much is free")
    elif space.free <= 0:
        findings.wrong("disk space", f"{text}: make room, or set local_disk")
    elif space.free < _LITTLE * space.total:
        findings.note("disk space", f"only {text}")
    else:
        findings.ok("disk space", text)
