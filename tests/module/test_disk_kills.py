"""Processes are killed at random moments while the disk is kept within its budget."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from swift_provider.keeper import holder_of
from tests.module import impatient_child
from tests.module.disk_load import Load
from tests.module.disk_place import MODULE, DiskPlace, Services, short_times
from tests.module.disk_samples import MIB
from tests.module.homeservers import media_path, there
from tests.servers.synapse_workers import MediaWorker

MAX_SIZE = 15 * MIB
BYTES_PER_SECOND = MIB
#: What one round kills; all rounds together are fifty.
ROUND = ("child",) * 7 + ("holder",) * 2 + ("all",)
ROUNDS = 5
#: No round begins later, however slow the machine is.
MOST_SECONDS = 68.0
#: How long a child may live: until it starts, within its walk, while it asks Swift.
MOST_LIFE_SECONDS = 2.0
#: A file without a row stays for so long. Synapse writes the row much sooner.
YOUNG_SECONDS = 8.0


class Killer:
    """Kills processes of a place. Every method blocks."""

    def __init__(self, place: DiskPlace, random_: random.Random) -> None:
        self._place = place
        self._random = random_
        self._waiting: list[Callable[[], None]] = []
        self.killed: Counter[str] = Counter()

    def round(self) -> None:
        """One round, in any order."""
        for kind in self._random.sample(ROUND, len(ROUND)):
            {"child": self.child, "holder": self.holder, "all": self.all}[kind]()
            self.killed[kind] += 1

    def child(self) -> None:
        """The process that does a run, at any moment of it."""
        place = self._place
        while True:
            before = set(place.children())
            place.wait(partial(lambda before: set(place.children()) - before, before), "a new run")
            time.sleep(self._random.uniform(0, MOST_LIFE_SECONDS))
            with contextlib.suppress(ProcessLookupError):
                for pid in place.children():
                    os.kill(pid, signal.SIGKILL)
                    return

    def holder(self) -> None:
        """The worker that holds the lock, at any moment. It comes back soon."""
        self.wait()
        self._place.wait(self._holder, "a holder")
        time.sleep(self._random.uniform(0, 1))
        worker = self._holder()
        assert worker is not None
        worker.kill()
        self._waiting.append(worker.begin())

    def all(self) -> None:
        """All processes of the homeserver."""
        self.wait()
        for worker in self._place.workers:
            worker.kill()
        self._place.homeserver.kill()
        self._place.wait(lambda: not self._place.strays(), "the end of their children", 20.0)
        self._place.start()

    def wait(self) -> None:
        """Wait until all workers run again."""
        while self._waiting:
            self._waiting.pop()()

    def _holder(self) -> MediaWorker | None:
        name = (holder_of(str(self._place.disks[0].media_store)) or "").partition(",")[0]
        return next((one for one in self._place.workers if one.name == name), None)


async def test_fifty_kills(services: Services) -> None:
    """No media is lost, the disk comes within its budget, and Swift gets what it lacks."""
    times = short_times(
        REST_SECONDS=0.1, RETRY_SECONDS=[0.2], AUDIT_SECONDS=0.1, AUDIT_FACTOR=0.0, DAY_SECONDS=6.0
    )
    times[f"{MODULE}.disk_keeper"]["LOOK_SECONDS"] = 0.3
    times[f"{MODULE}.keeper_site"]["YOUNG_SECONDS"] = YOUNG_SECONDS
    command = impatient_child.command(impatient_child.GRACE)
    times[f"{MODULE}.keeper_process"] = {"COMMAND": command}
    async with services.running(
        {"max_size": MAX_SIZE}, workers=2, shared=True, waits=False, times=times
    ) as place:
        load = Load(place.workers, place.token, BYTES_PER_SECOND)
        killer = Killer(place, random.Random(7))
        load.start()
        began = time.monotonic()
        for _ in range(ROUNDS):
            if time.monotonic() - began < MOST_SECONDS:
                await there(killer.round)
        await there(killer.wait)
        await there(load.stop)
        print(dict(killer.killed), f"{time.monotonic() - began:.0f} s;", load.summary())
        contents = {media_path(one.uri) for one in load.uploaded}
        (disk,) = place.disks
        await there(
            place.wait,
            lambda: contents <= set(place.storage.names(place.container)),
            "all media in Swift",
        )
        await there(place.wait, lambda: disk.taken <= MAX_SIZE, "within the budget")
        assert not await there(load.compare)
        assert not place.strays()
    assert not load.wrong
    assert load.bytes > MAX_SIZE, "the disk was not filled"
    assert killer.killed["all"] >= 2
    assert place.lines("died: it was killed by signal 9")
    place.check_logs()
