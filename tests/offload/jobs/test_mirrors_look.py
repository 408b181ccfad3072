"""``verify``, ``restore`` and ``prune`` with several places."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import pytest

from tests.offload.mirrors import Mirrors, closed_url
from tests.offload.synapse_store import SynapseStore
from tests.servers.gate import running_gate
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


def _media(
    mirrors: Mirrors, name: str, *, disk: bool = False, a: bool = True, b: bool = True
) -> str:
    """A media with a file and objects in these places."""
    content = name.encode()
    digest = hashlib.sha256(content).hexdigest()
    path = mirrors.store.add_local(name, content, sha256=digest)
    if a:
        mirrors.a[path] = content
    if b:
        mirrors.b[path] = content
    if not disk:
        (mirrors.store.base / path).unlink()
    return path


# verify


def test_all_places_have_all(mirrors: Mirrors, store: SynapseStore) -> None:
    """Status 0. What only the disk has is no flaw of a place."""
    _media(mirrors, "everywhere", disk=True)
    _media(mirrors, "both-places")
    _media(mirrors, "only-disk", disk=True, a=False, b=False)
    summary = mirrors.run("verify", store.base)
    assert summary["on_disk_and_in_swift"] == summary["only_in_swift"] == 1
    assert summary["only_on_disk"] == 1
    assert {name: one["lacking"] for name, one in summary["members"].items()} == {"a": 0, "b": 0}


def test_one_place_lacks_some(mirrors: Mirrors, store: SynapseStore) -> None:
    """A column for each place, the names, the remedy, and status 1."""
    _media(mirrors, "everywhere", disk=True)
    on_disk = _media(mirrors, "one-lacks", disk=True, b=False)
    not_on_disk = _media(mirrors, "two-lacks", b=False)
    other = _media(mirrors, "other-lacks", a=False)
    expires = _media(mirrors, "expires")
    mirrors.b.let_expire(expires)
    ended = mirrors.plain("verify", store.base)
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    for line in (
        "On disk and in Swift: 1",
        "On disk, and in Swift but not everywhere: 1",
        "On disk and in Swift, but not known of every place: 0",
        "Only on disk: 0",
        "Only in Swift: 3",
        "Nowhere: 0",
        "In Swift   a  b",
        "Whole      4  2",
        "Missing    1  3",
        "Wrong      0  0",
        "Different  0  0",
        "Not known  0  0",
    ):
        # Counts of media are followed by their size.
        assert line in [one.partition(" (")[0] for one in lines], ended.stdout
    lacking = [line for line in lines if line.startswith("Lacking in ")]
    assert [line.partition(",")[0] for line in lacking] == ["Lacking in a: 1", "Lacking in b: 3"]
    assert "sync --proof" in lacking[0]
    assert "upload --all" in lacking[0]
    for path in (on_disk, not_on_disk, expires):
        assert f"Lacking in b: {path}\n" in ended.stderr
    assert f"Lacking in a: {other}\n" in ended.stderr
    assert f"b: In Swift but Swift will delete it (X-Delete-At): {expires}" in ended.stderr
    (line,) = mirrors.plain("-q", "verify", store.base).stdout.splitlines()
    assert "; In a: Whole 4, Missing 1; In b: Whole 2, Missing 3; Lacking in a: 1, " in line
    summary = mirrors.run("verify", store.base, status=1)
    assert summary["on_disk_and_in_swift_but_not_everywhere"] == 1
    assert (summary["members"]["b"]["whole"], summary["members"]["b"]["lacking"]) == (2, 3)


def test_other_bytes_in_one_place(mirrors: Mirrors, store: SynapseStore) -> None:
    """Synapse may serve them, whatever the other place has: a hole."""
    on_disk = _media(mirrors, "on-the-disk", disk=True)
    in_swift = _media(mirrors, "in-swift")
    for path in (on_disk, in_swift):
        mirrors.b[path] = mirrors.b[path][::-1]
    summary = mirrors.run("verify", store.base, "--deep", status=1)
    assert summary["on_disk_and_in_swift_but_different"] == 1
    assert summary["wrong_in_swift_not_on_disk"] == 1
    assert summary["members"]["b"]["wrong"] == summary["members"]["a"]["whole"] == 2
    assert (
        f"b: In Swift, but its SHA-256 is not the one in Synapse's database: {in_swift}"
        in (summary["told"])
    )
    assert f"Wrong in b: {on_disk}" in summary["told"]


@pytest.mark.parametrize("deep", [False, True])
def test_other_bytes_of_the_same_length(mirrors: Mirrors, store: SynapseStore, deep: bool) -> None:
    """Nothing on disk, no SHA-256: Swift's MD5s differ, so one of the two is bad, and both are
    named. With a SHA-256, --deep tells which.
    """
    path = _media(mirrors, "in-swift")
    mirrors.a[path] = mirrors.a[path][::-1]
    if deep:
        store.execute("UPDATE local_media_repository SET sha256 = NULL")
    summary = mirrors.run("verify", store.base, *(["--deep"] if deep else []), status=1)
    assert (summary["different_in_swift_not_whole_on_disk"], summary["only_in_swift"]) == (1, 0)
    assert summary["lost"] == [{"path": path, "what": "Different in Swift, not whole on disk"}]
    for name in ("a", "b"):
        assert summary["members"][name]["different"] == 1
        assert f"Different in {name}: {path}" in summary["told"]


def test_other_bytes_and_a_bad_file(mirrors: Mirrors, store: SynapseStore) -> None:
    """The file on disk is none to compare with either."""
    path = _media(mirrors, "in-swift", disk=True)
    (store.base / path).write_bytes(b"short")
    mirrors.a[path] = mirrors.a[path][::-1]
    summary = mirrors.run("verify", store.base, status=1)
    assert summary["different_in_swift_not_whole_on_disk"] == 1


def test_verify_without_one_place(mirrors: Mirrors, store: SynapseStore) -> None:
    """What the other one has is counted; what it lacks is nowhere only if both say so."""
    there = _media(mirrors, "there")
    on_disk = _media(mirrors, "on-the-disk", disk=True)
    only_b = _media(mirrors, "only-in-b", a=False)
    mirrors.configure(storage_url=closed_url())
    summary = mirrors.run("verify", store.base, status=1)
    assert (summary["only_in_swift"], summary["nowhere"]) == (1, 0)
    assert sum(summary["failed"].values()) == 1
    assert f"Failed: {only_b}: b: HEAD " in summary["told"]
    assert there not in summary["told"]
    assert on_disk not in summary["told"]
    assert summary["on_disk_and_in_swift_but_not_known_of_every_place"] == 1
    assert summary["on_disk_and_in_swift_but_not_everywhere"] == 0
    assert summary["members"]["b"]["not_known"] == 2
    assert summary["members"]["b"]["left_out"].startswith("HEAD ")
    store.execute("DELETE FROM local_media_repository WHERE media_id = 'only-in-b'")
    summary = mirrors.run("verify", store.base, status=1)
    assert (summary["only_in_swift"], summary["failed"]) == (1, {})
    assert (summary["members"]["b"]["not_known"], summary["members"]["b"]["lacking"]) == (2, 0)


# restore


def test_restore_from_either_place(mirrors: Mirrors, store: SynapseStore) -> None:
    """Contents and thumbnails that only one of them has; each object counts once."""
    paths = {_media(mirrors, "only-in-a", b=False), _media(mirrors, "only-in-b", a=False)}
    for number, objects in enumerate((mirrors.a, mirrors.b)):
        thumbnail = store.add_thumbnail("only-in-a", b"t" * (9 + number), width=32 + number)
        objects[thumbnail] = b"t" * (9 + number)
        (store.base / thumbnail).unlink()
        paths.add(thumbnail)
    for objects in (mirrors.a, mirrors.b):
        objects["local_content/or/ph/an"] = b"x"
    summary = mirrors.run("restore", store.base)
    assert summary["restored"] == 4
    assert summary["left_in_swift_deleted_in_synapse"] == 1
    assert store.files() == paths


@pytest.mark.parametrize(("wrong", "flaw"), [(b"short", "length"), (b"fedcba", "SHA-256")])
def test_a_wrong_object_is_passed_over(
    mirrors: Mirrors, store: SynapseStore, wrong: bytes, flaw: str
) -> None:
    """The first place has something else: the file comes from the second."""
    path = _media(mirrors, "abcdef")
    mirrors.a[path] = wrong
    summary = mirrors.run("restore", store.base)
    assert (summary["restored"], summary["failed"]) == (1, {})
    assert (store.base / path).read_bytes() == b"abcdef"
    assert f"a: not Synapse's file: the object's {flaw} is not the one" in summary["told"]


def test_a_wrong_object_everywhere(mirrors: Mirrors, store: SynapseStore) -> None:
    """Nothing is written."""
    path = _media(mirrors, "abcdef")
    mirrors.a[path] = mirrors.b[path] = b"fedcba"
    summary = mirrors.run("restore", store.base, status=1)
    assert (summary["restored"], sum(summary["failed"].values())) == (0, 1)
    assert store.files() == set()


def test_restore_without_one_place(mirrors: Mirrors, store: SynapseStore) -> None:
    """The other one's files come; whether the rest exists is not known."""
    _media(mirrors, "only-in-a", b=False)
    path = _media(mirrors, "only-in-b", a=False)
    mirrors.configure(of_a={"storage_url": closed_url()})
    summary = mirrors.run("restore", store.base, status=1)
    assert summary["restored"] == 1
    assert store.files() == {path}
    (reason,) = summary["failed"]
    assert reason.startswith("a: ")
    assert "neither on disk" not in reason


