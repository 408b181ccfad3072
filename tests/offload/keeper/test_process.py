"""The process around a run: how it ends, what it says, and what it does without."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from swift_provider.keeper import FOLDER, KeeperLock, Report, Task, Trouble
from swift_provider.offload.lock import StoreLock
from tests.offload.conftest import Objects, Script
from tests.offload.keeper.conftest import Keeper
from tests.offload.keeper.test_run import SIZE, fill
from tests.servers import process

#: What is read from either database is the same; see test_run.py.
pytestmark = pytest.mark.parametrize("any_store", ["postgres"], indirect=True)

HUNTER = "hunter2-of-the-pipe"


def last_report(child: subprocess.Popen[bytes]) -> Report:
    """Of a run that ends by itself."""
    assert child.stdout is not None
    with child:
        return Report.from_line(child.stdout.read().splitlines()[-1])


@contextlib.contextmanager
def silent_swift() -> Any:
    """A server that takes connections and never answers; its URL."""
    with socket.create_server((process.LOOPBACK, 0)) as listening:
        yield f"http://{process.LOOPBACK}:{listening.getsockname()[1]}/v1/AUTH_a"


def silent(url: str) -> dict[str, Any]:
    """The options of a Swift that needs no sign-in."""
    return {"container": "media", "storage_url": url, "auth_type": "none"}


def test_it_ends_with_synapse(keeper: Keeper) -> None:
    """Closing the pipe, which the kernel does for a killed Synapse, ends a run at once."""
    fill(keeper.store)
    with silent_swift() as url:
        keeper.options = silent(url)
        child = keeper.start(keeper.order(Task.KEEP, max_size=1))
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(3)
        assert child.stdin is not None
        child.stdin.close()
        began = time.monotonic()
        child.wait(10)
        assert time.monotonic() - began < 8
    assert len(keeper.store.files()) == 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_is_ignored(keeper: Keeper, number: signal.Signals) -> None:
    """systemd sends it to all processes of a service. Synapse's end ends the run.

    SIGHUP, which an administrator sends for the logs, may come the same way.
    """
    fill(keeper.store)
    with silent_swift() as url:
        keeper.options = silent(url)
        child = keeper.start(keeper.order(Task.KEEP, max_size=1))
        deadline = time.monotonic() + 20
        while os.getpriority(os.PRIO_PROCESS, child.pid) != 19:  # It ignores SIGTERM by then.
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        child.communicate()
    assert child.returncode == 0


#: Makes the walk through the disk do something else.
WALK = """
import os, sys, time
from swift_provider.offload.keeper import reporter
reporter.REPORT_SECONDS = 0.1
from swift_provider.offload.keeper.__main__ import main
def walk(*_):
    while True:
        {}
os.scandir = walk
main()
"""


@pytest.mark.parametrize(
    ("does", "is_idle"), [("time.sleep(60)", True), ("sum(range(10000))", False)]
)
def test_a_run_that_hangs(keeper: Keeper, does: str, is_idle: bool) -> None:
    """It reports that it gets no further; one that calculates is told apart."""
    keeper.code = WALK.format(does)
    child = keeper.start(keeper.order(Task.KEEP, max_size=1))
    assert child.stdout is not None
    with child:
        report = Report()
        while report.seconds < 4:
            report = Report.from_line(child.stdout.readline())
        child.kill()
    assert (report.idle > 0.7 * report.seconds) == is_idle


def test_files_that_are_denied(keeper: Keeper) -> None:
    """The run goes on, and says that a person has to act."""
    keeper.code = """
from swift_provider.offload.jobs import offloading
def refuse(*_):
    raise PermissionError(13, "Permission denied")
