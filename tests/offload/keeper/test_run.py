"""One run, with a real Swift: what leaves the disk, in which order, and what stays."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from swift_provider.keeper import JUST_WRITTEN, Task, Trouble
from swift_provider.offload.database import Database
from swift_provider.offload.disk_plan import DiskPlan
from swift_provider.offload.jobs.orphans import Search
from tests.offload.conftest import Objects
from tests.offload.faulty_disk import faulty_disk
from tests.offload.keeper.conftest import Keeper
from tests.offload.synapse_store import OLD, SynapseStore

SIZE = 100_000
#: Each file takes whole blocks.
TAKEN = 102_400


def fill(store: SynapseStore, count: int = 10) -> list[str]:
    """Local media, the first one accessed the longest ago; the paths."""
    return [
        store.add_local(f"media{number:03}", bytes([number % 256]) * SIZE, accessed=OLD + number)
        for number in range(count)
    ]


def make_older(store: SynapseStore, path: str, days: float) -> None:
    """Set back when a file was written to."""
    then = time.time() - days * 86400
    os.utime(store.base / path, (then, then))


def test_nothing_to_do(keeper: Keeper) -> None:
    """The media are measured; Swift is not asked."""
    paths = fill(keeper.store)
    keeper.options["cloud"] = "there is no such cloud"
    ended = keeper.run(Task.KEEP, max_size=11 * TAKEN)
    assert keeper.store.files() == set(paths)
    assert (ended.report.on_disk, ended.report.files) == (10 * TAKEN, 10)
    assert (ended.report.done, ended.report.troubles, ended.log) == ([Task.KEEP], {}, "")
    assert ended.report.answered == []


def test_the_longest_not_accessed_go_first(keeper: Keeper, objects: Objects) -> None:
    """Until the disk is a tenth under its limit. What goes is in Swift, and what stays is not."""
    paths = fill(keeper.store)
    report = keeper.run(Task.KEEP, max_size=int(5.5 * TAKEN)).report
    # 4.95 files may stay: six go.
    gone = sorted(set(paths) - keeper.store.files())
    assert gone == paths[:6]
    assert objects.names() == set(gone)
    assert all(objects[path] == bytes([paths.index(path)]) * SIZE for path in gone)
    assert (report.removed, report.uploaded, report.freed) == (len(gone),) * 2 + (
        len(gone) * TAKEN,
    )
    assert report.on_disk == (10 - len(gone)) * TAKEN
    assert (report.over, report.troubles, report.done) == (0, {}, [Task.KEEP])
    assert set(report.answered) == {Trouble.SWIFT, Trouble.DATABASE}


def test_thumbnails_go_with_their_media(keeper: Keeper, objects: Objects) -> None:
    """A thumbnail counts and goes like the content; an old one without a row goes too."""
    store = keeper.store
    paths = [store.add_local("media000", b"x" * SIZE), store.add_thumbnail("media000")]
    paths.append(store.add_thumbnail("media000", width=64, in_database=False))
    remote = ("a.example.org", "m1", "file000")
    paths.append(store.add_remote(*remote))
    paths.append(store.add_thumbnail("m1", origin=remote[0], filesystem_id=remote[2]))
    report = keeper.run(Task.KEEP, max_size=1).report
    assert store.files() == set()
    assert objects.names() == set(paths)
    assert report.removed == 5
    assert report.on_disk == 0


def test_what_was_accessed_just_now_stays(keeper: Keeper) -> None:
    """Even if the disk is over its limit; the report says how much that is."""
    store, now = keeper.store, int(time.time() * 1000)
    old = store.add_local("media000", b"x" * SIZE)
    new = store.add_local("media001", b"y" * SIZE, accessed=now - 60_000)
    never = store.add_local("media002", b"z" * SIZE, accessed=None, created_ts=now)
    report = keeper.run(Task.KEEP, max_size=1).report
    assert store.files() == {new, never}
    assert old not in store.files()
    assert report.quiet == 2 * TAKEN
    assert report.over == 2 * TAKEN - 1


def test_older_than(keeper: Keeper, objects: Objects) -> None:
    """Media of that age go although there is room; younger ones stay."""
    store, now = keeper.store, int(time.time() * 1000)
    old = store.add_local("media000", accessed=now - 31 * 86_400_000)
    young = store.add_local("media001", accessed=now - 29 * 86_400_000)
    keeper.run(Task.KEEP, older_than=30 * 86400)
    assert store.files() == {young}
    assert objects.names() == {old}


def test_min_free(keeper: Keeper) -> None:
    """A file system that is too full makes media go, all of them if need be."""
    fill(keeper.store, 3)
    status = os.statvfs(keeper.store.base)
    whole = status.f_blocks * status.f_frsize
    report = keeper.run(Task.KEEP, min_free=whole).report
    assert keeper.store.files() == set()
    assert report.over > 0
    paths = fill(SynapseStoreAgain(keeper.store), 2)
    report = keeper.run(Task.KEEP, min_free=1).report
    assert keeper.store.files() == set(paths)
    assert report.over == 0


class SynapseStoreAgain:
    """The same store, with other media."""

    def __init__(self, store: SynapseStore) -> None:
        self._store = store

    def add_local(self, media_id: str, content: bytes, accessed: int) -> str:
        return self._store.add_local(f"again-{media_id}", content, accessed=accessed)


def test_what_was_brought_back_goes_soon(keeper: Keeper) -> None:
    """The content that Synapse fetched for a thumbnail goes; the thumbnail stays."""
    store, now = keeper.store, int(time.time() * 1000)
    lately = now - 1_800_000
    store.written = lately / 1000
    back = store.add_local("media000", accessed=lately, created_ts=now - 10 * 3_600_000)
    thumbnail = store.add_thumbnail("media000")
    new = store.add_local("media001", accessed=lately, created_ts=lately)
    report = keeper.run(Task.KEEP, max_size=1 << 40, written_since=time.time() - 7200).report
    assert store.files() == {thumbnail, new}
    assert back not in store.files()
    assert report.removed == 1


def test_another_object_under_the_name(keeper: Keeper, objects: Objects) -> None:
    """A file is not removed if Swift has something else that may be the better copy."""
    path = keeper.store.add_local("media000", b"x" * SIZE)
    objects[path] = b"y" * SIZE
    report = keeper.run(Task.KEEP, max_size=1).report
    assert keeper.store.files() == {path}
    assert objects[path] == b"y" * SIZE
    assert report.failed == {"Swift has another file under this name": 1}
    assert report.over > 0


def test_failures_do_not_keep_others(keeper: Keeper, objects: Objects) -> None:
    """Media that cannot go, more than would have to, do not keep the disk over its limit."""
    paths = fill(keeper.store)
    for path in paths[:6]:
        objects[path] = b"?" * SIZE
    report = keeper.run(Task.KEEP, max_size=int(7.5 * TAKEN)).report
    assert keeper.store.files() == {*paths[:6]}
    assert report.removed == 4
    assert report.failed == {"Swift has another file under this name": 6}


def test_repair(keeper: Keeper, objects: Objects) -> None:
    """What Swift lacks is uploaded and stays on the disk; what it has is not compared."""
    store = keeper.store
    here, there = store.add_local("media000"), store.add_local("media001")
    thumbnail = store.add_thumbnail("media001")
    objects[there] = b"already"
    store.written = None
    just_now = store.add_local("media002")
    report = keeper.run(Task.REPAIR, older_than=1, repair_kinds=frozenset({"local"})).report
    assert objects.names() == {here, there, thumbnail}
    assert store.files() == {here, there, thumbnail, just_now}
    assert (report.uploaded, report.removed, report.done) == (2, 0, [Task.REPAIR])
    assert report.skipped == {JUST_WRITTEN: 1}


def test_repair_beside_a_new_thumbnail(keeper: Keeper, objects: Objects) -> None:
    """A new picture whose upload failed is shown: its thumbnail is new, and was uploaded."""
    store = keeper.store
    content = store.add_local("media000")
    store.written = None
    thumbnails = [store.add_thumbnail("media000"), store.add_thumbnail("media000", width=64)]
    objects[thumbnails[0]] = b"thumbnail"
    keeper.run(Task.REPAIR, older_than=1, repair_kinds=frozenset({"local"}))
    assert objects.names() == {content, thumbnails[0]}


def test_repair_of_a_kind(keeper: Keeper, objects: Objects) -> None:
    """Media that the module would not store are left alone."""
    store = keeper.store
    store.add_local("media000")
    remote = store.add_remote("a.example.org", "m1", "file000")
    keeper.run(Task.REPAIR, older_than=1, repair_kinds=frozenset({"remote"}))
    assert objects.names() == {remote}


ORPHAN = ["local_content/or/ph/an", "local_thumbnails/or/ph/an/32-32-image-png-crop"]


def fill_known(store: SynapseStore, count: int) -> set[str]:
    """Media that were stored and accessed just now."""
    now = int(time.time() * 1000)
    return {
        store.add_local(f"known{number:03}", accessed=now, created_ts=now)
        for number in range(count)
    }


def test_orphans(keeper: Keeper, objects: Objects) -> None:
    """Old files without a row go, and Swift has them; young ones stay: Synapse may just be
    writing them. So does what Synapse would not name so.
    """
    store = keeper.store
    known = fill_known(store, 30)
    for path in ORPHAN:
        store._file(path, b"x")
    foreign = {
        store._file("local_content/notes.txt", b"x"),
        store._file("local_thumbnails/or/ph/an/not~media", b"x"),
    }
    store.written = None
    young = {
        store._file("local_content/yo/un/g", b"x"),
        store._file("local_thumbnails/or/ph/an/64-64-image-png-crop", b"x"),
    }
    report = keeper.run(Task.ORPHANS, older_than=1).report
    assert report.troubles == {}
    # A media with a young file stays as a whole.
    assert store.files() == known | foreign | young | set(ORPHAN)
    for path in young:
        make_older(store, path, 2)
    report = keeper.run(Task.ORPHANS, older_than=1).report
    assert store.files() == known | foreign
    assert objects.names() == {*ORPHAN, *young}
    assert (report.orphans, report.removed, report.done) == (4, 4, [Task.ORPHANS])


def test_an_orphan_that_differs_from_swift(keeper: Keeper, objects: Objects) -> None:
    """Nobody knows which of the two is right: both stay."""
    known = fill_known(keeper.store, 30)
    keeper.store._file(ORPHAN[0], b"x")
    objects[ORPHAN[0]] = b"y"
    report = keeper.run(Task.ORPHANS, older_than=1).report
    assert keeper.store.files() == {*known, ORPHAN[0]}
    assert objects[ORPHAN[0]] == b"y"
    assert report.failed == {"Swift has another file under this name": 1}


@pytest.mark.parametrize("known", [0, 3])
def test_orphans_of_a_wrong_database(keeper: Keeper, known: int) -> None:
    """If most files have no row, the database is probably the wrong one: all stay."""
    store = keeper.store
    fill_known(store, known)
    for number in range(10):
        store._file(f"local_content/or/ph/an{number}", b"x")
    before = store.files()
    report = keeper.run(Task.ORPHANS, older_than=1).report
    assert store.files() == before
    assert "Files of media that Synapse does not know stay" in report.troubles[Trouble.REFUSED]
    assert "--max-share" not in report.troubles[Trouble.REFUSED]


def test_orphans_beside_few_other_files(keeper: Keeper) -> None:
    """Their share is of all media that Synapse knows, not of those that are on the disk."""
    fill_known(keeper.store, 100)
    keeper.run(Task.KEEP, max_size=1, quiet_seconds=0)
    for number in range(4):
        keeper.store._file(f"local_content/or/ph/an{number}", b"x")
    report = keeper.run(Task.ORPHANS, older_than=1).report
    assert report.troubles == {}
    assert keeper.store.files() == set()


def test_a_disk_that_ignores_case(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the name of a folder may differ from the database's, so no file is an orphan."""
    store = keeper.store
    with closing(DiskPlan()) as plan, closing(Database(store.config)) as database:
        search = Search(plan, database, str(store.base), "here.example", 0)
        assert not search._ignores_case()
        monkeypatch.setattr(os.path, "samefile", lambda one, other: True)
        assert not search.any_may_go()


