"""A disk that cannot be read is not a disk without files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from swift_provider.offload.cache import Cache
from swift_provider.offload.jobs.update import check_deleted
from swift_provider.offload.media_names import Media
from tests.offload.conftest import Objects, Script, rows_of
from tests.offload.synapse_store import SynapseStore

#: Runs the script where one path cannot be read, whatever asks for it.
_UNREADABLE = """
import os, sys
from swift_provider.offload.command.cli import main
bad, number = sys.argv[1], int(sys.argv[2])
def failing(real):
    def call(path, *args, **kwargs):
        if str(path).startswith(bad):
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **kwargs)
    return call
for name in ("lstat", "scandir", "listdir", "open"):
    setattr(os, name, failing(getattr(os, name)))
sys.exit(main(sys.argv[3:]))
"""
ERRORS = [errno.EACCES, errno.EIO, errno.ESTALE, errno.ELOOP]


def _ignore(*arguments: object) -> None:
    pass


def _failing(real: Callable[..., Any], bad: str, number: int) -> Callable[..., Any]:
    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).startswith(bad):
            raise OSError(number, os.strerror(number), path)
        return real(path, *arguments, **options)

    return call


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("root", ["local_content", "local_thumbnails"])
def test_what_cannot_be_read_counts_as_on_disk(
    store: SynapseStore,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    root: str,
) -> None:
    """It is named, also where it was thought deleted, and the rest is looked at."""
    names = ["aa-hidden", "bb-hidden", "cc-gone", "dd-here"]
    store.add_local("dd-here")
    cache.replace([(name,) for name in names], [])
    media = {name: Media("", name, name, "local") for name in names}
    cache.mark([media["bb-hidden"]], deleted=True)
    for name in ("lstat", "scandir"):
        for bad in ("aa", "bb"):
            place = f"{store.base}/{root}/{bad}"
            monkeypatch.setattr(os, name, _failing(getattr(os, name), place, number))
    told: list[str] = []
    checked = check_deleted(cache, str(store.base), _ignore, told.append)
    monkeypatch.undo()
    assert (checked.deleted, checked.returned, checked.unreadable) == (1, 1, 2)
    assert {one.media_id for one, deleted in rows_of(cache).items() if deleted} == {"cc-gone"}
    assert [line for line in told if "aa-hidden" in line and os.strerror(number) in line]


def _run_unreadable(
    script: Script, store: SynapseStore, bad: str, number: int, *arguments: str
) -> subprocess.CompletedProcess[str]:
    place = str(store.base / bad)
    return script.run([sys.executable, "-c", _UNREADABLE, place, str(number), *arguments])


@pytest.mark.parametrize("number", ERRORS)
def test_a_night_with_an_unreadable_folder(
    offload: Script, store: SynapseStore, objects: Objects, number: int
) -> None:
    """``update`` and ``upload`` name it, with status 1, and handle all other media."""
    hidden = store.add_local("aa-hidden")
    here = store.add_local("dd-here")
    bad = "local_content/aa"
    update = _run_unreadable(offload, store, bad, number, "update", str(store.base), "2m")
    assert update.returncode == 1, update.stderr
    assert "Updated 0 as deleted" in update.stdout
    assert "aa-hidden" in update.stderr
    upload = _run_unreadable(
        offload, store, bad, number, "upload", str(store.base), "--delete", "--no-progress"
    )
    assert upload.returncode == 1, upload.stderr
    assert "aa-hidden" in upload.stderr
    assert store.files() == {hidden}
    assert objects.names() == {here}


@pytest.mark.parametrize("number", ERRORS)
def test_verify_of_an_unreadable_file(
    offload: Script, store: SynapseStore, objects: Objects, number: int
) -> None:
    """Whether the file is whole is not known, and Synapse cannot read it: a hole."""
    path = store.add_local("aa-hidden", b"content")
    objects[path] = b"content"
    arguments = ("verify", str(store.base), "--no-progress")
    ended = _run_unreadable(offload, store, path, number, *arguments)
    assert ended.returncode == 1, ended.stdout
    assert path in ended.stderr


def test_a_root_that_leads_nowhere(offload: Script, store: SynapseStore) -> None:
    """A folder of the media store that is a link to an unmounted disk is a mistake."""
    store.add_local("abcdef")
    offload("update", store.base, "2m")
    (store.base / "local_content").rename(store.base.parent / "elsewhere")
    (store.base / "local_content").symlink_to(store.base.parent / "unmounted")
    for command in (("update", store.base, "2m"), ("upload", store.base), ("verify", store.base)):
        ended = offload(*command)
        assert ended.returncode == 2
        assert "is it mounted?" in ended.stderr
    assert offload("write").stdout.startswith("local_content/ab/cd/ef\n")
