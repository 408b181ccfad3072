"""The keeper of Synapse's disk, with a real disk and a child process that does what it is told."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from prometheus_client import REGISTRY
from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from twisted.internet.defer import Deferred, ensureDeferred

from swift_provider.config import parse_settings
from swift_provider.keeper import KeeperLock, State, Task, holder_of, load_state, save_state
from swift_provider.module import (
    disk_keeper,
    keeper_process,
    keeper_record,
    keeper_schedule,
    keeper_site,
)
from swift_provider.module.disk_keeper import DiskKeeper
from swift_provider.module.disk_look import DiskLook
from swift_provider.module.keeper_site import Site
from tests.client.trouble import until
from tests.module.fake_child import FakeChild, done, report

ALL = ("keep", "repair", "orphans")
#: So much that no other program changes the free space by as much.
HALF = 5 * 10**14
FULL = {"max_size": 2 * HALF}
EVERYTHING = done(*ALL, on_disk=HALF, files=5)


class Place:
    """A media store, and the keeper of its disk.

    :ivar contexts: the log contexts that background processes have left behind.
    """

    def __init__(self, folder: Path) -> None:
        from twisted.internet import reactor  # pytest-twisted chooses it

        self.reactor: Any = reactor
        self.media_store = folder / "media_store"
        self.media_store.mkdir()
        self.fake = FakeChild(folder)
        self.container = uuid4().hex
        self.keepers: list[DiskKeeper] = []
        self.contexts: list[Any] = []
        self.refuses = False

    def keeper(
        self, instance: str = "main", does_chores: bool | None = None, **options: Any
    ) -> DiskKeeper:
        """A keeper that has not started. ``max_size`` is the only option unless there are some."""
        settings = parse_settings(
            {
                "container": self.container,
                "auth": {"password": "hunter2"},
                "local_disk": options or FULL,
            }
        )
        assert settings.local_disk is not None
        site = Site(
            server_name="here",
            instance=instance,
            does_chores=does_chores,
            media_store=str(self.media_store),
            database={"name": "psycopg2", "args": {"password": "hunter3"}},
            settings=settings,
            limits=settings.local_disk,
            repair_kinds=frozenset({"local"}),
        )
        keeper = DiskKeeper(self.reactor, self._begin, site, self.fake.command)
        self.keepers.append(keeper)
        return keeper

    def start(self, *arguments: Any, **options: Any) -> DiskKeeper:
        keeper = self.keeper(*arguments, **options)
        keeper.start()
        return keeper

    def _begin(self, name: str, function: Callable[[], Any]) -> Deferred[None]:
        """As ``run_as_background_process`` does it."""
        if self.refuses:
            raise RuntimeError("HomeServer has been shutdown")

        async def run() -> None:
            context = LoggingContext(name=name, server_name="here")
            with context:
                await function()
                self.contexts.append(current_context() is context)

        with PreserveLoggingContext():
            return ensureDeferred(run())

    async def runs(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many runs have ended and are noted: their orders."""
        await until(lambda: len(self.contexts_and_runs()) >= count)
        return self.fake.orders

    def contexts_and_runs(self) -> list[int]:
        return self.fake.pids if not any(one._busy for one in self.keepers) else []

    def state(self) -> State:
        state = load_state(str(self.media_store))
        assert state is not None
        return state

    def sample(self, name: str, **labels: str) -> float | None:
        labels |= {"server_name": "here", "container": self.container}
        return REGISTRY.get_sample_value(f"synapse_swift_local_{name}", labels)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A media store whose keepers look often; no background process may leave its log context."""
    monkeypatch.setattr(disk_keeper, "START_SECONDS", 0.01)
    monkeypatch.setattr(disk_keeper, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(disk_keeper, "HANG_SECONDS", 0.05)
    monkeypatch.setattr(keeper_schedule, "REST_SECONDS", 0.0)
    made = Place(tmp_path)
    yield made
    for keeper in made.keepers:
        pytest_twisted.blockon(keeper.stop(uploads_left=False))
    assert all(made.contexts)
    assert not current_context()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[str]]]:
    """The lines so far that have a part in them; none may hold a secret."""
    with caplog.at_level(logging.DEBUG, "swift_provider"):
        yield lambda part: [
            f"{record.levelname} {record.getMessage()}"
            for record in caplog.records
            if part in record.getMessage()
        ]
        assert "hunter" not in caplog.text


Lines = Callable[[str], list[str]]


async def test_a_run(place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look runs all tasks; figures go to the metrics and the state file."""
    monkeypatch.setenv("OS_PASSWORD", "hunter4")
    place.fake.tell(
        report(looked_at=1, removed=1, freed=5),
        done(*ALL, looked_at=7, removed=2, freed=9, on_disk=HALF, files=5),
    )
    keeper = place.start()
    (order,) = await place.runs(1)
    assert order["tasks"] == sorted(ALL)
    assert order["settings"]["container"] == place.container
    assert order["settings"]["auth"] == {"password": "hunter2"}
    assert order["database"] == {"name": "psycopg2", "args": {"password": "hunter3"}}
    assert order["environment"]["OS_PASSWORD"] == "hunter4"
    assert order["limits"]["max_size"] == 2 * HALF
    assert (order["server_name"], order["media_store"]) == ("here", str(place.media_store))
    assert order["repair_kinds"] == ["local"]
    assert place.sample("bytes") == HALF
    assert place.sample("removed_files_total") == 2
    state = place.state()
    assert place.sample("last_success_timestamp_seconds") == state.last_success
    assert (state.holder, state.pid, state.container) == ("main", os.getpid(), place.container)
    assert state.limits["max_size"] == 2 * HALF
    assert state.since <= order["written_since"] <= time.time()
    assert set(state.done) == set(ALL)
    assert state.run is not None
    assert state.run["report"]["freed"] == 9
    assert not state.ended_well
    assert "hunter" not in Path(place.media_store / ".swift_provider/local_disk.json").read_text()
    assert len(lines("looked at 7 media, removed 2 files (9 bytes)")) == 1
    assert "hunter" not in repr(keeper._site)


