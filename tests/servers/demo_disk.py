"""The demo's view of Synapse's disk: what media take there, and the script that tells more."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sqlite3
import subprocess
import time
from pathlib import Path

from tests.servers import process
from tests.servers.demo_place import BUDGET_BYTES, Place
from tests.servers.narration import detail

#: How long the module may take until the disk is within its budget.
BUDGET_SECONDS = 180.0

_HOUR_MS = 3_600_000
#: Begins what the module logs about a run, after Synapse's own words.
_LOGGED = "local_disk, container "
_REMOVED = re.compile(r"removed (\d+) files").findall


class DifferenceError(Exception):
    """Something is not as it must be; the message says what."""


def set_access_back(place: Place) -> None:
    """Make media old that nobody has accessed since their upload, in Synapse's database."""
    path = place.synapse.folder / "homeserver.db"
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database, database:
        database.execute(
            "UPDATE local_media_repository SET last_access_ts = created_ts - ? "
            "WHERE last_access_ts IS NULL",
            (_HOUR_MS,),
        )


def set_writing_back(place: Place) -> None:
    """Make the files on the disk as old. Synapse has waited for their uploads to Swift."""
    then = time.time() - _HOUR_MS / 1000
    for name in media_files(place):
        with contextlib.suppress(FileNotFoundError):
            os.utime(place.synapse.media_store / name, (then, then))


def media_files(place: Place) -> list[str]:
    """The files of media and thumbnails that are on the disk, relative to the media store."""
    store = place.synapse.media_store
    # Folders go meanwhile, too, and os.walk passes over them.
    return sorted(
        str(Path(folder, name).relative_to(store))
        for root in store.glob("[!.]*")
        for folder, _, names in os.walk(root)
        for name in names
    )


def wait_for_budget(place: Place, stored: int) -> None:
    """Wait until the module has brought the disk within its budget, and has logged it.

    :param stored: files that Synapse has stored.
    :raises DifferenceError: if it does not.
    """
    began = time.monotonic()
    while _taken(place) > BUDGET_BYTES or _logged(place) < stored - len(media_files(place)):
        if time.monotonic() - began > BUDGET_SECONDS:
            raise DifferenceError(f"media still take {_taken(place)} bytes on the disk")
        time.sleep(process.POLL_SECONDS)
    detail(f"{time.monotonic() - began:.0f} s after the last upload, Synapse's log says:")
    for line in _runs(place):
        detail("  " + line)
    words = ["du", "--summarize", "--human-readable", str(place.synapse.media_store)]
    _show(words, _run(place, words, place.folder))


def _taken(place: Place) -> int:
    """What media take, as ``du`` counts."""
    taken = 0
    for name in media_files(place):
        with contextlib.suppress(FileNotFoundError):
            taken += (place.synapse.media_store / name).stat().st_blocks * 512
    return taken


def _runs(place: Place) -> list[str]:
    """What the module has logged about its runs."""
    lines = place.synapse.log.read_text(errors="replace").splitlines()
    return [line[line.index(_LOGGED) :] for line in lines if _LOGGED in line and _REMOVED(line)]


def _logged(place: Place) -> int:
    """The files that these runs removed."""
    return sum(int(number) for line in _runs(place) for number in _REMOVED(line))


def run_script(place: Place, command: str) -> None:
    """Run a command of the script.

    :raises DifferenceError: if it fails.
    """
    work = place.folder / "swift_media_upload"
    work.mkdir(exist_ok=True)
    store, config = str(place.synapse.media_store), str(place.synapse.config_path)
    words = ["swift_media_upload", command, store, "--homeserver-config-path", config]
    _show(words, _run(place, [*process.script(words[0]), *words[1:]], work))


def _run(place: Place, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=process.child_environment({"OS_CLIENT_CONFIG_FILE": str(place.clouds_yaml)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _show(words: list[str], ended: subprocess.CompletedProcess[str]) -> None:
    detail("$ " + shlex.join(words))
    for line in ended.stdout.splitlines():
        detail("  " + line)
    if ended.returncode:
        raise DifferenceError(f"{words[0]} ended with status {ended.returncode}")
