"""What ``stats`` counts, compared with stores that were made by hand."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import struct
import subprocess
import termios
import time
from collections.abc import Iterable
from typing import Any

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore

DURATIONS = {"1w": 7, "1m": 30, "2m": 60, "6m": 180, "1y": 365}
DAY = 86_400
KINDS = ("local", "remote", "thumbnails")


def ago(days: float) -> int:
    """A time for the database."""
    return int((time.time() - days * DAY) * 1000)


def taken(store: SynapseStore, paths: Iterable[str]) -> dict[str, int]:
    """As ``stats`` shows it, counted by the file system."""
    sizes = [os.lstat(store.base / path).st_blocks * 512 for path in paths]
    return {"files": len(sizes), "bytes": sum(sizes)}


def thumbnail(store: SynapseStore, media_id: str, days: float, **values: Any) -> str:
    """One that was written to so long ago."""
    store.written = time.time() - days * DAY
    path = store.add_thumbnail(media_id, **values)
    store.written = None
    return path


def test_every_number(script: Script, any_store: SynapseStore) -> None:
    """Kinds, times and origins, in both databases; what Synapse would not offload stays."""
    store = any_store
    script.configure(store)
    new = store.add_local("newlocal", b"x" * 10_000, accessed=ago(1))
    old = store.add_local("oldlocal", b"x" * 20_000, accessed=ago(61))
    never = store.add_local("neverseen", b"x" * 30_000, accessed=None, created_ts=ago(31))
    ahead = store.add_local("aheadlocal", b"x", accessed=ago(-900))
    timeless = store.add_local("timeless", b"x", accessed=None, created_ts=None)
    waiting = store.add_local("waiting-one", b"x" * 5000, length=None)
    cut_short = store.add_local("cut-short", b"x" * 5000, length=6000, accessed=ago(400))
    store.add_local("gone-one", None, length=700, accessed=ago(400))
    store.add_local("preview", b"x" * 9999, url_cache="https://example.org/")
    quarantined = store.add_remote(
        "a.example", "m1", "remote01", b"x" * 40_000, accessed=ago(200), quarantined_by="@me:here"
    )
    far = store.add_remote("b.example", "m2", "remote02", b"x" * 9000, accessed=ago(8))
    small = thumbnail(store, "oldlocal", 60)
    theirs = thumbnail(
        store, "m1", 0, origin="a.example", filesystem_id="remote01", legacy=True, width=64
    )
    young = thumbnail(store, "oldlocal", 0.5, in_database=False, width=1)
    forgotten = thumbnail(store, "oldlocal", 2, in_database=False, width=2)
    damaged = thumbnail(store, "oldlocal", 60, width=3)
    (store.base / damaged).write_bytes(b"longer than the row says")
    of_waiting = thumbnail(store, "waiting-one", 60)
    stray = store._file("local_content/st/ra/y-file", b"x" * 100)
    preview = "local_content/pr/ev/iew"
    told = script.json("stats", store.base)

    database = told["database"]
    assert database["pending_uploads"] == 1
    assert {kind: (database[kind]["number"], database[kind]["bytes"]) for kind in KINDS} == {
        "local": (7, 10_000 + 20_000 + 30_000 + 2 + 6000 + 700),
        "remote": (2, 49_000),
        "thumbnails": (4, 36),
    }
    assert [database["local"]["not_accessed_for"][one]["number"] for one in DURATIONS] == [
        *(4, 4, 3, 2, 2)
    ]
    assert database["local"]["not_accessed_for"]["2m"]["bytes"] == 20_000 + 6000 + 700
    assert [database["remote"]["not_accessed_for"][one]["number"] for one in DURATIONS] == [
        *(2, 1, 1, 1, 0)
    ]
    assert [database["thumbnails"]["not_accessed_for"][one]["number"] for one in DURATIONS] == [
        *(4, 4, 4, 2, 1)
    ]
    assert database["largest_origins"] == [
        {"origin": "", "number": 7, "bytes": 66_702},
        {"origin": "a.example", "number": 1, "bytes": 40_000},
        {"origin": "b.example", "number": 1, "bytes": 9000},
    ]

    disk = told["disk"]
    locals_ = [new, old, never, ahead, timeless, waiting, cut_short]
    thumbnails = [small, theirs, young, forgotten, damaged, of_waiting]
    assert disk["base_path"] == str(store.base)
    assert disk["local"] == taken(store, locals_)
    assert disk["remote"] == taken(store, [quarantined, far])
    assert disk["thumbnails"] == taken(store, thumbnails)
    assert disk["without_a_row"] == taken(store, [stray, preview])
    of_old = [old, small, forgotten]
    of_quarantined = [quarantined, theirs]
    assert disk["would_free"] == {
        "1w": taken(store, [never, far, *of_old, *of_quarantined]),
        "1m": taken(store, [never, *of_old, *of_quarantined]),
        "2m": taken(store, [*of_old, *of_quarantined]),
        "6m": taken(store, of_quarantined),
        "1y": taken(store, []),
    }
    of_here = {*locals_, *thumbnails, stray, preview} - {theirs}
    assert disk["largest_origins"] == [
        {"origin": "", **taken(store, of_here)},
        {"origin": "a.example", **taken(store, of_quarantined)},
        {"origin": "b.example", **taken(store, [far])},
    ]
    assert (told["swift"], told["unreadable"], told["told"]) == ([], 0, "")


@pytest.mark.parametrize("seed", range(2))
def test_it_foretells_what_is_freed(
    offload: Script, store: SynapseStore, objects: Objects, seed: int
) -> None:
    """The figure for each DURATION is what ``update`` and ``upload --delete`` then free."""
    _fill_at_random(store, random.Random(seed))
    freed_at_all = 0
    for duration in reversed(DURATIONS):
        foretold = offload.json("stats")["disk"]["would_free"][duration]
        before = taken(store, store.files())
        assert offload("update", store.base, duration).returncode == 0
        offload("upload", store.base, "--delete")
        after = taken(store, store.files())
        freed = {key: before[key] - after[key] for key in before}
        assert freed == foretold, duration
        freed_at_all += freed["files"]
    assert freed_at_all > 20
    assert any(path.startswith("remote_thumbnail") for path in objects.names())


def _fill_at_random(store: SynapseStore, choice: random.Random) -> None:
    """Media of all ages, and everything that keeps a file on the disk."""
    for number in range(60):
        name = f"media{number:03}"
        content = b"x" * choice.choice((0, 10, 5000, 20_000))
        accessed = ago(choice.choice((0.1, 6.9, 7.1, 29, 31, 61, 179, 181, 364, 366, 2000)))
        flaw = choice.choice(("", "", "", "waiting", "short", "gone"))
        columns: dict[str, Any] = {"accessed": accessed}
        key: dict[str, str] = {}
        if number % 2:
            key = {"origin": f"{choice.choice('abc')}.example", "filesystem_id": f"file{number:03}"}
            columns |= {"media_length": None} if flaw == "waiting" else {}
            there = None if flaw == "gone" else content
            path = store.add_remote(*_names(key, name), there, **columns)
        else:
            columns |= {"length": None} if flaw == "waiting" else {"length": len(content)}
            path = store.add_local(name, None if flaw == "gone" else content, **columns)
        if flaw == "short":
            (store.base / path).write_bytes(content + b"more")
        for width in range(choice.randrange(4)):
            made = thumbnail(
                store,
                name,
                choice.choice((0.1, 0.9, 1.1, 50)),
                width=width,
                in_database=choice.random() < 0.7,
                legacy=bool(key) and choice.random() < 0.5,
                **key,
            )
            if choice.random() < 0.2:
                os.truncate(store.base / made, 3)
    store._file("local_content/st/ra/y-file", b"x" * 100)
    store.add_local("../../..", None)


def _names(key: dict[str, str], media_id: str) -> tuple[str, str, str]:
    return key["origin"], media_id, key["filesystem_id"]


def test_swift(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """What is on the disk, in Swift, in both, in neither; and what Synapse does not know."""
    both = store.add_local("in-both", b"x" * 5000)
    large = store.add_local("a-bbcc", b"x" * 50)
    both_small = store.add_thumbnail("in-both", b"y" * 70)
    differs = store.add_local("differs", b"x" * 300)
    only_disk = store.add_remote("a.example", "m1", "disk0001", b"x" * 6000)
    # Swift lists the objects of "a.example.org/" before those of "a.example/".
    only_swift = store.add_remote("a.example.org", "m1", "swift001", None, media_length=44)
    store.add_local("nowhere1", None, length=600)
    store.add_local("waiting1", None, length=None)
    unknown = "remote_thumbnail/x.example/ab/cd/ef/32-32-image-png"
    for path, size in ((both, 5000), (large, 50), (both_small, 70), (differs, 30)):
        objects[path] = b"z" * size
    objects[only_swift] = b"z" * 44
    objects[unknown] = b"z" * 9
    objects["local_content/notes.txt"] = b"z"
    objects["notes.txt"] = b"z"
    (place,) = offload.json("stats", store.base, "--swift")["swift"]
    assert place == {
        "name": "matrix",
        "container": objects.container,
        "listed": {"objects": 6, "bytes": 5000 + 50 + 70 + 30 + 44 + 9},
        "not_media": 1,
        "on_disk_and_listed": taken(store, [both, large, both_small]),
        "on_disk_and_listed_with_another_length": taken(store, [differs]),
        "only_on_disk": taken(store, [only_disk]),
        "only_listed": {"objects": 2, "bytes": 53},
        "neither": {"media": 1, "bytes": 600},
        "listed_without_a_row": {"objects": 1, "bytes": 9},
    }
    shown = offload("stats", "--swift", store.base, objects.container).stdout
    assert "Listed in matrix " in shown
    assert "\non disk, other length listed " in shown


def test_several_places(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Each mirror has figures of its own; one that cannot be listed does not hide the others."""
    path = store.add_local("in-first")
    objects[path] = b"local content"
    second = f"second-{objects.container}"
    objects.make(second)
    mirror = {"cloud": "matrix", "container": second, "name": "second"}
    lost = {"cloud": "matrix", "container": "no-such-container", "name": "lost"}
    offload.configure(store, cloud="matrix", container=objects.container, mirrors=[mirror, lost])
    told = offload.json("stats", "--swift", status=3)
    found = {place["name"]: place for place in told["swift"]}
    assert found["matrix"]["on_disk_and_listed"]["files"] == 1
    assert found["second"]["only_on_disk"]["files"] == 1
    assert "no-such-container" in found["lost"]["error"]
    shown = offload("stats", "--swift")
    assert shown.returncode == 3
    assert "It cannot be listed: " in shown.stdout
    assert "Listed in second " in shown.stdout