def test_restore_passes_over_a_place_that_crawls(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials, tmp_path: Path
) -> None:
    """A file that takes minutes in the first place comes from the second."""
    path = _media(mirrors, "small-one")
    content = random.Random(1).randbytes(300_000)
    large = store.add_local("large", content, sha256=hashlib.sha256(content).hexdigest())
    mirrors.a[large] = mirrors.b[large] = content
    (store.base / large).unlink()
    with running_gate(tmp_path, "gate", swift.url) as gate:
        url = gate.url_for(swift.account_url(account.project_id))
        mirrors.configure(of_a={"storage_url": url})
        gate.crawl()
        summary = mirrors.script.json("restore", str(store.base), status=0)
    assert summary["restored"] == 2
    assert store.files() == {path, large}


# prune


def _orphans(mirrors: Mirrors) -> str:
    """Media that Synapse knows, and one that it has deleted, in both places."""
    store = mirrors.store
    for number in range(5):
        store.add_local(f"media-{number}")
    gone = store.add_local("deleted")
    mirrors.run("upload", store.base, "--all")
    store.execute("DELETE FROM local_media_repository WHERE media_id = 'deleted'")
    later = int((time.time() + 2 * 86_400) * 1000)
    store.execute("UPDATE local_media_repository SET last_access_ts = %s", (later,))
    return gone


