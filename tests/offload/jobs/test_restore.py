"""What restore brings back, with a real Swift."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from swift_provider.offload.new_file import MediaStore
from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Answer, Cut, Stall, in_response
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def test_restore(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Offloaded files and thumbnails come back unchanged; files on disk are not touched."""
    contents = {}
    for number, size in enumerate((0, 10, 100_000, 3_000_000)):
        contents[store.add_local(f"local-{number}", os.urandom(size))] = size
    contents[store.add_thumbnail("local-1")] = 9
    contents[store.add_remote("example.org", "m", "remote-file")] = 14
    before = {path: (store.base / path).read_bytes() for path in contents}
    offload("update", store.base, "2m")
    offload.json("upload", store.base, "--delete")
    assert store.files() == set()
    here = store.base / sorted(contents)[0]
    here.parent.mkdir(parents=True)
    here.write_bytes(before[sorted(contents)[0]])
    written = here.stat()
    objects["local_content/ab/cd/e f"] = b"x"
    objects["local_content/ab/cd"] = b"x"
    objects["url_cache/2024-01-31/abc"] = b"x"
    summary = offload.json("restore", store.base)
    assert summary["restored"] == len(contents) - 1
    assert summary["already_on_disk"] == 1
    assert sum(summary["skipped"].values()) == 2
    assert store.files() == set(contents)
    assert (here.stat().st_ino, here.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    for path in contents:
        assert (store.base / path).read_bytes() == before[path]


def test_some_of_it(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A dry run counts what is missing; --media and --user choose."""
    mine = store.add_local("mine-one", user_id="@me:here.example")
    thumbnail = store.add_thumbnail("mine-one")
    theirs = store.add_local("their-one", user_id="@they:here.example")
    remote = store.add_remote("example.org", "m", "remote-file")
    offload("offload", store.base, "2m", "--delete")
    assert store.files() == set()
    summary = offload.json("restore", store.base, "--dry-run")
    assert (summary["media_missing_on_disk"], summary["media_missing_on_disk_bytes"]) == (
        3,
        13 + 13 + 14,
    )
    assert store.files() == set()
    offload.json("restore", store.base, "--user", "@me:here.example")
    assert store.files() == {mine, thumbnail}
    offload.json("restore", store.base, "--media", "mxc://example.org/m")
    assert store.files() == {mine, thumbnail, remote}
    offload.json("restore", store.base, "--media", "mxc://here.example/their-one")
    assert store.files() == {mine, thumbnail, remote, theirs}
    for wrong in ("their-two", "example.org/their-one", "here.example/m"):
        ended = offload("restore", store.base, "--media", wrong)
        assert (ended.returncode, f"knows no media {wrong}" in ended.stderr) == (2, True)


@pytest.mark.parametrize("has_room", [True, False])
def test_room_on_another_disk(
    offload: Script, store: SynapseStore, objects: Objects, tmp_path: Path, has_room: bool
) -> None:
    """A root may be a link to a disk of its own: what matters is the room there."""
    path = store.add_remote("example.org", "m", "remote-file", None, media_length=400_000)
    objects[path] = b"x" * 400_000
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=100k none {small} 2>/dev/null"):
        pytest.skip("needs a user that can mount")
    base, other = (small, large) if has_room else (large, small)
    try:
        (base / "local_content").mkdir(parents=True)
        (other / "remote_content").mkdir(parents=True)
        (base / "remote_content").symlink_to(other / "remote_content")
        told = offload.json("restore", base, status=0 if has_room else 3)
        if has_room:
            assert (large / path).read_bytes() == b"x" * 400_000
        else:
            assert f"are missing in {base}/remote_content, without" in told["stopped"]
    finally:
        os.system(f"umount {small}")


def test_no_room(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """What does not fit on the disk is not begun."""
    small = store.add_local("small-one", None, length=9)
    large = store.add_local("large-one", None, length=1 << 60)
    objects[small] = objects[large] = b"9 bytes.."
    ended = offload("restore", store.base)
    assert ended.returncode == 3
    assert "the disk has no room: " in ended.stdout
    assert store.files() == set()
    ended = offload("restore", store.base, "--dry-run")
    assert ended.returncode == 0
    assert "restore would refuse: the disk has no room" in ended.stderr


@pytest.mark.parametrize("known", [True, False])
def test_metadata_keep_no_file_away(
    offload: Script, store: SynapseStore, objects: Objects, known: bool
) -> None:
    """An object is what Swift's MD5 says, also if the CRC-32 in its metadata is another one's."""
    content = os.urandom(100_000)
    digest = hashlib.sha256(content).hexdigest() if known else None
    path = store.add_local("abcdef", content, sha256=digest)
    (store.base / path).unlink()
    objects[path] = content
    objects.post(path, {"X-Object-Meta-Content-Crc32": "00000000"})
    assert offload.json("restore", store.base)["restored"] == 1
    assert (store.base / path).read_bytes() == content


def test_what_was_restored_has_a_unit(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """Bytes are for JSON."""
    content = bytes(3 << 20)
    path = store.add_local("abcdef", content)
    objects[path] = content
    (store.base / path).unlink()
    assert "Restored: 1 (3.0 MiB)" in offload("restore", store.base).stdout.splitlines()
    assert offload.json("restore", store.base)["restored_bytes"] == 0


async def test_restore_of_a_broken_download(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A download that breaks in the middle is resumed, and the file is complete."""
    content = os.urandom(300_000)
    path = store.add_local("abcdef", content)
    objects[path] = content
    (store.base / path).unlink()
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    cut = Cut(place=in_response(100_000), match=("GET", path))
    proxy.add(cut)
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    summary = await deferToThread(offload.json, "restore", store.base)
    await proxy.stop()
    assert cut.fired == 1
    assert summary["restored_bytes"] == len(content)
    assert (store.base / path).read_bytes() == content
    assert store.files() == {path}


def test_restore_onto_a_full_disk(
    offload: Script, store: SynapseStore, objects: Objects, tmp_path: Any
) -> None:
    """A full disk ends the run with status 3, and leaves no part of a file."""
    path = store.add_local("abcdef", b"x" * 400_000)
    objects[path] = b"x" * 400_000
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=100k none {small} 2>/dev/null"):
        pytest.skip("needs a user that can mount")
    try:
        (small / "local_content").mkdir()
        summary = offload.json("restore", small, status=3)
        left = [path for path in small.rglob("*") if path.is_file()]
    finally:
        os.system(f"umount {small}")
    assert "full" in summary["stopped"]
    assert left == []


#: Runs the script with a disk on which no new file can be opened, as on an NFS that hangs.
_HUNG_DISK = """
import os, sys, threading
from swift_provider.client import downloads
from swift_provider.offload.command.cli import main
downloads.PARK_SECONDS = 1  # Then the run waits for the disk alone.
right = os.open
def hang(path, *arguments, **options):
    if "~restoring-" in str(path):
        threading.Event().wait(60)
    return right(path, *arguments, **options)
os.open = hang
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_hangs(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """The run says what it waits for, and a second Ctrl-C ends it."""
    path = store.add_local("abcdef", b"x" * 400_000)
    objects[path] = b"x" * 400_000
    (store.base / path).unlink()
    command = [sys.executable, "-c", _HUNG_DISK, "restore", str(store.base)]
    with offload.popen(command) as running:
        assert running.stderr is not None
        _read_until(running.stderr, "Waiting for the disk")
        running.send_signal(signal.SIGINT)
        _read_until(running.stderr, "Ctrl-C again stops now")
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Restored: 0" in output
    assert store.files() == set()


def _read_until(stream: IO[str], text: str) -> None:
    """Read lines until one has a text."""
    for line in stream:
        if text in line:
            return
    pytest.fail(f"it ended without {text!r}")


def test_what_synapse_deleted_stays_deleted(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """Objects without a row are counted and stay in Swift; thumbnails without one are named."""
    path = store.add_local("abcdef", b"content")
    thumbnail = store.add_thumbnail("abcdef")
    orphans = [store.add_local("purged"), store.add_thumbnail("purged")]
    forgotten = store.add_thumbnail("abcdef", width=96, in_database=False)
    for name in (path, thumbnail, forgotten, *orphans):
        objects[name] = (store.base / name).read_bytes()
        (store.base / name).unlink()
    store.execute("DELETE FROM local_media_repository WHERE media_id = 'purged'")
    summary = offload.json("restore", store.base)
    assert (summary["restored"], summary["left_in_swift_deleted_in_synapse"]) == (2, 2)
    assert summary["skipped"] == {"a thumbnail that Synapse does not know": 1}
    assert forgotten in summary["told"]
    assert store.files() == {path, thumbnail}


def test_an_altered_object_is_not_restored(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """What is not Synapse's file by its SHA-256 or length is named, with status 1."""
    good = b"what Synapse stored"
    altered = store.add_local("altered", good, sha256=hashlib.sha256(good).hexdigest().upper())
    right = store.add_local("right-one", good, sha256=hashlib.sha256(good).hexdigest().upper())
    longer = store.add_local("longer", good)
    thumbnail = store.add_thumbnail("longer", b"thumb")
    for path, content in (
        (altered, good[::-1]),
        (longer, good + b"!"),
        (right, good),
        (thumbnail, b"thumbnail"),
    ):
        objects[path] = content
        (store.base / path).unlink()
    summary = offload.json("restore", store.base, status=1)
    assert summary["failed"] == {
        "not Synapse's file: the object's SHA-256 is not the one in Synapse's database": 1,
        "not Synapse's file: the object's length is not the one in Synapse's database": 2,
    }
    assert all(path in summary["told"] for path in (altered, longer, thumbnail))
    assert store.files() == {right}


@pytest.mark.parametrize("sha256", [True, False])
def test_a_bad_file_is_mended(
    offload: Script, store: SynapseStore, objects: Objects, sha256: bool
) -> None:
    """A file that is not what the database says is replaced; the bad one is kept and named."""
    good = b"the whole file"
    bad = good[::-1] if sha256 else good[:3]
    digest = hashlib.sha256(good).hexdigest() if sha256 else None
    path = store.add_local("abcdef", good, sha256=digest)
    thumbnail = store.add_thumbnail("abcdef", b"thumbnail")
    for name in (path, thumbnail):
        objects[name] = (store.base / name).read_bytes()
    for number in ("", "2"):
        (store.base / path).write_bytes(bad)
        (store.base / thumbnail).write_bytes(b"thumb")
        summary = offload.json("restore", store.base)
        assert (summary["restored"], summary["restored_in_place_of_a_bad_file"]) == (2, 2)
        assert f"{path}~bad{number}" in summary["told"]
        assert (store.base / path).read_bytes() == good
        assert (store.base / f"{path}~bad{number}").read_bytes() == bad
        assert (store.base / thumbnail).read_bytes() == b"thumbnail"
    assert store.files() == {path, thumbnail, f"{path}~bad", f"{path}~bad2"}
    assert offload.json("verify", store.base)["on_disk_and_in_swift"] == 1
    offload("update", store.base, "2m")
    assert offload.json("upload", store.base, "--delete")["deleted"] == 2
    assert offload("write").stdout == ""


async def test_a_bad_file_that_another_run_mends(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """The good file that is there by then is not kept as a bad one."""
    path = store.add_local("abcdef", b"the whole file")
    objects[path] = b"the whole file"
    (store.base / path).write_bytes(b"the")
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    proxy.add(stall := Stall(match=("GET", f"{path}$")))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    running = offload.start("restore", str(store.base), "--json")
    await stall.happened()
    (store.base / path).write_bytes(b"the whole file")
    stall.release()
    told, errors = await deferToThread(running.communicate, timeout=60)
    await proxy.stop()
    summary = json.loads(told)
    assert summary["status"] == 0, errors
    assert (summary["restored"], summary["already_on_disk"]) == (0, 1)
    assert store.files() == {path}


@pytest.mark.parametrize("there", [None, b"WHAT IS", b"short"])
def test_a_bad_file_that_cannot_be_mended(
    offload: Script, store: SynapseStore, objects: Objects, there: bytes | None
) -> None:
    """Without the right object the bad file stays as it is, with status 1."""
    digest = hashlib.sha256(b"content").hexdigest()
    path = store.add_local("abcdef", b"conTENT", sha256=digest)
    if there is not None:
        objects[path] = there
    summary = offload.json("restore", store.base, status=1)
    assert sum(summary["failed"].values()) == 1
    assert path in summary["told"]
    assert store.files() == {path}
    assert (store.base / path).read_bytes() == b"conTENT"


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("there", [True, False])
async def test_what_synapse_deletes_during_the_run(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    account: Credentials,
    thumbnail: bool,
    there: bool,
) -> None:
    """It does not come back, and is no failure, though the run had begun with it."""
    paths = [store.add_local(name, name.encode() * 9) for name in ("deleted", "staying")]
    if thumbnail:
        paths = [store.add_thumbnail(name) for name in ("deleted", "staying")]
    for path in paths:
        objects[path] = (store.base / path).read_bytes()
        (store.base / path).unlink()
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    proxy.add(stall := Stall(ON_REQUEST, match=("GET", f"{paths[0]}$")))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    running = offload.start("restore", str(store.base), "--json")
    await stall.happened()
    store.execute("DELETE FROM local_media_repository WHERE media_id = 'deleted'")
    if not there:
        objects.delete(paths[0])
    stall.release()
    told, errors = await deferToThread(running.communicate, timeout=60)
    await proxy.stop()
    summary = json.loads(told)
    assert running.returncode == 0, errors
    assert summary["restored"] == 1
    assert summary["skipped"] == {"Synapse has deleted it meanwhile": 1}
    assert paths[0] not in store.files()
    assert paths[1] in store.files()


def test_a_content_that_is_nowhere(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A media without file and object is named, with status 1: not all is back."""
    path = store.add_local("abcdef", None, length=7)
    summary = offload.json("restore", store.base, status=1)
    assert summary["failed"] == {"neither on disk nor in Swift": 1}
    assert path in summary["told"]


async def test_restore_does_not_need_the_listing(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A listing that is late hides an object: it is restored all the same."""
    path = store.add_local("abcdef", b"content")
    objects[path] = b"content"
    (store.base / path).unlink()
    proxy = FaultProxy(reactor, "127.0.0.1", int(swift.url.rpartition(":")[2]))
    await proxy.start()
    url = proxy.url_for(swift.account_url(account.project_id))
    kind = {"Content-Type": "application/json", "X-Trans-Id": "made-up"}
    proxy.add(Answer(200, b"[]", kind, times=None, match=("GET", "prefix=")))
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    summary = await deferToThread(offload.json, "restore", store.base)
    await proxy.stop()
    assert summary["restored"] == 1
    assert (store.base / path).read_bytes() == b"content"


def _owner_and_mode(path: Path) -> tuple[int, int, str]:
    status = path.stat()
    return status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o2750, 0o640), (0o700, 0o600)])
@pytest.mark.parametrize("lost", [True, False])
def test_restored_files_are_synapses(
    offload: Script, store: SynapseStore, objects: Objects, folder: int, file: int, lost: bool
) -> None:
    """As root, files and folders get the media store's owner and mode, whatever the umask."""
    path = store.add_remote("example.org", "m", "remote-file", b"content")
    objects[path] = b"content"
    base = store.base.parent / "lost" if lost else store.base
    base.mkdir(exist_ok=True)
    (store.base / path).unlink()
    os.chown(base, 1234, 4321)
    base.chmod(folder)
    before = os.umask(0o077)
    try:
        offload.json("restore", base)
    finally:
        os.umask(before)
    assert _owner_and_mode(base / path) == (1234, 4321, oct(file))
    if lost:
        for parent in list(Path(path).parents)[:-1]:
            assert _owner_and_mode(base / parent) == (1234, 4321, oct(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_is_told(store: SynapseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is neither Synapse's nor root gets files of his own, and is told so."""
    told = MediaStore(str(store.base)).complaint
    assert told is not None
    assert "will belong to root" in told
    os.chown(store.base, 1234, 4321)
    assert MediaStore(str(store.base)).complaint is None
    monkeypatch.setattr(os, "geteuid", lambda: 4000)
    told = MediaStore(str(store.base)).complaint
    assert told is not None
    assert "user 4000" in told
    assert "user 1234" in told
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert MediaStore(str(store.base)).complaint is None


@pytest.mark.parametrize("option", ["--media", "--user"])
def test_a_name_that_no_media_has(script: Script, store: SynapseStore, option: str) -> None:
    """It is refused before the database gets it."""
    script.configure(store, cloud="matrix", container="media")
    ended = script("restore", store.base, option, os.fsdecode(b"@ab\xff:here.example"))
    assert ended.returncode == 2
    assert "has characters that no name has" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_wrong_database(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A database without media restores nothing, and that is no success."""
    objects["local_content/ab/cd/ef"] = b"content"
    ended = offload("restore", store.base)
    assert ended.returncode == 2
    assert "no media at all" in ended.stderr