def test_a_row_that_comes_late(keeper: Keeper) -> None:
    """A file of media that another process is storing has no row yet, and is young."""
    keeper.store.written = None
    young = "remote_content/a.example.org/yo/un/g"
    keeper.store._file(young, b"x")
    keeper.run(Task.KEEP, Task.ORPHANS, max_size=1)
    assert keeper.store.files() == {young}


def test_what_was_written_just_now_stays(keeper: Keeper) -> None:
    """Synapse brings a file back for somebody, and notes the access up to a minute later."""
    keeper.store.written = None
    path = keeper.store.add_local("media000", b"x" * SIZE)
    report = keeper.run(Task.KEEP, max_size=1, written_since=time.time() - 3600).report
    assert keeper.store.files() == {path}
    assert report.quiet == TAKEN


@pytest.mark.parametrize("wrong", ["future", "null", "file"])
def test_wrong_times(keeper: Keeper, wrong: str) -> None:
    """A time that cannot be does not keep media on the disk for ever."""
    store = keeper.store
    future = int(time.time() * 1000) + 365 * 86_400_000
    if wrong == "future":
        store.add_local("media000", accessed=future, created_ts=future)
    elif wrong == "null":
        store.add_local("media000", accessed=None, created_ts=None)
    else:
        make_older(store, store.add_local("media000"), -10_000_000)
    make_older(store, store._file("local_content/or/ph/an", b"x"), -10_000_000)
    report = keeper.run(Task.KEEP, Task.ORPHANS, max_size=1).report
    assert store.files() <= {"local_content/or/ph/an"}
    assert report.removed >= 1


