"""The script and a real Swift: what is uploaded, what is deleted, and what is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from swift_provider.sizes import readable
from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import OLD, RECENT, SynapseStore
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Answer, Stall
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def _run(offload: Script, store: SynapseStore, *options: str) -> dict[str, Any]:
    """update, then upload; the summary."""
    offload("update", store.base, "2m")
    return _upload(offload, store, *options)


def _upload(offload: Script, store: SynapseStore, *options: str, status: int = 0) -> dict[str, Any]:
    return offload.json("upload", store.base, *options, status=status)


def _fill(store: SynapseStore, count: int = 6) -> dict[str, bytes]:
    """Media of both kinds with thumbnails; paths and contents."""
    contents = {}
    for number in range(count):
        content = b"%d" % number * (number + 1) * 1000
        thumbnail = b"thumbnail %d" % number
        contents[store.add_local(f"local-{number}", content)] = content
        contents[store.add_thumbnail(f"local-{number}", thumbnail)] = thumbnail
        remote = (f"s{number % 2}.example.org", f"m-{number}", f"file-{number}")
        contents[store.add_remote(*remote, content)] = content
        path = store.add_thumbnail(
            remote[1], thumbnail, origin=remote[0], filesystem_id=remote[2], legacy=number == 0
        )
        contents[path] = thumbnail
    return contents


def test_upload_and_delete(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Old media and their thumbnails go to Swift and off the disk; recent ones stay."""
    contents = _fill(store)
    recent = store.add_local("recent-one", accessed=RECENT)
    summary = _run(offload, store)
    assert objects.names() == set(contents)
    assert store.files() == {recent, *contents}
    assert (summary["uploaded"], summary["deleted"], summary["found"]) == (24, 0, 24)
    assert summary["uploaded_bytes"] == sum(map(len, contents.values()))

    summary = _upload(offload, store, "--delete")
    assert (summary["already_there"], summary["uploaded"], summary["deleted"]) == (24, 0, 24)
    assert {name: objects[name] for name in objects.names()} == contents
    assert store.files() == {recent}
    assert offload("write").stdout == ""
    assert _upload(offload, store, "--delete")["found"] == 0


