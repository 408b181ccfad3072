"""What ``status`` tells about the keeper of the disk."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from swift_provider.keeper import (
    FOLDER,
    OVER_FOR_NOW,
    KeeperLock,
    Report,
    State,
    Trouble,
    save_state,
)
from tests.offload.conftest import Objects, Script
from tests.offload.mirrors import Mirrors, closed_url, silent_url
from tests.offload.synapse_store import SynapseStore

NOW = time.time()


def state(**changes: object) -> State:
    now = time.time()  # of the test: a whole suite takes a while
    report = Report(final=True, looked_at=7, uploaded=1, removed=9, freed=3 << 30, seconds=12.3)
    report.on_disk, report.files = 40 << 30, 123
    values: dict[str, object] = {
        "holder": "main",
        "container": "media",
        "limits": {"max_size": 50 << 30, "min_free": 0.05, "older_than": 2592000, "prune": True},
        "run": {"began": now - 320, "ended": now - 300, "died": None, "report": asdict(report)},
        "last_success": now - 300,
        "done": {"keep": now - 300},
    }
    return State(**{**values, **changes})  # type: ignore[arg-type]


def test_not_in_use(script: Script, store: SynapseStore) -> None:
    """Without local_disk there is nothing to tell, and nothing wrong."""
    ended = script("status", store.base)
    assert (ended.returncode, ended.stdout) == (0, f"local_disk is not in use for {store.base}\n")


def test_all_is_well(script: Script, store: SynapseStore) -> None:
    """Who keeps the disk, its limits, and the last run, for people and for programs."""
    lock = KeeperLock(str(store.base), "media_worker1")
    save_state(str(store.base), state())
    ended = script("status", store.base)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert lines[0] == (
        f"local_disk: {store.base} is kept within its budget "
        f"by media_worker1, process {os.getpid()}"
    )
    assert lines[1] == "Limits: max_size 50.0 GiB, min_free 5.0%, older_than 30 d, prune"
    assert lines[2].startswith("Last pass: ")
    assert "5 min ago), 12 s: looked at 7 media, uploaded 1 files, removed 9 (3.0 GiB)" in lines[2]
    assert lines[3] == "On disk then: 40.0 GiB in 123 files"
    assert lines[4].startswith("Last pass without trouble, and within the limits: ")
    assert lines[5].startswith("Last done: keep the disk within its limits: ")
    told = json.loads(script("status", store.base, "--json").stdout)
    assert (told["status"], told["wrong"], told["state"]["container"]) == (0, [], "media")
    lock.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"troubles": [{"reason": "swift", "text": "Swift: away", "since": NOW - 7300}]}, "away"),
        ({"run": {"died": "it was killed by signal 9", "ended": NOW}}, "killed by signal 9"),
    ],
)
def test_something_is_wrong(
    script: Script, store: SynapseStore, changes: dict[str, object], said: str
) -> None:
    """The status is 1, and the first line says what it is."""
    lock = KeeperLock(str(store.base), "main")
    save_state(str(store.base), state(**changes))
    ended = script("status", store.base)
    assert ended.returncode == 1
    assert ended.stdout.startswith("Wrong: ")
    assert said in ended.stdout.splitlines()[0]
    lock.close()


@pytest.mark.parametrize(
    ("reason", "hours", "wrong"),
    [
        (OVER_FOR_NOW, 0.9, False),
        (OVER_FOR_NOW, 1.1, True),
        (Trouble.BUSY.value, 9, False),
        ("over", 0.1, True),
    ],
)
def test_what_ends_by_itself(
    script: Script, store: SynapseStore, reason: str, hours: float, wrong: bool
) -> None:
    """Files that are too young to go are a note for an hour; so is another run, which is named."""
    lock = KeeperLock(str(store.base), "main")
    since = time.time() - hours * 3600
    troubles = [{"reason": reason, "text": "1 GiB over the budget", "since": since}]
    save_state(str(store.base), state(troubles=troubles))
    told = json.loads(script("status", store.base, "--json").stdout)
    assert told["status"] == (1 if wrong else 0)
    (text,) = told["wrong" if wrong else "notes"]
    assert text.endswith(": 1 GiB over the budget")
    assert told["notes" if wrong else "wrong"] == []
    first = script("status", store.base).stdout.splitlines()[0]
    assert first == f"{'Wrong' if wrong else 'Note'}: {text}"
    lock.close()


def test_nobody_holds_the_lock(script: Script, store: SynapseStore) -> None:
    """Synapse does not run, or no longer has local_disk: then a file is to be deleted."""
    save_state(str(store.base), state())
    ended = script("status", store.base)
    assert ended.returncode == 1
    path = store.base / FOLDER / "local_disk.json"
    assert f"has no local_disk any more: then delete {path}" in ended.stdout
    script.configure(store)
    wrong = script("status", store.base).stdout.splitlines()[0]
    assert wrong.endswith(f"homeserver.yaml has no local_disk any more: delete {path}")
    path.unlink()
    assert script("status", store.base).returncode == 0


def test_synapse_does_not_run(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """The configuration has local_disk: nothing is to be deleted. Perhaps it never ran."""
    offload.configure(
        store, cloud="matrix", container=objects.container, local_disk={"max_size": "1G"}
    )
    for known in (None, state()):
        if known is not None:
            save_state(str(store.base), known)
        ended = offload("status", store.base)
        assert ended.returncode == 1
        wrong, _, kept = ended.stdout.splitlines()[:3]
        assert wrong.endswith(
            "homeserver.yaml has local_disk: restart Synapse, or look into its log"
        )
        assert kept == f"local_disk: {store.base} is kept within its budget by no process"


def test_a_full_disk(script: Script, store: SynapseStore, tmp_path: Path) -> None:
    """The state file is of a better time then: local_disk cannot write it."""
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=200k none {small} 2>/dev/null"):
        pytest.skip("needs a user that can mount")
    try:
        lock = KeeperLock(str(small), "main")  # makes the only folder there, so far
        save_state(str(small), state())
        assert script("status", small).returncode == 0
        (small / "local_content").mkdir()
        with suppress(OSError), (small / "fills").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        ended = script("status", small)
        lock.close()
    finally:
        os.system(f"umount {small}")
    assert ended.returncode == 1
    assert f"Wrong: the disk of {small} is full" in ended.stdout


def test_a_run_in_progress(script: Script, store: SynapseStore) -> None:
    """It is shown; that it waits for another run is not wrong."""
    lock = KeeperLock(str(store.base), "main")
    busy = [{"reason": "busy", "text": "another run", "since": NOW}]
    running = {"began": NOW - 7300, "tasks": ["keep", "repair"]}
    save_state(str(store.base), state(running=running, troubles=busy))
    ended = script("status", store.base)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    line = next(line for line in lines if line.startswith("Pass in progress, since "))
    assert line.endswith("(2 h ago): keep the disk within its limits, upload what Swift lacks")
    lock.close()


def test_a_damaged_file(script: Script, store: SynapseStore) -> None:
    """It is as good as none."""
    (store.base / FOLDER).mkdir()
    (store.base / FOLDER / "local_disk.json").write_text("{")
    assert script("status", store.base).returncode == 0
    for text in (
        '{"run": {"report": 1}, "troubles": [1]}',
        '{"run": {"ended": 1, "report": {"done": [], "troubles": {}, "seconds": "x"}}}',
        '{"run": {"ended": 1, "report": {"done": [], "troubles": {}, "failed": 3}}}',
        '{"running": {"tasks": 5}, "last_success": 1e300, "limits": {"older_than": "x"}}',
        '{"done": {"prune": 1' + "0" * 400 + "}}",
        "[" * 100_000,
    ):
        (store.base / FOLDER / "local_disk.json").write_text(text)
        ended = script("status", store.base)
        assert "Traceback" not in ended.stderr
        assert ended.returncode in (0, 1)


def test_the_only_place(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """That it can be used is said also where there is only one."""
    ended = offload("status", store.base)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        f"local_disk is not in use for {store.base}",
        "",
        f"Swift: matrix, container {objects.container}: can be used",
    ]


def test_all_places_can_be_used(mirrors: Mirrors, store: SynapseStore) -> None:
    """Each is named."""
    told = mirrors.run("status", store.base)
    assert [(one["name"], one["usable"], one["reason"]) for one in told["members"]] == [
        ("a", True, None),
        ("b", True, None),
    ]


def test_a_place_that_cannot_be_used(mirrors: Mirrors, store: SynapseStore) -> None:
    """One line with the reason, and status 1. Nothing is retried, and nothing is waited for."""
    mirrors.configure(storage_url=closed_url())
    began = time.monotonic()
    ended = mirrors.script("status", store.base)
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    b = f"Swift: b, container {mirrors.b.container}"
    assert lines[0].startswith(f"Wrong: {b}: cannot be used: HEAD ")
    assert lines[-1] == f"Swift: a, container {mirrors.a.container}: can be used"
    assert len([line for line in lines if line]) == 3
    assert time.monotonic() - began < 10
    mirrors.configure(container="no-such-container")
    lines = mirrors.script("status", store.base).stdout.splitlines()
    assert lines[0].startswith("Wrong: Swift: b, container no-such-container: cannot be used: ")


def test_places_that_do_not_answer(mirrors: Mirrors, store: SynapseStore) -> None:
    """They are asked at the same time, and no longer than ten seconds."""
    with silent_url() as one, silent_url() as other:
        mirrors.configure(of_a={"storage_url": one}, storage_url=other)
        began = time.monotonic()
        told = mirrors.script.json("status", store.base, status=1)
    assert 10 <= time.monotonic() - began < 19
    assert [one["reason"] for one in told["members"]] == ["no answer within 10 seconds"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_places_are_asked(
    mirrors: Mirrors, store: SynapseStore, number: signal.Signals
) -> None:
    """The command ends at once."""
    with silent_url() as one, silent_url() as other:
        mirrors.configure(of_a={"storage_url": one}, storage_url=other)
        began = time.monotonic()
        running = mirrors.script.start("status", store.base)
        time.sleep(3)
        running.send_signal(number)
        _, told = running.communicate(timeout=30)
    assert time.monotonic() - began < 8
    assert running.returncode == 130
    assert "Traceback" not in told
    assert "Interrupted" in told


def test_a_cloud_that_is_not_found(mirrors: Mirrors, store: SynapseStore) -> None:
    """It is said of that place only."""
    mirrors.configure(cloud="no-such-cloud")
    told = mirrors.script.json("status", store.base, status=1)
    assert [one["usable"] for one in told["members"]] == [True, False]
    assert "no-such-cloud" in told["members"][1]["reason"]


def test_the_last_run_of_each_command(script: Script, store: SynapseStore) -> None:
    """What it did, or the error that ended it; and when. A refusal is cut short."""
    store.add_local("gone-one", None)
    script.configure(store)
    assert script("update", store.base, "2m").returncode == 0
    assert script("upload", store.base).returncode == 2
    empty, title, first, second = script("status", store.base).stdout.splitlines()[-4:]
    assert (empty, title) == ("", "Last run of each command:")
    assert first.startswith("update: 2")
    assert first.endswith(" s: Synced 1 new rows; Updated 1 as deleted")
    assert second.startswith("upload: 2")
    assert " s: exit status 2: no container: give CONTAINER" in second
    assert second.endswith(" ...")
    assert len(second) < 190
    told = json.loads(script("status", store.base, "--json").stdout)["commands"]
    assert (told["update"]["status"], told["upload"]["status"]) == (0, 2)


def test_runs_that_cannot_be_noted(script: Script, store: SynapseStore) -> None:
    """A file that cannot be written or read changes nothing."""
    script.configure(store)
    (script.folder / "cache.db.runs").mkdir()
    assert script("update", store.base, "2m").returncode == 0
    told = script("status", store.base).stdout
    assert "Last run of each" not in told
    assert "Note: the last runs are not known: cache.db.runs: Is a directory. Run as" in told
    assert sorted(path.name for path in script.folder.glob("cache.db.runs*")) == ["cache.db.runs"]
    (script.folder / "cache.db.runs").rmdir()
    for text in ("{", "[]", '{"update": 1, "upload": {"began": []}}'):
        (script.folder / "cache.db.runs").write_text(text)
        assert script("status", store.base).returncode == 0