def test_no_media_store(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """Without a media store the database is counted, and Swift; and the text says so."""
    path = store.add_local("in-swift")
    store.add_local("nowhere1", None, length=600)
    objects[path] = b"local content"
    for one in ("local_content", "local_thumbnails", "remote_content", "remote_thumbnail"):
        subprocess.run(["rm", "-r", store.base / one], check=True)
    store.base.rmdir()
    told = offload.json("stats", "--swift")
    assert told["disk"] is None
    assert told["database"]["local"]["number"] == 2
    (place,) = told["swift"]
    assert place["listed"] == {"objects": 1, "bytes": 13}
    assert place["neither"] == {"media": 1, "bytes": 600}
    shown = offload("stats", "--swift").stdout
    assert shown.endswith("There is no media store on this machine: nothing is said of the disk\n")
    assert "Largest in the database " in shown
    ended = offload("stats", store.base)
    assert ended.returncode == 2
    assert "is not a folder" in ended.stderr


def test_a_disk_that_fails(script: Script, store: SynapseStore) -> None:
    """The media store is not said to be absent."""
    script.configure(store)
    code = f"""
import errno, os, sys
from swift_provider.offload.command.cli import main
right = os.stat
def fail(path, **options):
    if path == {str(store.base)!r}:
        raise OSError(errno.EIO, "Input/output error", path)
    return right(path, **options)
os.stat = fail
sys.exit(main(sys.argv[1:]))
"""
    ended = script.run([*script.command()[:1], "-c", code, "stats"])
    assert ended.returncode == 2
    assert f"Cannot look into {store.base}: Input/output error. Check the disk" in ended.stderr


def test_an_empty_store(script: Script, any_store: SynapseStore) -> None:
    """Nothing is nothing, not an error."""
    script.configure(any_store)
    told = script.json("stats", any_store.base)
    assert told["disk"]["would_free"]["1w"] == {"files": 0, "bytes": 0}
    assert told["database"]["local"]["bytes"] == 0
    shown = script("stats", any_store.base).stdout
    assert "\nall " in shown
    assert "#" not in shown


def test_strange_origins(script: Script, store: SynapseStore) -> None:
    """Nothing that a remote server is called gets to the terminal as it is."""
    script.configure(store)
    store.add_remote("\x1b[31m\n\tred", "m1", "remote01", None, media_length=7)
    store.add_remote("服务器.example", "m1", "remote02", None, media_length=6)
    store.add_remote("long." * 50 + "example", "m1", "remote03", None, media_length=5)
    store.add_remote("", "m1", "remote04", None, media_length=4)
    os.rename(store.base, f"{store.base}-away")
    told = script.json("stats")
    origins = [one["origin"] for one in told["database"]["largest_origins"]]
    assert origins == ["\x1b[31m\n\tred", "服务器.example", "long." * 50 + "example"]
    shown = script("stats").stdout
    assert shown.isascii()
    assert "\x1b" not in shown
    assert "\\x1b[31m\\n\\tred" in shown
    assert max(map(len, shown.splitlines())) <= 80


def _on_terminal(script: Script, columns: int, *arguments: str) -> str:
    """What appears on a terminal of this width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with open(script.folder / "errors", "w") as errors:
        running = subprocess.Popen(
            script.command(*arguments),
            cwd=script.folder,
            env=script.environment,
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=errors,
        )
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 65536):
                shown += part
        except OSError:  # Linux says so when the other end is closed.
            pass
        os.close(master)
    assert running.wait(30) == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("columns", "width"), [(60, 60), (120, 120), (40, 60), (300, 120)])
def test_widths(script: Script, store: SynapseStore, columns: int, width: int) -> None:
    """The longest bar ends at the right edge, the columns are aligned, nothing is cut off."""
    script.configure(store)
    store.add_remote("server-with-quite-a-long-name.of-an-organisation.example", "m", "remote01")
    store.add_local("oldlocal", b"x" * 100_000)
    shown = _on_terminal(script, columns, "stats", str(store.base))
    lines = shown.splitlines()
    assert max(map(len, lines)) == width
    rows = [line for line in lines if line.endswith("#")]
    assert len({line.index("#") for line in rows}) == 1
    assert "\n(this server) " in shown
    whole = "server-with-quite-a-long-name.of-an-organisation.example"
    assert (f"\n{whole} " in shown) == (width == 120)
    assert "100.0 KiB" in shown


def test_the_usual_width(script: Script, store: SynapseStore) -> None:
    """What is not a terminal gets 80 columns."""
    script.configure(store)
    store.add_local("oldlocal", b"x" * 100_000)
    shown = script("stats", store.base).stdout
    assert max(map(len, shown.splitlines())) == 80


def test_a_folder_that_cannot_be_read(script: Script, store: SynapseStore) -> None:
    """It is named, the rest is counted, and the status is 1."""
    script.configure(store)
    store.add_local("oldlocal")
    # Root may read any folder, but not this.
    loop = store.base / "remote_content" / "loop.example"
    loop.symlink_to(loop)
    told = script.json("stats", store.base, status=1)
    assert told["unreadable"] == 1
    assert "Failed: remote_content/loop.example: cannot be listed: " in told["told"]
    assert told["disk"]["local"]["files"] == 1


@pytest.mark.parametrize("flag", ["--cloud", "--prefix", "--entry", "--threadpool-size"])
def test_options_of_swift_without_swift(script: Script, store: SynapseStore, flag: str) -> None:
    """An option that would be ignored is refused."""
    script.configure(store)
    ended = script("stats", store.base, flag, "1")
    assert ended.returncode == 2
    assert f"{flag} is of no use without --swift" in ended.stderr
    assert "CONTAINER is of no use" in script("stats", store.base, "container").stderr


def test_the_database_is_out_of_reach(script: Script, store: SynapseStore) -> None:
    """Status 3, as with the other commands."""
    (script.folder / "database.yaml").write_text("{host: 127.0.0.1, port: 1, dbname: x}")
    assert "refused" in script.json("stats", store.base, status=3)["error"]