def test_half_of_it_is_there(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Files that Swift holds already are deleted without another upload."""
    contents = _fill(store)
    there = sorted(contents)[::2]
    for name in there:
        objects[name] = contents[name]
    stored = {name: objects.modified(name) for name in there}
    summary = _run(offload, store, "--delete")
    assert (summary["already_there"], summary["uploaded"], summary["deleted"]) == (12, 12, 24)
    assert {name: objects.modified(name) for name in there} == stored
    assert {name: objects[name] for name in objects.names()} == contents


def test_prefix_and_flags(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Flags win over homeserver.yaml; the prefix goes before each name."""
    path = store.add_local("abcdef")
    offload.configure(store, cloud="no such cloud", container="no-such-container")
    offload("update-db", "2m")
    flags = ["--cloud", "matrix", "--prefix", "server", "--threadpool-size", "2"]
    ended = offload("upload", store.base, objects.container, *flags)
    assert ended.returncode == 0, ended.stderr
    assert objects.names() == {f"server/{path}"}
    assert "Uploaded: 1 (13 bytes)" in ended.stdout.splitlines()


def test_offload(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """One command does what update and upload do; with -q an idle night is one line."""
    contents = _fill(store, 2)
    summary = offload.json("offload", store.base, "2m", "--delete")
    assert (summary["update"]["new"], summary["uploaded"], summary["deleted"]) == (4, 8, 8)
    assert objects.names() == set(contents)
    assert store.files() == set()
    ended = offload("offload", store.base, "2m", "--delete", "-q")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"Nothing to do(; Time: \d+\.\d s)?\n", ended.stdout)


def test_only_for_a_while(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """--max-duration ends the run between two files, without a failure; --bwlimit slows it."""
    contents = _fill(store, 2)
    pace = ["--max-duration", "6s", "--bwlimit", "1", "--threadpool-size", "1"]
    summary = _run(offload, store, "--delete", *pace)
    assert summary["ended_early"]
    assert (summary["failed"], summary["status"]) == ({}, 0)
    assert 0 < len(objects.names()) < len(contents)
    for option, value in (("--max-duration", "soon"), ("--bwlimit", "0")):
        assert offload("upload", store.base, option, value).returncode == 2
    assert _upload(offload, store, "--delete", "--bwlimit", "1G")["status"] == 0
    assert objects.names() == set(contents)


def test_dry_run(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """--dry-run says what would be done, in files and bytes, and does none of it."""
    contents = _fill(store, 2)
    summary = _run(offload, store, "--delete", "--dry-run")
    size = sum(map(len, contents.values()))
    assert (summary["uploaded_bytes"], summary["deleted_bytes"]) == (size, size)
    said = offload("upload", store.base, "--delete", "--dry-run").stdout
    for what in ("Would have uploaded", "Would have deleted"):
        assert f"\n{what}: 8 ({readable(size)})\n" in said
    assert (summary["uploaded"], summary["deleted"], summary["dry_run"]) == (8, 8, True)
    assert objects.names() == set()
    assert store.files() == set(contents)
    assert _upload(offload, store, "--delete")["deleted"] == 8


def test_all(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """--all uploads media of any age that Swift lacks, but no previews."""
    old = store.add_local("oldlocal")
    young = store.add_local("younglocal", accessed=RECENT)
    remote = store.add_remote("example.org", "m", "young-remote", accessed=RECENT)
    store.add_local("preview", url_cache="https://example.org/")
    summary = _upload(offload, store, "--all")
    assert objects.names() == {old, young, remote}
    assert summary["uploaded"] == 3


def test_another_object_is_kept(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """If file and object have the same length and other bytes, both stay, with a message."""
    path = store.add_local("abcdef", b"what is on disk")
    objects[path] = b"what is in Swift"[:15]
    offload("update-db", "2m")
    summary = _upload(offload, store, "--delete", status=1)
    assert summary["failed"] == {"Swift has another file under this name": 1}
    assert path in summary["told"]
    assert store.files() == {path}
    assert objects[path] == b"what is in Swift"[:15]


@pytest.mark.parametrize("sha256", [True, False])
def test_a_wrong_object_is_replaced(
    offload: Script, store: SynapseStore, objects: Objects, sha256: bool
) -> None:
    """A file that matches the database replaces an object that does not."""
    content = b"what is on disk"
    digest = hashlib.sha256(content).hexdigest() if sha256 else None
    path = store.add_local("abcdef", content, sha256=digest)
    objects[path] = b"WHAT IS ON DISK" if sha256 else b""
    summary = _run(offload, store, "--delete")
    assert (summary["replaced"], summary["deleted"]) == (1, 1)
    assert objects[path] == content


@pytest.mark.parametrize("there", [True, False])
def test_a_half_written_file_is_kept(
    offload: Script, store: SynapseStore, objects: Objects, there: bool
) -> None:
    """A file that is not what the database says is neither uploaded nor deleted."""
    good = b"the whole file"
    short = store.add_local("shortfile", good[:5], length=len(good))
    damaged = store.add_local("damaged", b"THE WHOLE FILE", sha256=hashlib.sha256(good).hexdigest())
    thumbnail = store.add_thumbnail("shortfile", b"thumbnail")
    (store.base / thumbnail).write_bytes(b"thumb")
    waiting = store.add_local("still-awaited", good, length=None)
    store.add_local("never-came", None, length=None)
    if there:
        for name in (short, damaged):
            objects[name] = good
    offload("update-db", "2m")
    summary = _upload(offload, store, "--delete", status=1)
    assert summary["failed"] == {
        "its length is not the one in Synapse's database": 2,
        "its SHA-256 is not the one in Synapse's database": 1,
    }
    assert summary["skipped"] == {"Synapse still waits for its upload": 1}
    assert store.files() == {short, damaged, thumbnail, waiting}
    assert {name: objects[name] for name in objects.names()} == (
        {short: good, damaged: good} if there else {}
    )


def test_rows_that_lie(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Names that would lead out of the media store are reported, and lead nowhere."""
    outside = store.base.parent / "outside"
    outside.write_bytes(b"secret")
    good = store.add_local("abcdef")
    names = ["../../outside", "ab/../../outside", "/etc/passwd", "a" * 2_000_000, "abcd/../..", ""]
    for number, name in enumerate(names):
        store.add_local(name, None)
        row = f"'..', 'm{number}', %s, 6, {OLD}"
        store.execute(
            "INSERT INTO remote_media_cache "
            f"(media_origin, media_id, filesystem_id, media_length, created_ts) VALUES ({row})",
            (name,),
        )
    store.execute(
        "INSERT INTO local_media_repository (media_id, media_length, created_ts) VALUES (%s, 6, 1)",
        ("ab\0cdef",),
    )
    summary = _run(offload, store, "--delete")
    assert summary["deleted"] == 1
    assert summary["skipped"] == {"a name that Synapse would not use": 13}
    assert len(summary["told"]) < 20_000
    assert objects.names() == {good}
    assert outside.read_bytes() == b"secret"


def test_odd_files(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Links and fifos in a media's place are reported and left."""
    target = store.base.parent / "target"
    target.write_bytes(b"x" * 13)
    for name in ("link-here", "fifo-here"):
        path = store.base / store.add_local(name, b"x" * 13)
        path.unlink()
        path.symlink_to(target) if name == "link-here" else os.mkfifo(path)
    offload("update-db", "2m")
    summary = _upload(offload, store, "--delete", status=1)
    assert summary["failed"] == {"not a regular file": 2}
    assert len(store.files()) == 2
    assert objects.names() == set()


def test_media_elsewhere(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A root that is a link to another filesystem is followed, and stays."""
    path = store.add_local("abcdef")
    elsewhere = Path("/dev/shm") / f"offload-{os.getpid()}"
    (store.base / "local_content").rename(store.base / "moved")
    subprocess.run(["cp", "-a", store.base / "moved", elsewhere], check=True)
    try:
        (store.base / "local_content").symlink_to(elsewhere)
        assert _run(offload, store, "--delete")["deleted"] == 1
        assert list(elsewhere.iterdir()) == []
    finally:
        subprocess.run(["rm", "-r", elsewhere], check=True)
    assert objects.names() == {path}


def test_read_only_store(
    offload: Script, store: SynapseStore, objects: Objects, tmp_path: Path
) -> None:
    """From a read-only disk everything is uploaded; what cannot be deleted is named."""
    path = store.add_local("abcdef")
    offload("update-db", "2m")
    if subprocess.run(["chattr", "+i", store.base / path], check=False).returncode:
        pytest.skip("needs a filesystem and a user that can make a file immutable")
    try:
        summary = _upload(offload, store, "--delete", status=1)
    finally:
        subprocess.run(["chattr", "-i", store.base / path], check=True)
    assert summary["uploaded"] == 1
    assert summary["failed"] == {"Operation not permitted": 1}
    assert store.files() == {path}
    assert objects.names() == {path}


def test_thumbnail_without_a_row(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A thumbnail that the database forgot goes with its media, but never over an object."""
    store.add_local("abcdef")
    new = store.add_thumbnail("abcdef", b"new", in_database=False)
    taken = store.add_thumbnail("abcdef", b"on disk", width=96, in_database=False)
    objects[taken] = b"in Swift"
    for path in (new, taken):
        os.utime(store.base / path, (0, time.time() - 2 * 86_400))
    offload("update-db", "2m")
    summary = _upload(offload, store, "--delete", status=1)
    assert summary["deleted"] == 2
    assert store.files() == {taken}
    assert objects[new] == b"new"
    assert objects[taken] == b"in Swift"


def test_a_young_thumbnail_without_a_row(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """Synapse may be writing it: it stays, with its media in the cache, until it is a day old."""
    content = store.add_local("abcdef")
    young = store.add_thumbnail("abcdef", b"half of", in_database=False)
    offload("update", store.base, "2m")
    for options in ([], ["--delete"]):
        summary = _upload(offload, store, *options)
        assert summary["skipped"] == {"a thumbnail that Synapse may be making just now": 1}
    assert young in summary["told"]
    assert store.files() == {young}
    assert objects.names() == {content}
    assert content in offload("write").stdout
    os.utime(store.base / young, (0, time.time() - 2 * 86_400))
    assert _upload(offload, store, "--delete")["deleted"] == 1


def test_missing_container(offload: Script, store: SynapseStore) -> None:
    """A container that does not exist ends the run at once, with status 3."""
    path = store.add_local("abcdef")
    offload("update-db", "2m")
    ended = offload("upload", store.base, "no-such-container", "--delete", "--even-so")
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert "\nswift_media_upload: HEAD no-such-container: " in ended.stderr
    assert "create it, or set create_container" in ended.stderr
    offload.configure(store, cloud="matrix", container="no-such-container", create_container=True)
    ended = offload("upload", store.base, "--delete")
    assert ended.returncode == 3
    assert "Synapse creates it when it starts" in ended.stderr
    assert store.files() == {path}


def test_what_is_no_media_store(
    offload: Script, store: SynapseStore, objects: Objects, tmp_path: Path
) -> None:
    """A wrong or unmounted folder is refused, before the cache learns that all is gone."""
    path = store.add_local("abcdef")
    objects[path] = (store.base / path).read_bytes()
    offload("update", store.base, "2m")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for command in (
        ("upload", elsewhere),
        ("update", elsewhere, "2m"),
        ("check-deleted", tmp_path),
    ):
        ended = offload(*command)
        assert ended.returncode == 2
        assert "is it mounted?" in ended.stderr
    assert offload("write", "-").stdout.startswith("local_content/ab/cd/ef\n")
    assert offload("restore", elsewhere).returncode == 0, "a disk that was lost is no mistake"


async def test_stopped_while_swift_is_away(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A signal ends a run that is waiting for a retry within seconds, not minutes."""
    store.add_local("abcdef")
    proxy = await _through_proxy(offload, store, objects, swift, account)
    await deferToThread(offload, "update-db", "2m")
    await proxy.refuse()
    running = offload.start("--log-level", "info", "upload", str(store.base))
    assert running.stderr is not None
    while "retrying in" not in await deferToThread(running.stderr.readline):
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    out, errors = await deferToThread(running.communicate, timeout=30)
    await proxy.stop()
    assert running.returncode == 130
    assert "Interrupted" in out, errors
    assert "Stopped early" not in out


async def test_the_disk_is_unmounted_meanwhile(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A disk that goes away during the run is not taken for media that were deleted."""
    contents = _fill(store, 2)
    proxy = await _through_proxy(offload, store, objects, swift, account, threadpool_size=1)
    proxy.add(stall := Stall(ON_REQUEST, match=("PUT", "/local_content")))
    await deferToThread(offload, "update-db", "2m")
    known = (await deferToThread(offload, "write", "-")).stdout
    running = offload.start("upload", str(store.base), "--delete")
    await stall.happened()
    mounted = store.base.with_name("mounted")
    store.base.rename(mounted)
    store.base.mkdir()
    stall.release()
    told, errors = await deferToThread(running.communicate, timeout=60)
    await proxy.stop()
    assert running.returncode == 3, errors
    assert f"Stopped early: {store.base} is no media store any more" in told
    store.base.rmdir()
    mounted.rename(store.base)
    assert (await deferToThread(offload, "write", "-")).stdout == known
    assert store.files() == set(contents)


async def test_a_file_that_goes_while_it_is_uploaded(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """Synapse purged it, or another run deleted it: it is gone, and nothing failed."""
    path = store.add_local("abcdef")
    proxy = await _through_proxy(offload, store, objects, swift, account)
    proxy.add(stall := Stall(match=("PUT", path)))
    await deferToThread(offload, "update", store.base, "2m")
    running = offload.start("upload", str(store.base), "--delete", "--json")
    await stall.happened()
    (store.base / path).unlink()
    stall.release()
    told, errors = await deferToThread(running.communicate, timeout=60)
    await proxy.stop()
    summary = json.loads(told)
    assert summary["status"] == 0, errors
    assert summary["skipped"] == {"gone from the disk meanwhile": 1}
    assert (summary["uploaded"], summary["deleted"]) == (1, 0)
    assert (await deferToThread(offload, "write", "-")).stdout == ""


def test_fetched_again_meanwhile(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """What the database says now counts, not what it said at the last update."""
    old = store.add_remote("example.org", "m", "first-file")
    purged = store.add_local("purged-one")
    offload("update-db", "2m")
    store.execute("UPDATE remote_media_cache SET filesystem_id = 'second-file'")
    store.execute("DELETE FROM local_media_repository")
    summary = _upload(offload, store, "--delete")
    assert summary["skipped"] == {
        "Synapse fetched it again since the last update": 1,
        "Synapse does not know it any more": 1,
    }
    assert store.files() == {old, purged}
    assert objects.names() == set()


async def _through_proxy(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    account: Credentials,
    threadpool_size: int = 4,
) -> FaultProxy:
    """Put a proxy that injects faults between the script and Swift."""
    port = int(swift.url.rpartition(":")[2])
    proxy = FaultProxy(reactor, "127.0.0.1", port)
    await proxy.start()
    offload.configure(
        store,
        cloud="matrix",
        container=objects.container,
        storage_url=proxy.url_for(swift.account_url(account.project_id)),
        threadpool_size=threadpool_size,
    )
    return proxy


async def test_full_cluster(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A cluster without space ends the run early, with status 3; nothing is deleted."""
    contents = _fill(store, 20)
    proxy = await _through_proxy(offload, store, objects, swift, account)
    proxy.add(Answer(507, times=None, match=("PUT", "/")))
    offload("update-db", "2m")
    summary = await deferToThread(_upload, offload, store, "--delete", status=3)
    await proxy.stop()
    assert "no space" in summary["stopped"]
    assert sum(summary["failed"].values()) <= 4
    assert store.files() == set(contents)


async def test_full_cluster_with_bwlimit(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """The run ends with the first file, and those that wait for their turn do not begin."""
    _fill(store, 2)
    proxy = await _through_proxy(offload, store, objects, swift, account)
    proxy.add(refusal := Answer(507, times=None, match=("PUT", "/")))
    offload("update-db", "2m")
    summary = await deferToThread(_upload, offload, store, "--bwlimit", "1", status=3)
    await proxy.stop()
    assert "no space" in summary["stopped"]
    assert refusal.fired == 1


async def test_one_file_fails(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A file that Swift refuses is named, and the others go on; status 1."""
    contents = _fill(store, 2)
    bad = sorted(contents)[0]
    proxy = await _through_proxy(offload, store, objects, swift, account)
    proxy.add(Answer(400, times=None, match=("PUT", bad)))
    offload("update-db", "2m")
    summary = await deferToThread(_upload, offload, store, "--delete", status=1)
    await proxy.stop()
    assert sum(summary["failed"].values()) == 1
    assert bad in summary["told"]
    assert store.files() == {bad}
    assert objects.names() == set(contents) - {bad}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_interrupted(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    account: Credentials,
    number: signal.Signals,
) -> None:
    """Ctrl-C lets what is in flight end, begins nothing more, prints the summary, exits 130."""
    contents = _fill(store, 2)
    proxy = await _through_proxy(offload, store, objects, swift, account, threadpool_size=1)
    stall = Stall(match=("PUT", "/"))
    proxy.add(stall)
    offload("update-db", "2m")
    running = offload.start("upload", str(store.base), "--delete", "--json")
    await stall.happened()
    running.send_signal(number)
    assert running.stderr is not None
    told = await deferToThread(running.stderr.readline)
    while "Finishing current files" not in told:
        told = await deferToThread(running.stderr.readline)
    stall.release()
    out, _ = await deferToThread(running.communicate)
    await proxy.stop()
    assert running.returncode == 130
    summary = json.loads(out)
    assert summary["interrupted"]
    assert (summary["uploaded"], summary["deleted"], summary["failed"]) == (1, 1, {})
    (gone,) = set(contents) - store.files()
    assert objects.names() == {gone}
    assert objects[gone] == contents[gone]


async def test_interrupted_twice(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift, account: Credentials
) -> None:
    """A second Ctrl-C ends the run at once, with the summary."""
    contents = _fill(store, 2)
    proxy = await _through_proxy(offload, store, objects, swift, account)
    stall = Stall(times=None, match=("PUT", "/"))
    proxy.add(stall)
    offload("update-db", "2m")
    running = offload.start("upload", str(store.base), "--delete")
    await stall.happened()
    assert running.stderr is not None
    running.send_signal(signal.SIGINT)
    while "Finishing current files" not in await deferToThread(running.stderr.readline):
        pass
    running.send_signal(signal.SIGINT)
    out, _ = await deferToThread(running.communicate)
    await proxy.stop()
    assert running.returncode == 130
    assert "Interrupted" in out
    assert store.files() == set(contents)


def test_nothing_left_to_do(offload: Script, store: SynapseStore) -> None:
    """An empty cache gives a hint; a cache whose files are all deleted does not."""
    early = offload("upload", store.base, "--delete")
    assert early.returncode == 0
    assert early.stderr.splitlines()[1:] == ["The cache is empty: run 'update' first"]
    quiet = offload("upload", store.base, "--delete", "-q")
    assert quiet.stderr.splitlines() == ["The cache is empty: run 'update' first"]
    offload("update", store.base, "2m")
    none = offload("upload", store.base, "--delete")
    assert none.returncode == 0
    assert none.stderr.splitlines()[1:] == [
        "Nothing to upload: at the last 'update', all media had been accessed within its DURATION"
    ]
    store.add_local("abcdef")
    offload("update", store.base, "2m")
    assert offload("upload", store.base, "--delete").returncode == 0
    again = offload("upload", store.base, "--delete", "--no-progress")
    assert (again.returncode, again.stderr.count("\n")) == (0, 1)


@pytest.mark.parametrize("after_objects", [1, 10, 40])
def test_killed(offload: Script, store: SynapseStore, objects: Objects, after_objects: int) -> None:
    """kill -9 at any moment loses nothing, and the next run goes on from there."""
    contents = _fill(store, 30)
    offload("update", store.base, "2m")
    running = offload.start("upload", str(store.base), "--delete", "--no-progress")
    deadline = time.monotonic() + 60
    while len(contents) - len(store.files()) < after_objects:
        assert time.monotonic() < deadline
    running.kill()
    running.communicate()
    gone = set(contents) - store.files()
    assert gone
    assert all(objects[name] == contents[name] for name in gone)
    _upload(offload, store, "--delete")
    assert store.files() == set()
    assert {name: objects[name] for name in objects.names()} == contents


def test_sign_in_refused(
    offload: Script, store: SynapseStore, objects: Objects, account: Credentials
) -> None:
    """A refused sign-in ends the run with status 3, and shows no password."""
    path = store.add_local("abcdef")
    auth = {**account.auth(), "password": "hunter2"}
    offload.configure(store, container=objects.container, auth_type="password", auth=auth)
    offload("update-db", "2m")
    ended = offload("--log-level", "debug", "upload", store.base, "--delete")
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith("swift_media_upload: Keystone at http://")
    assert ended.stderr.count("Keystone at http://") == 1
    assert " WARNING " not in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    assert store.files() == {path}
