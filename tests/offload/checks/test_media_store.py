"""What ``check`` says of folders and limits, without running a homeserver."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swift_provider.config import LocalDiskSettings
from swift_provider.keeper import Space
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.local_disk import judge_limits
from swift_provider.offload.checks.media_store import _judge_space, check_media_store
from swift_provider.offload.command.homeserver import Homeserver

GIB = 1024**3
NOBODY = 65534


def lines(found: Findings) -> list[str]:
    return [str(one) for one in found.found]


@pytest.fixture
def media_store() -> Iterator[Path]:
    """A media store that everybody may look into."""
    folder = Path(tempfile.mkdtemp())
    (folder / "local_content" / "aa" / "bb").mkdir(parents=True)
    folder.chmod(0o755)
    yield folder
    (folder / "local_content" / "aa").chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def not_root() -> Iterator[None]:
    """As a user who does not own the folders, if the tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


def judged(path: Path) -> list[str]:
    return lines(check_media_store(Homeserver({}, "test"), str(path), None))


def test_an_empty_media_store(tmp_path: Path) -> None:
    """It may be a new one, or a disk that is not mounted."""
    (note, ok, *_) = judged(tmp_path)
    assert note.startswith("note    media store: ")
    assert note.endswith(" is empty: right if Synapse has stored no media yet, else mount its disk")
    assert ok.startswith("ok      media store: ")


def test_a_media_store_of_another_user(media_store: Path, not_root: None) -> None:
    """The folder and its owner are named."""
    if os.geteuid() != NOBODY:
        media_store.chmod(0o555)
    first = judged(media_store)[0]
    assert first.startswith(f"wrong   media store: {media_store} belongs to ")
    assert "may not write there: run as the user that Synapse runs as" in first


def test_a_folder_of_another_user(media_store: Path) -> None:
    """Deep below, where root once copied files back."""
    folder = media_store / "local_content" / "aa"
    if os.geteuid():
        folder.chmod(0o555)
        first = judged(media_store)[0]
    else:
        for path in (media_store, media_store / "local_content"):
            os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        first = judged(media_store)[0]
        os.seteuid(0)
    assert first.startswith(f"wrong   media store: {folder} belongs to ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may all")
def test_root_is_told_to_run_it_as_synapse(media_store: Path) -> None:
    """What root may do says nothing of Synapse's user."""
    os.chown(media_store, NOBODY, NOBODY)
    assert judged(media_store)[1].startswith(
        "note    media store: you are root, and it belongs to nobody: run check as that user"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be any user")
def test_a_user_without_a_name(media_store: Path) -> None:
    """As in Docker: no user has the number that Synapse runs as."""
    for path in (media_store, *media_store.rglob("*")):
        os.chown(path, 99_991, 99_991)
    os.seteuid(99_991)
    try:
        first = judged(media_store)[0]
    finally:
        os.seteuid(0)
    assert first == (
        f"ok      media store: {media_store}, user 99991 may write and delete files there"
    )


def test_a_link_to_nothing(media_store: Path) -> None:
    """As to a disk that is not mounted."""
    (media_store / "remote_content").symlink_to(media_store / "no-such")
    (line,) = judged(media_store)
    assert line == (
        f"wrong   media store: {media_store}/remote_content is a link to nothing: mount the disk"
    )


@pytest.mark.parametrize("root", ["", "/local_content"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_media_store_that_cannot_be_looked_at(
    media_store: Path, monkeypatch: pytest.MonkeyPatch, number: int, root: str
) -> None:
    """It is not said to be absent."""
    right = os.stat

    def fail(path: Any, **options: Any) -> os.stat_result:
        if str(path) == f"{media_store}{root}":
            raise OSError(number, os.strerror(number), path)
        return right(path, **options)

    monkeypatch.setattr(os, "stat", fail)
    (line,) = judged(media_store)
    monkeypatch.undo()
    remedy = "run as Synapse's user" if number == errno.EACCES else "check the disk, and whether"
    assert line.startswith(
        f"wrong   media store: {media_store}{root} cannot be read ({os.strerror(number)}): {remedy}"
    )


def test_a_folder_that_goes_meanwhile(media_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synapse deletes empty folders."""
    right = os.stat

    def gone(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("/bb"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return right(path, **options)

    monkeypatch.setattr(os, "stat", gone)
    first = judged(media_store)[0]
    monkeypatch.undo()
    assert first.startswith("ok      media store: ")


def test_a_disk_that_does_not_say_how_large_it_is(media_store: Path) -> None:
    """As some network file systems: nothing is known to be wrong."""
    found = Findings()
    space = Space(0, 0, 0)
    _judge_space(found, space)
    judge_limits(
        found, str(media_store), LocalDiskSettings(max_size=GIB), space, time.monotonic() + 60
    )
    assert lines(found) == [
        "note    disk space: this file system does not say how much is free",
        "ok      local_disk: media take 0 bytes, within the limits",
    ]


def test_nothing_is_changed(media_store: Path) -> None:
    """The folders keep their times."""
    folders = [media_store, *(path for path in media_store.rglob("*"))]
    before = [os.stat(path).st_mtime_ns for path in folders]
    judged(media_store)
    assert [os.stat(path).st_mtime_ns for path in folders] == before


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            LocalDiskSettings(max_size=50 * GIB),
            "wrong   local_disk: the disk is full before media take max_size (50.0 GiB): they take "
            "12.0 KiB and 4.0 GiB are free: set max_size to less, or set min_free",
        ),
        (
            LocalDiskSettings(max_size=50 * GIB, min_free=GIB),
            "note    local_disk: the disk is full before media take max_size (50.0 GiB): they take "
            "12.0 KiB and 4.0 GiB are free, so only min_free counts",
        ),
        (
            LocalDiskSettings(min_free=20 * GIB),
            "wrong   local_disk: min_free (20.0 GiB) is not below the size of the disk (10.0 GiB), "
            "so all media would leave it: set it to less",
        ),
        (
            LocalDiskSettings(min_free=0.6),
            "wrong   local_disk: min_free (6.0 GiB) is out of reach: without any media the disk "
            "would have 4.0 GiB free: set it to less",
        ),
        (
            LocalDiskSettings(max_size=8192),
            "note    local_disk: media take 12.0 KiB, and the first run removes about 4.8 KiB from "
            "the disk once Swift is proven to hold them",
        ),
        (
            LocalDiskSettings(max_size=GIB),
            "ok      local_disk: media take 12.0 KiB, within the limits",
        ),
    ],
)
def test_limits(media_store: Path, limits: LocalDiskSettings, said: str) -> None:
    """Each limit is compared with the disk and with what media take."""
    for name in ("one", "two", "three"):
        (media_store / "local_content" / "aa" / "bb" / name).write_bytes(bytes(4096))
    found = Findings()
    space = Space(total=10 * GIB, used=6 * GIB, free=4 * GIB)
    judge_limits(found, str(media_store), limits, space, time.monotonic() + 60)
    assert lines(found) == [said]