def test_a_read_only_disk(keeper: Keeper) -> None:
    """The run ends after a few files, and says why."""
    paths = fill(keeper.store, 60)
    keeper.code = (
        "import errno, os\n"
        "def unlink(path): raise OSError(errno.EROFS, 'Read-only file system', path)\n"
        "os.unlink = unlink\n"
        "from swift_provider.offload.keeper.__main__ import main; main()"
    )
    ended = keeper.run(Task.KEEP, max_size=1)
    assert keeper.store.files() == set(paths)
    assert "Read-only file system" in ended.report.troubles[Trouble.DISK]
    assert 5 <= sum(ended.report.failed.values()) < 20
    assert ended.report.done == []


def test_files_of_another_user(keeper: Keeper) -> None:
    """Some that cannot be removed do not keep the others on the disk."""
    paths = fill(keeper.store, 60)
    keeper.code = (
        "import errno, os\n"
        "unlink = os.unlink\n"
        "def refuse(path):\n"
        "    if path[-3:] < '025': raise OSError(errno.EPERM, 'Operation not permitted', path)\n"
        "    unlink(path)\n"
        "os.unlink = refuse\n"
        "from swift_provider.offload.keeper.__main__ import main; main()"
    )
    report = keeper.run(Task.KEEP, max_size=20 * TAKEN).report
    assert len(keeper.store.files()) == 25
    assert set(paths[:25]) == keeper.store.files()
    assert report.failed == {"Operation not permitted": 25}
    assert "the disk: Operation not permitted" in report.troubles[Trouble.REFUSED]


