"""The part of the soak that moves from one Swift to another, while clients go on.

``sync`` is killed again and again, at random. Then it runs to its end, the two change places
in ``homeserver.yaml``, and the old Swift is removed and stopped. Every byte is compared.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

from tests.soak.health import Health
from tests.soak.judge import judge_deleted, judge_files, judge_member
from tests.soak.load import Load, blob, store
from tests.soak.offload import Offload
from tests.soak.pair import Pair, pair_running
from tests.soak.place import CONTAINER
from tests.soak.record import Record, say

CLIENTS = 3
#: In the old Swift before the move: how many, and for which share of the time at most.
FIRST_FILES = 2000
FILL_SHARE = 0.2
#: Shares of the time in which ``sync`` is killed, and after the change of places.
KILL_SHARE = 0.4
SWAPPED_SHARE = 0.15
#: When ``sync`` is killed; it takes about a second to start.
KILLED_AFTER_SECONDS = (0.5, 5.0)
#: Of its objects the new Swift loses so many whenever ``sync`` has ended before its death.
LOSES_SHARE = 0.5


def soak(until: float, random_: random.Random) -> dict[str, Any]:
    """:returns: the report, with ``wrong``."""
    with pair_running(mirrored=False, store_synchronous=False) as pair:
        return Move(pair, until, random_).run()


class Move:
    """One move. Every method blocks."""

    def __init__(self, pair: Pair, until: float, random_: random.Random) -> None:
        self._pair = pair
        self._began = time.monotonic()
        self._seconds = until - self._began
        self._random = random_
        self._token = pair.home.synapse.register("alice", admin=True)
        self._record = Record()
        self._offload = Offload(pair.home, self._record)
        self._health = Health(pair.home, self._record, (pair.first.name, pair.second.name))
        self._sync = ("sync", "--from", pair.first.name, "--to", pair.second.name)
        self._syncs: Counter[str] = Counter()

    def run(self) -> dict[str, Any]:
        """:returns: the report."""
        old, new, record = self._pair.first, self._pair.second, self._record
        self._fill()
        self._configure(old.entry(new), "old Swift first")
        load = self._load(seed=1)
        try:
            self._kill_syncs()
            self._offload.has_to_work(*self._sync)
        finally:
            load.stop()
        self._say("sync has come to its end")
        self._settle()
        copied = judge_member(new, record)
        self._configure(new.entry(old), "new Swift first")
        load = self._load(seed=2)
        try:
            time.sleep(max(5.0, self._seconds * SWAPPED_SHARE))
        finally:
            load.stop()
        self._settle()
        self._configure(new.entry(), "new Swift alone")
        old.swift.kill()
        self._offload.last()
        came_back = judge_files(self._pair.home, self._token, record)
        right = judge_member(new, record)
        gone = judge_deleted(new.account, record, new.name)
        self._say(f"{came_back} of {len(record.stored())} files came back as they were")
        return {
            "seconds": round(time.monotonic() - self._began, 1),
            "wrong": list(record.wrong),
            "homeserver": {**record.as_mapping(), "came_back_right": came_back},
            "sync": dict(self._syncs),
            "right_in_new_after_sync": copied,
            "right_in_new": right,
            "deleted_from_new": gone,
            "longest_until_well": self._health.longest,
            "module": self._pair.home.told_by_module(),
        }

    def _fill(self) -> None:
        client = self._pair.home.synapse.client(self._token)
        until = time.monotonic() + self._seconds * FILL_SHARE
        while time.monotonic() < until and len(self._record.stored()) < FIRST_FILES:
            store(client, self._record, blob(self._random))
        self._health.wait_until_idle()
        self._offload.has_to_work(*self._offload.empty)
        self._say(f"{len(self._record.stored())} files are in the old Swift")

    def _configure(self, config: dict[str, Any], what: str) -> None:
        self._pair.home.restart(config=config)
        self._say(f"Synapse is restarted: {what}")

    def _load(self, seed: int) -> Load:
        load = Load(
            self._pair.home.synapse,
            self._token,
            self._record,
            float("inf"),
            CLIENTS,
            seed=seed,
            may_fail=False,
        )
        load.start()
        return load

    def _kill_syncs(self) -> None:
        until = time.monotonic() + self._seconds * KILL_SHARE
        while time.monotonic() < until or not self._syncs["killed"]:
            after = self._random.uniform(*KILLED_AFTER_SECONDS)
            status, output = self._pair.home.killed_script(*self._sync, after_seconds=after)
            if status is None:
                self._syncs["killed"] += 1
                continue
            self._syncs["ended"] += 1
            if status != 0:
                self._record.must_not_be(f"sync ended with {status}: {output[-1500:]}")
            self._lose_half()

    def _lose_half(self) -> None:
        """So that the next run has something to do. Synapse reads from the old one."""
        account = self._pair.second.account
        names = sorted(account.names(CONTAINER))
        for name in self._random.sample(names, int(len(names) * LOSES_SHARE)):
            account.call("DELETE", CONTAINER, name)
            self._syncs["objects lost before the next run"] += 1

    def _settle(self) -> None:
        """Without load: both have all, and say so."""
        self._health.wait_until_well("the load")
        self._health.wait_until_idle()
        self._offload.has_to_work("sync")
        self._offload.last()

    def _say(self, text: str) -> None:
        say(f"{time.monotonic() - self._began:.0f} s: {text}")