async def test_nothing_is_due(place: Place) -> None:
    """Later looks start no process."""
    place.fake.tell(EVERYTHING)
    place.start()
    await place.runs(1)
    await until(lambda: len(place.contexts) >= 4)
    assert len(place.fake.pids) == 1


async def test_pruning_alone(place: Place) -> None:
    """It needs no limits."""
    place.fake.tell(done("prune", "repair", pruned=3))
    place.start(prune=True)
    (order,) = await place.runs(1)
    assert order["tasks"] == ["prune", "repair"]
    await until(lambda: len(place.contexts) >= 3)
    assert len(place.fake.pids) == 1


async def test_the_disk_is_filled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run begins before the next look if this process alone fills the disk."""
    place.fake.tell(EVERYTHING)
    keeper = place.start()
    await place.runs(1)
    monkeypatch.setattr(disk_keeper, "LOOK_SECONDS", 600.0)
    looks = len(place.contexts)
    await until(lambda: len(place.contexts) > looks)  # The timer is a long one now.
    keeper.stored(HALF)
    assert keeper._next_look - time.monotonic() > 500
    keeper.stored(1)
    orders = await place.runs(2)
    assert orders[1]["tasks"] == ["keep"]
    keeper.stored(HALF + 1)
    await place.runs(3)


async def test_what_is_stored_during_a_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run follows at once: the first one may not have seen it."""
    monkeypatch.setattr(disk_keeper, "LOOK_SECONDS", 600.0)
    go = place.media_store / "go"
    place.fake.tell(["until", str(go)], EVERYTHING)
    keeper = place.start()
    await until(lambda: len(place.fake.orders) == 1)
    keeper.stored(HALF + 1)
    go.touch()
    assert (await place.runs(2))[1]["tasks"] == ["keep"]


async def test_uploads_that_failed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run looks for them."""
    monkeypatch.setattr(keeper_schedule, "REPAIR_SECONDS", 0.0)
    monkeypatch.setattr(keeper_site, "QUIET_SECONDS", 0.0)
    place.fake.tell(EVERYTHING)
    keeper = place.start()
    await place.runs(1)
    keeper.upload_failed()
    assert (await place.runs(2))[1]["tasks"] == ["repair"]


async def test_the_child_dies(place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning says how, with its last line; a later look tries again."""
    monkeypatch.setattr(keeper_schedule, "RETRY_SECONDS", (0.1,))
    place.fake.tell(["crash", "no luck"])
    place.start()
    await place.runs(1)
    died = lines("died: ")
    assert died[0].startswith("WARNING ")
    assert died[0].endswith("died: exit status 1; its last line: RuntimeError: no luck")
    assert (place.sample("failures_total", reason="died") or 0) >= 1
    place.fake.tell(EVERYTHING)
    await until(lambda: place.sample("bytes") == HALF)
    await until(lambda: place.state().last_success is not None)