def test_purged_meanwhile(keeper: Keeper) -> None:
    """A file that Synapse deletes during its upload is no failure."""
    fill(keeper.store, 30)
    keeper.code = (
        "from swift_provider.offload.upload_if_missing import UploadIfMissing\n"
        "ensure = UploadIfMissing.ensure\n"
        "async def slowly(self, file, source, hint):\n"
        "    import os; outcome = await ensure(self, file, source, hint)\n"
        "    os.unlink(source.path); return outcome\n"
        "UploadIfMissing.ensure = slowly\n"
        "from swift_provider.offload.keeper.__main__ import main; main()"
    )
    report = keeper.run(Task.KEEP, max_size=1).report
    assert (report.failed, report.troubles, report.done) == ({}, {}, [Task.KEEP])
    assert report.skipped == {"gone from the disk meanwhile": 30}


def test_another_disk(keeper: Keeper, objects: Objects) -> None:
    """What is behind a mount makes no room on this disk, so it is left alone."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (keeper.store.base / "remote_content").rmdir()
        (keeper.store.base / "remote_content").symlink_to(elsewhere)
        here = keeper.store.add_local("media000")
        remote = keeper.store.add_remote("a.example.org", "m1", "file000")
        ended = keeper.run(Task.KEEP, max_size=1)
        assert (keeper.store.base / remote).exists()
        assert not (keeper.store.base / here).exists()
        assert "1 files of" in ended.log
        assert (ended.report.over, ended.report.on_disk, ended.report.files) == (0, 0, 0)
        keeper.run(Task.REPAIR, older_than=1)
        assert remote in objects.names()


def test_no_media_store_yet(keeper: Keeper, tmp_path: Path) -> None:
    """A homeserver without any media has no folders: nothing is wrong with that."""
    empty = tmp_path / "empty"
    empty.mkdir()
    report = keeper.run(Task.KEEP, max_size=1, media_store=str(empty)).report
    assert (report.on_disk, report.troubles, report.done) == (0, {}, [Task.KEEP])


_RUN = """
from swift_provider.offload.keeper.__main__ import main
main()
"""


def test_a_faulty_disk(keeper: Keeper, objects: Objects) -> None:
    """A file stays whose second reading is not the one that had the right SHA-256."""
    content = os.urandom(SIZE)
    digest = hashlib.sha256(content).hexdigest()
    path = keeper.store.add_local("abcdef", content, sha256=digest)
    keeper.code = (
        f"{faulty_disk()}\nfrom swift_provider.offload.keeper.__main__ import main\nmain()"
    )
    report = keeper.run(Task.KEEP, Task.REPAIR, max_size=1).report
    assert report.failed == {"two readings of the file differ": 2}
    assert (report.removed, report.uploaded) == (0, 0)
    assert (keeper.store.files(), objects.names()) == ({path}, set())