offloading.remove = refuse
from swift_provider.offload.keeper.__main__ import main
main()
"""
    fill(keeper.store, 3)
    report = keeper.run(Task.KEEP, max_size=1).report
    assert report.failed == {"Permission denied": 3}
    assert "the disk: Permission denied" in report.troubles[Trouble.REFUSED]
    assert (report.done, report.removed) == ([Task.KEEP], 0)
    assert report.over > 0


def test_its_secrets_are_not_listed(keeper: Keeper) -> None:
    """Neither the arguments nor the environment of the process show what the order says."""
    fill(keeper.store)
    with silent_swift() as url:
        auth = {"auth_url": url, "username": "u", "password": HUNTER}
        keeper.options = {"container": "media", "auth_type": "password", "auth": auth}
        keeper.environment = {"OS_PASSWORD": HUNTER}
        child = keeper.start(keeper.order(Task.KEEP, max_size=1))
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(3)
            for name in ("cmdline", "environ"):
                listed = Path(f"/proc/{child.pid}/{name}").read_bytes()
                assert HUNTER.encode() not in listed
            assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
            group = Path(f"/proc/{child.pid}/autogroup")
            assert not group.exists() or group.read_text().endswith("nice 19\n")
        finally:
            child.kill()
            child.communicate()


def test_one_run_at_a_time(keeper: Keeper, tmp_path: Path) -> None:
    """While the script uses the media store, a run does nothing and says so."""
    paths = fill(keeper.store)
    lock = StoreLock(str(keeper.store.base))
    # The module that starts the child has elected itself.
    with contextlib.closing(KeeperLock(str(keeper.store.base), "main")):
        report = keeper.run(Task.KEEP, max_size=1).report
    assert "another run is using the media store" in report.troubles[Trouble.BUSY]
    assert set(paths) <= keeper.store.files()
    lock.close()


def test_another_version(keeper: Keeper) -> None:
    """A package that was upgraded under a running Synapse says what to do."""
    report = keeper.run(Task.KEEP, max_size=1, version="0.9").report
    assert report.troubles[Trouble.VERSION].endswith("(0.9 became 1.0.0): restart Synapse")


def test_swift_is_unreachable(keeper: Keeper) -> None:
    """Nothing is removed; the report says how far the disk is over its limit."""
    paths = fill(keeper.store)
    keeper.options = silent(f"http://{process.LOOPBACK}:{process.free_port()}/v1/AUTH_a")
    report = keeper.run(Task.KEEP, max_size=1).report
    assert keeper.store.files() == set(paths)
    assert "connection refused" in report.troubles[Trouble.SWIFT].lower()
    assert report.over == report.on_disk - 1
    assert report.done == []


def test_wrong_credentials(keeper: Keeper) -> None:
    """What a person has to change is another kind of trouble."""
    fill(keeper.store)
    keeper.options["cloud"] = "no-such-cloud"
    report = keeper.run(Task.KEEP, max_size=1).report
    assert "no-such-cloud" in report.troubles[Trouble.REFUSED]
    assert report.over > 0


def test_the_database_is_unreachable(keeper: Keeper) -> None:
    """Nothing is removed."""
    paths = fill(keeper.store)
    args = {"host": process.LOOPBACK, "port": process.free_port(), "user": "u", "password": HUNTER}
    database = {"name": "psycopg2", "args": args}
    ended = keeper.run(Task.KEEP, max_size=1, database=database)
    assert keeper.store.files() == set(paths)
    assert "refused" in ended.report.troubles[Trouble.DATABASE]
    assert HUNTER not in ended.log + repr(ended.report)


def test_a_full_disk(keeper: Keeper, objects: Objects, tmp_path: Path) -> None:
    """A run that cannot have a temporary file works in memory, and makes room."""
    fill(keeper.store, 300)
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        keeper.environment |= {"SQLITE_TMPDIR": str(small)}
        keeper.code = (
            "from swift_provider.offload import disk_plan; disk_plan.CACHE_KIB = 1; "
            "from swift_provider.offload.keeper.__main__ import main; main()"
        )
        ended = keeper.run(Task.KEEP, max_size=1)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "not all media are looked at" in ended.log
    assert ended.report.troubles == {}
    assert keeper.store.files() == set()
    assert len(objects.names()) == 300


def test_fifty_kills(keeper: Keeper, objects: Objects) -> None:
    """Killed at any moment, a run loses nothing; a last one finishes the work."""
    chance = random.Random(12)
    contents = {}
    for number in range(120):
        content = bytes([number]) * (1000 + number)
        contents[keeper.store.add_local(f"{number:03}-media", content)] = content
    for _ in range(50):
        child = keeper.start(keeper.order(Task.KEEP, max_size=1))
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0.3, 1.1))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        there = objects.md5s()
        here = keeper.store.files()
        assert all(path in here or path in there for path in contents)
        if not here:
            break
    report = keeper.run(Task.KEEP, max_size=1).report
    assert report.troubles == {}
    assert keeper.store.files() == set()
    assert {path: objects[path] for path in contents} == contents


def test_the_script_is_refused(script: Script, keeper: Keeper) -> None:
    """While Synapse keeps the disk itself, what works against it is refused by name."""
    script.environment.update(keeper.environment)
    script.configure(keeper.store, **keeper.options)
    base = str(keeper.store.base)
    paths = fill(keeper.store)
    lock = KeeperLock(base, "media_worker1")
    for command in (("upload", base, "--delete", "--all"), ("restore", base)):
        ended = script(*command)
        assert ended.returncode == 2
        assert "local_disk, media_worker1, process " in ended.stderr
        assert set(paths) <= keeper.store.files()
    script("update", base, "1m")
    assert script("upload", base).returncode == 0
    lock.close()
    assert script("restore", base).returncode == 0
    assert set(paths) == {one for one in keeper.store.files() if not one.startswith(FOLDER)}


def test_a_refused_prune(keeper: Keeper, objects: Objects) -> None:
    """The remedy is a command, because the module has no such option."""
    keeper.store.add_local("media000", None)
    keeper.code = (
        "from datetime import timedelta; from swift_provider.offload.jobs import prune\n"
        "now = prune.now; prune.now = lambda: now() + timedelta(days=2)\n"
        "from swift_provider.offload.keeper.__main__ import main; main()"
    )
    paths = [f"local_content/or/ph/an{number}" for number in range(9)]
    for path in paths:
        objects[path] = b"x"
        objects.post(path, {"X-Object-Meta-Matrix-Server": "here.example"})
    now = int(time.time() * 1000) + 86_400_000
    keeper.store.execute("UPDATE local_media_repository SET last_access_ts = %s", (now,))
    report = keeper.run(Task.PRUNE, prune=True).report
    assert objects.names() == set(paths)
    said = report.troubles[Trouble.REFUSED]
    assert said.startswith("Nothing was pruned: ")
    assert "run 'swift_media_upload prune --delete --max-share " in said


def test_a_prune(keeper: Keeper, objects: Objects) -> None:
    """Only the container is looked at; young objects stay."""
    objects["local_content/or/ph/an"] = b"x" * SIZE
    keeper.store.add_local("media000", None)
    report = keeper.run(Task.PRUNE, prune=True).report
    assert report.on_disk is None
    assert (report.pruned, report.done, report.troubles) == (0, [Task.PRUNE], {})
    assert objects.names() == {"local_content/or/ph/an"}