async def test_a_program_that_cannot_be_started(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may have no room for another process."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(place.reactor, "spawnProcess", refuse)
    place.start()
    await until(lambda: bool(lines("it cannot be started: no memory")))


async def test_trouble_of_a_run(place: Place, lines: Lines) -> None:
    """It is in the log and in the state file, and the run is no success."""
    place.fake.tell(report(final=True, troubles={"refused": "set another key"}))
    place.start()
    await place.runs(1)
    assert lines("set another key")[0].startswith("ERROR local_disk, container ")
    state = place.state()
    assert [(one["reason"], one["text"]) for one in state.troubles] == [
        ("refused", "set another key")
    ]
    assert state.last_success is None
    assert place.sample("failures_total", reason="refused") == 1


async def test_one_of_two_works(place: Place, lines: Lines) -> None:
    """The other waits, and takes over what the first one knew."""
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    place.start("worker2")
    await until(lambda: bool(lines("worker1, process")))
    assert "this process does so once that one has ended" in lines("worker1, process")[0]
    await until(lambda: len(place.contexts) >= 8)
    assert len(place.fake.pids) == 1
    assert len(lines("worker1, process")) == 1
    before = place.state()
    await first.stop(uploads_left=False)
    assert place.state().ended_well
    orders = await place.runs(2)
    assert orders[1]["tasks"] == ["keep"], "it knows what was done today"
    after = place.state()
    assert (after.holder, after.since) == ("worker2", before.since)
    assert {**after.done, "keep": 0} == {**before.done, "keep": 0}


@pytest.mark.parametrize("ago", [5000.0, None])
async def test_an_alert_knows_the_last_success(place: Place, ago: float | None) -> None:
    """Also if no run of this process succeeds; without any, it counts from now."""
    now = time.time()
    state = State(since=now - 9000.0, last_success=None if ago is None else now - ago)
    os.makedirs(place.media_store / ".swift_provider")
    save_state(str(place.media_store), state)
    place.fake.tell(done(*ALL, troubles={"database": "it is away"}))
    place.start()
    await place.runs(1)
    sample = place.sample("last_success_timestamp_seconds")
    assert sample is not None
    if ago is None:
        assert sample >= now
    else:
        assert sample == state.last_success


@pytest.mark.parametrize("how", ["killed", "uploads left", "an upload failed"])
async def test_uploads_of_a_process_that_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """If uploads may have been lost with it, the next one looks for them."""
    monkeypatch.setattr(keeper_site, "QUIET_SECONDS", 0.0)
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    state = place.state()
    state.done["repair"] -= 3600
    if how == "an upload failed":
        first.upload_failed()
    await first.stop(uploads_left=how == "uploads left")
    if how == "killed":
        save_state(str(place.media_store), state)
    else:
        again = place.state()
        again.done["repair"] -= 3600
        save_state(str(place.media_store), again)
    place.start("worker2")
    assert (await place.runs(2))[1]["tasks"] == ["keep", "repair"]


async def test_the_process_for_chores_prunes_without_the_lock(place: Place) -> None:
    """It notes that in the file of the process that holds the lock."""
    place.fake.tell(EVERYTHING)
    holder = place.start("worker1", False, **FULL, prune=True)
    await place.runs(1)
    place.fake.tell(done("prune", pruned=4))
    chores = place.start("worker2", True, **FULL, prune=True)
    orders = await place.runs(2)
    assert [order["tasks"] for order in orders] == [sorted(ALL), ["prune"]]
    state = place.state()
    assert set(state.done) == {*ALL, "prune"}
    assert state.holder == "worker1"
    await chores.stop(uploads_left=False)
    await holder.stop(uploads_left=False)
    assert place.state().done == state.done, "the holder keeps it"
    place.start("worker2", True, **FULL, prune=True)
    place.fake.tell(EVERYTHING)
    assert (await place.runs(3))[2]["tasks"] == ["keep"], "after a restart, too"


async def test_a_wish_for_repair_outlives_an_outage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload failed, Swift stayed unreachable, Synapse was restarted in order."""
    monkeypatch.setattr(keeper_schedule, "REPAIR_SECONDS", 0.0)
    monkeypatch.setattr(keeper_site, "QUIET_SECONDS", 0.0)
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    place.fake.tell(report(final=True, troubles={"swift": "away"}))
    first.upload_failed()
    assert (await place.runs(2))[1]["tasks"] == ["repair"]
    await first.stop(uploads_left=False)
    place.fake.tell(report(looked_at=1), "wait")
    second = place.start("worker2")
    await until(lambda: len(place.fake.orders) == 3)
    assert place.fake.orders[2]["tasks"] == ["keep", "repair"]
    await second.stop(uploads_left=False)
    place.fake.tell(EVERYTHING)
    third = place.start("worker3")
    assert (await place.runs(4))[3]["tasks"] == ["keep", "repair"]
    await third.stop(uploads_left=False)
    place.start("worker4")
    assert (await place.runs(5))[4]["tasks"] == ["keep"]


@pytest.mark.parametrize("stops", [False, True])
async def test_uploads_of_a_process_without_the_lock(
    place: Place, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """The one with the lock looks for what Swift lacks."""
    monkeypatch.setattr(keeper_schedule, "REPAIR_SECONDS", 0.0)
    monkeypatch.setattr(keeper_site, "QUIET_SECONDS", 0.0)
    place.fake.tell(EVERYTHING)
    place.start("worker1")
    await place.runs(1)
    second = place.start("worker2")
    await until(lambda: second._holder is False)
    if stops:
        await second.stop(uploads_left=True)
    else:
        second.upload_failed()
    assert (await place.runs(2))[1]["tasks"] == ["repair"]
    looks = len(place.contexts)
    await until(lambda: len(place.contexts) >= looks + 6)
    assert len(place.fake.pids) == 2


@pytest.mark.parametrize("stops", [False, True])
async def test_uploads_that_are_lost_during_a_look(
    place: Place, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """Word is left at once: Synapse does not wait for the look when it stops."""
    looks, go = threading.Event(), threading.Event()

    def wait(_: DiskLook) -> None:
        looks.set()
        go.wait(10)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(DiskLook, "look", wait)
    keeper = place.start()
    try:
        await until(looks.is_set)
        if stops:
            await keeper.stop(uploads_left=True)
        else:
            keeper.upload_failed()
        await until((place.media_store / ".swift_provider/repair").exists)
    finally:
        go.set()


async def test_a_repair_that_leaves_out_what_failed(place: Place) -> None:
    """The wish stays, also for the next process, until a repair began long enough after it."""
    place.fake.tell(EVERYTHING)
    mark = place.media_store / ".swift_provider/repair"
    first = place.keeper("worker1")
    first.upload_failed()
    first.start()
    assert (await place.runs(1))[0]["tasks"] == sorted(ALL)
    assert first._schedule.repair_wanted
    assert mark.exists()
    await first.stop(uploads_left=False)
    state = place.state()
    state.done["repair"] -= 3600
    save_state(str(place.media_store), state)
    second = place.start("worker2")
    assert (await place.runs(2))[1]["tasks"] == ["keep"], "it would be left out again"
    await second.stop(uploads_left=False)
    os.utime(mark, (time.time() - 601,) * 2)
    third = place.start("worker3")
    assert (await place.runs(3))[2]["tasks"] == ["keep", "repair"]
    assert not third._schedule.repair_wanted
    assert not mark.exists()


async def test_a_clock_that_was_ahead(place: Place) -> None:
    """Nothing is pruned again and again until that time comes, nor never until then."""
    place.fake.tell(done(*ALL, "prune", on_disk=HALF, files=5))
    mark = place.media_store / ".swift_provider/pruned"
    for runs in (1, 2, 3):
        keeper = place.start(**FULL, prune=True)
        orders = await place.runs(runs)
        assert ("prune" in orders[-1]["tasks"]) == (runs == 1)
        await keeper.stop(uploads_left=False)
        if runs == 1:
            os.utime(mark, (2e9, 2e9))
    assert mark.stat().st_mtime <= time.time()


async def test_the_clock_is_set(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks go on, and a child process that reports is left alone."""
    place.fake.tell(report(looked_at=1), "wait")
    keeper = place.start()
    await until(lambda: keeper._process is not None and keeper._process._report.looked_at == 1)
    watched = []
    watch = DiskKeeper._watch_process
    monkeypatch.setattr(
        DiskKeeper, "_watch_process", lambda self: (watched.append(1), watch(self))[1]
    )
    for hours in (-1, 1):
        count = len(watched)
        with monkeypatch.context() as patch:
            patch.setattr(place.reactor, "seconds", lambda h=hours: time.time() + h * 3600)
            gone: Deferred[None] = Deferred()
            threading.Timer(0.3, place.reactor.callFromThread, (gone.callback, None)).start()
            await gone
        assert len(watched) >= count + 2
    assert not lines("has not reported")
    assert keeper._process is not None
    assert not keeper._process.is_ending


async def test_the_lock_is_deleted(place: Place) -> None:
    """The holder takes it anew, and what it knows is in the file again."""
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    before = place.state()
    shutil.rmtree(place.media_store / ".swift_provider")
    await until(lambda: load_state(str(place.media_store)) is not None)
    after = place.state()
    assert (after.since, after.run, after.done) == (before.since, before.run, before.done)
    second = place.start("worker2")
    await until(lambda: second._holder is False)
    assert first._holder
    assert len(place.fake.pids) == 1


@pytest.mark.parametrize("other_takes_it", [False, True])
async def test_a_disk_that_fails_once(place: Place, lines: Lines, other_takes_it: bool) -> None:
    """The lock is lost with it, and taken again by a later look."""
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    folder = place.media_store / ".swift_provider"
    os.rename(folder, place.media_store / "away")
    folder.symlink_to(folder.name)
    await until(lambda: bool(lines("it has lost the lock, and tries to get it again")))
    assert not first._holder
    assert place.sample("bytes") == HALF
    assert place.sample("failures_total", reason="disk")
    folder.unlink()
    if other_takes_it:
        made = place.media_store / "made"
        made.mkdir()
        other = KeeperLock(str(made), "other")
        os.rename(made / ".swift_provider", folder)
        await until(lambda: place.sample("bytes") is None)
        other.close()
    else:
        os.rename(place.media_store / "away", folder)
    await until(lambda: bool(first._holder))
    assert holder_of(str(place.media_store)) == f"worker1, process {os.getpid()}"


async def test_the_lock_is_lost_to_another(place: Place, lines: Lines) -> None:
    """The log says who has it now."""
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    made = place.media_store / "made"
    made.mkdir()
    other = KeeperLock(str(made), "other")
    os.rename(place.media_store / ".swift_provider", place.media_store / "old")
    os.rename(made / ".swift_provider", place.media_store / ".swift_provider")
    assert place.sample("bytes") == HALF
    await until(lambda: bool(lines(f"other, process {os.getpid()} does")))
    assert not first._holder
    assert place.sample("bytes") is None, "an alert would go by an old figure"
    other.close()


async def test_room_for_the_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look met a full disk. A run has made room."""
    make = os.makedirs

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    place.fake.tell(EVERYTHING)
    monkeypatch.setattr(os, "makedirs", full)
    place.start("worker1")
    await place.runs(1)
    monkeypatch.setattr(os, "makedirs", make)
    await until(lambda: holder_of(str(place.media_store)) is not None)


async def test_success_is_that_of_the_disk(place: Place) -> None:
    """Pruning alone is none."""
    place.fake.tell(done(*ALL, "prune", on_disk=3 * HALF, over=HALF, quiet=HALF))
    keeper = place.start(**FULL, prune=True)
    await place.runs(1)
    keeper._schedule._done[Task.PRUNE] -= 2 * 86400
    os.utime(place.media_store / ".swift_provider/pruned", (0, 0))
    place.fake.tell(done("prune", pruned=1))
    assert (await place.runs(2))[1]["tasks"] == ["prune"]
    assert place.state().last_success is None
    assert place.sample("failures_total", reason="over") == 1


async def test_nobody_prunes(place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start says which process is to prune; a warning follows if it no longer does."""
    place.fake.tell(EVERYTHING)
    keeper = place.keeper("worker1", False, **FULL, prune=True)
    keeper._site = replace(keeper._site, chores_instance="worker9")
    keeper.start()
    assert lines("prune is left to the process worker9")[0].startswith("INFO ")
    await place.runs(1)
    assert not lines("nothing was pruned")
    monkeypatch.setattr(disk_keeper, "PRUNE_START_SECONDS", 0.0)
    monkeypatch.setattr(disk_keeper, "UNPRUNED_SECONDS", 0.0)
    looks = len(place.contexts)
    await until(lambda: len(place.contexts) >= looks + 2)
    assert not lines("nothing was pruned"), "it may have a disk of its own"
    (place.media_store / ".swift_provider/pruned").touch()
    await until(lambda: bool(lines("nothing was pruned")))
    assert "is there a process worker9" in lines("nothing was pruned")[0]
    (place.media_store / ".swift_provider/pruned").touch()
    monkeypatch.setattr(disk_keeper, "UNPRUNED_SECONDS", 86400.0)
    await until(lambda: keeper._log.problems == [])


async def test_a_run_in_progress(place: Place) -> None:
    """The state file shows it, and no longer after its end."""
    go = place.media_store / "go"
    place.fake.tell(["until", str(go)], EVERYTHING)
    place.start()
    await until(lambda: bool(place.fake.orders))
    assert (place.state().running or {})["tasks"] == sorted(ALL)
    go.touch()
    await place.runs(1)
    await until(lambda: place.state().running is None)
    assert (place.state().run or {})["tasks"] == sorted(ALL)


async def test_stop_twice(place: Place) -> None:
    """The second one leaves alone what another process has written since."""
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    await first.stop(uploads_left=False)
    place.start("worker2")
    await place.runs(2)
    await first.stop(uploads_left=False)
    assert place.state().holder == "worker2"


async def test_a_child_that_gets_no_further(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning; it is not ended. ``status`` sees it in the state file, and that it ends."""
    go = place.media_store / "go"
    moving = report(looked_at=2, idle=1.0)
    place.fake.tell(report(looked_at=1, idle=700.0), ["until", str(go)], moving, "wait")
    keeper = place.start()
    await until(lambda: bool(lines("has got no further for 700 seconds")))
    assert keeper._process is not None
    assert not keeper._process.is_ending
    await until(lambda: bool(place.state().troubles))
    assert place.state().troubles[0]["reason"] == "stuck"
    assert place.state().running is not None
    go.touch()
    await until(lambda: not place.state().troubles)


async def test_a_child_that_cannot_be_killed(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, however long it takes the kernel."""
    place.fake.tell("ignore")
    keeper = place.start()
    await until(lambda: place.fake.ignores)
    asked = []
    watch = DiskKeeper._watch_process
    monkeypatch.setattr(
        DiskKeeper, "_watch_process", lambda self: (asked.append(1), watch(self))[1]
    )
    with monkeypatch.context() as patch:
        patch.setattr(disk_keeper, "SILENT_SECONDS", 0.0)
        patch.setattr(keeper_process, "KILL_SECONDS", 600.0)
        await until(lambda: len(asked) >= 4)
    assert len(lines("has not reported anything")) == 1
    # The alert goes by counts that grow.
    assert (place.sample("failures_total", reason="silent") or 0) >= 3
    await until(lambda: keeper._process is not None)
    os.kill(place.fake.pids[0], signal.SIGKILL)


async def test_the_same_death_again(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning; what it wrote is logged with DEBUG from then on."""
    monkeypatch.setattr(keeper_schedule, "RETRY_SECONDS", (0.05,))
    place.fake.tell(["crash", "no luck"])
    place.start()
    await place.runs(4)
    assert len(lines("died: ")) == 1
    said = [one.split()[0] for one in lines("local_disk: RuntimeError: no luck")]
    assert said == ["INFO", *["DEBUG"] * (len(said) - 1)]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"done": {"keep": 1' + "0" * 400 + "}}"])
async def test_nonsense_in_the_state_file(place: Place, text: str) -> None:
    """It is replaced."""
    folder = place.media_store / ".swift_provider"
    folder.mkdir()
    (folder / "local_disk.json").write_text(text)
    (folder / "local_disk.json~1234").write_text("left by a process that was killed")
    place.fake.tell(EVERYTHING)
    place.start()
    await place.runs(1)
    assert place.state().holder == "main"
    assert not (folder / "local_disk.json~1234").exists()


HOLD = """
import sys, time
from swift_provider.keeper import KeeperLock
lock = KeeperLock(sys.argv[1], "victim")
print("held", flush=True)
time.sleep(60)
"""


async def test_takes_over_from_a_process_that_was_killed(place: Place, lines: Lines) -> None:
    """The kernel releases the lock."""
    place.fake.tell(EVERYTHING)
    victim = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place.media_store)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"held\n"
        place.start()
        await until(lambda: bool(lines(f"victim, process {victim.pid}")))
        assert not place.fake.pids
        victim.kill()
    await place.runs(1)
    holder = holder_of(str(place.media_store))
    assert holder == f"main, process {os.getpid()}"


async def test_stop_ends_the_child(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that ignores all signs; nothing is said about its death."""
    monkeypatch.setattr(keeper_process, "KILL_SECONDS", 0.3)
    monkeypatch.setattr(keeper_process, "GONE_SECONDS", 20.0)
    place.fake.tell("ignore")
    keeper = place.start()
    await until(lambda: keeper._process is not None and bool(place.fake.orders))
    process = keeper._process
    assert process is not None
    await until(lambda: process._report.looked_at == 1)
    began = place.reactor.seconds()
    await keeper.stop(uploads_left=False)
    assert place.reactor.seconds() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(place.fake.pids[0], 0)
    assert lines("died") == []
    await until(lambda: len(place.contexts) == 1)


async def test_a_child_that_reports_nothing(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, and another one is tried later."""
    monkeypatch.setattr(keeper_schedule, "RETRY_SECONDS", (0.1,))
    place.fake.tell("wait")
    place.start()
    await until(lambda: bool(place.fake.orders))
    with monkeypatch.context() as patch:
        patch.setattr(disk_keeper, "SILENT_SECONDS", 0.0)
        await until(lambda: bool(lines("died: ")))
    assert lines("has not reported anything")[0].startswith("WARNING ")
    place.fake.tell(EVERYTHING)
    await until(lambda: place.sample("bytes") == HALF)


async def test_a_killed_process_did_not_end_well(place: Place) -> None:
    """Also if it was killed during its first run, and the one before ended in order."""
    place.fake.tell(EVERYTHING)
    first = place.start("worker1")
    await place.runs(1)
    await first.stop(uploads_left=False)
    assert place.state().ended_well
    place.fake.tell(report(looked_at=1), "wait")
    place.start("worker2")
    await until(lambda: len(place.fake.orders) == 2)
    assert (place.state().ended_well, place.state().holder) == (False, "worker2")


async def test_a_cancelled_background_process_ends_the_child(place: Place) -> None:
    """Synapse cancels them if a homeserver is shut down while the process goes on."""
    place.fake.tell(report(looked_at=1), "wait")
    keeper = place.keeper()
    running = ensureDeferred(keeper._look())
    running.addErrback(lambda _: None)
    await until(lambda: bool(place.fake.orders))
    running.cancel()
    pid = place.fake.pids[0]
    await until(lambda: not _runs(pid))


async def test_a_homeserver_that_was_shut_down(place: Place, lines: Lines) -> None:
    """It begins no background process any more."""
    place.refuses = True
    keeper = place.start()
    await until(lambda: bool(lines("no more looks at the disk can begin: HomeServer")))
    assert keeper._timer is None


async def test_the_disk_hangs(place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are skipped, one warning says which path hangs, and the reactor goes on."""
    go = threading.Event()
    calls = []

    def hang(look: DiskLook) -> Any:
        calls.append(threading.current_thread())
        go.wait(60)
        raise OSError("over")

    monkeypatch.setattr(DiskLook, "look", hang)
    ticks = []
    warn = DiskKeeper._warn_if_it_hangs
    monkeypatch.setattr(
        DiskKeeper, "_warn_if_it_hangs", lambda self: (ticks.append(1), warn(self))[1]
    )
    place.start()
    await until(lambda: len(ticks) >= 4)
    assert len(calls) == 1
    assert calls[0].daemon, "the exit of Synapse must not wait for it"
    (line,) = lines("hangs")
    assert line.startswith("WARNING ")
    assert f"{place.media_store} hangs" in line
    # The alert goes by counts that grow, and by a time that there is from the start.
    assert (place.sample("failures_total", reason="hangs") or 0) >= 3
    assert place.sample("last_success_timestamp_seconds") is not None
    go.set()
    await until(lambda: bool(lines("answers again")))


async def test_a_disk_that_answers_in_time(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that comes while the disk is asked says nothing."""
    monkeypatch.setattr(disk_keeper, "HANG_SECONDS", 30.0)
    go = threading.Event()
    look = DiskLook.look

    def wait(disk: DiskLook) -> Any:
        go.wait(60)
        return look(disk)

    monkeypatch.setattr(DiskLook, "look", wait)
    ticks = []
    warn = DiskKeeper._warn_if_it_hangs
    monkeypatch.setattr(
        DiskKeeper, "_warn_if_it_hangs", lambda self: (ticks.append(1), warn(self))[1]
    )
    place.fake.tell(EVERYTHING)
    place.start()
    await until(lambda: len(ticks) >= 3)
    go.set()
    await place.runs(1)
    assert not lines("hangs")
    assert not lines("answers again")


async def test_stop_while_the_disk_hangs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synapse's end does not wait for the disk, nor does a late answer begin a run."""
    go = threading.Event()
    look = DiskLook.look
    calls = []

    def hang(disk: DiskLook) -> Any:
        calls.append(1)
        go.wait(60)
        return look(disk)

    monkeypatch.setattr(DiskLook, "look", hang)
    keeper = place.start()
    await until(lambda: bool(calls))
    await keeper.stop(uploads_left=False)
    go.set()
    await until(lambda: len(place.contexts) == 1)
    assert not place.fake.pids
    await until(lambda: holder_of(str(place.media_store)) is None)


async def test_stop_while_the_state_file_hangs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after a while."""
    place.fake.tell(EVERYTHING)
    keeper = place.start()
    await place.runs(1)
    go = threading.Event()
    monkeypatch.setattr(disk_keeper, "SAVE_SECONDS", 0.1)
    monkeypatch.setattr(keeper_record, "save_state", lambda *_: go.wait(60))
    began = place.reactor.seconds()
    await keeper.stop(uploads_left=False)
    assert place.reactor.seconds() - began < 2
    go.set()
    await until(lambda: holder_of(str(place.media_store)) is None)


async def test_a_state_file_that_cannot_be_written(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no error: a person will look at the media first."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper_record, "save_state", full)
    place.fake.tell(EVERYTHING)
    place.start()
    await place.runs(1)
    await until(lambda: bool(lines("cannot write the state file")))
    assert lines("cannot write the state file")[0].startswith("DEBUG ")


async def test_a_disk_that_cannot_be_used(
    place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error; when it can be used, the work begins."""
    (place.media_store / ".swift_provider").touch()
    place.fake.tell(EVERYTHING)
    place.start()
    await until(lambda: len(place.contexts) >= 3)
    (line,) = lines("cannot use")
    assert line.startswith("ERROR ")
    (place.media_store / ".swift_provider").unlink()
    await place.runs(1)


async def test_no_more_threads(place: Place, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error like any other of the disk."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        place.start()
        await until(lambda: bool(lines("can't start new thread")))
    await until(lambda: bool(place.fake.orders))


def test_the_lock_survives_a_look(tmp_path: Path) -> None:
    """A look after the first one does not take it again, and says nothing of the state."""
    disk = DiskLook(str(tmp_path), "main")
    first, second = disk.look(), disk.look()
    assert (first.elected, second.elected) == (True, False)
    assert first.space is not None
    assert 0 < first.space.used < first.space.total
    with pytest.raises(BlockingIOError):
        KeeperLock(str(tmp_path), "other")
    disk.close()
    KeeperLock(str(tmp_path), "other").close()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