def test_prune_each_place(mirrors: Mirrors) -> None:
    """The names carry the place's; the figures are apart."""
    gone = _orphans(mirrors)
    ended = mirrors.plain("later", "prune")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[:2] == [f"a: {gone}", f"b: {gone}"]
    assert "b:\n  Objects listed: 6\n" in ended.stdout
    assert gone in mirrors.a.names() & mirrors.b.names()
    summary = mirrors.run("later", "prune", "--delete")
    assert {name: one["deleted"] for name, one in summary["members"].items()} == {"a": 1, "b": 1}
    assert gone not in mirrors.a.names() | mirrors.b.names()
    assert len(mirrors.a.names()) == len(mirrors.b.names()) == 5


@pytest.mark.parametrize("away", ["a", "b"])
def test_prune_without_one_place(mirrors: Mirrors, away: str) -> None:
    """The other one is pruned; status 1."""
    gone = _orphans(mirrors)
    if away == "a":
        mirrors.configure(of_a={"storage_url": closed_url()})
    else:
        mirrors.configure(storage_url=closed_url())
    summary = mirrors.run("later", "prune", "--delete", status=1)
    assert summary["members"][away]["stopped"] is not None
    there = mirrors.b if away == "a" else mirrors.a
    assert gone not in there.names()
    assert len(there.names()) == 5


def test_prune_refuses_one_place(mirrors: Mirrors) -> None:
    """Half of the objects of one would go: only that one stays as it is; status 2."""
    gone = _orphans(mirrors)
    for path in sorted(mirrors.b.names() - {gone})[1:]:
        mirrors.b.delete(path)
    mirrors.run("later", "prune", "--delete", "--max-share", "0.2", status=2)
    assert gone not in mirrors.a.names()
    assert gone in mirrors.b.names()
    ended = mirrors.plain("later", "prune", "--delete", "--max-share", "0.2")
    assert ended.returncode == 2
    assert "  Refused: 1 of 2 objects of local media (50%)" in ended.stdout


def test_prune_reaches_no_place(mirrors: Mirrors) -> None:
    """Status 3, as with one place."""
    mirrors.store.add_local("abcdef")
    mirrors.configure(of_a={"storage_url": closed_url()}, storage_url=closed_url())
    ended = mirrors.plain("prune", "--delete")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "swift_media_upload: a: HEAD " in ended.stderr
