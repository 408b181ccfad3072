"""What goes wrong with one member of a mirror set at a time, while the other one is well."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import requests

from tests.soak.decay import file_of, lose_segment
from tests.soak.health import Health
from tests.soak.offload import Offload
from tests.soak.pair import Member, Pair
from tests.soak.place import CONTAINER
from tests.soak.record import Record, Stored, say

#: How long one kind stays. The script runs meanwhile.
STAYS_SECONDS = (4.0, 12.0)
#: How many objects are lost at a time.
MOST_LOST = 8


class MemberTrouble:
    """Makes it, and ends it. Every method blocks.

    Swift's processes end with the thread that starts them, so this has to be
    a thread that lasts as long as Swift is needed.
    """

    def __init__(
        self, pair: Pair, record: Record, offload: Offload, random_: random.Random
    ) -> None:
        self._pair = pair
        self._record = record
        self._offload = offload
        self._random = random_
        self.health = Health(pair.home, record, tuple(one.name for one in pair.members))
        #: How often each kind came, and in how many Synapse passed the member over.
        self.came: Counter[str] = Counter()
        self.seen_down: Counter[str] = Counter()
        self.most_debts = 0.0
        self.lost = 0
        self._lost: list[str] = []
        self._left: list[tuple[str, Member]] = []
        self._kinds: dict[str, tuple[Callable[[Member], None], Callable[[Member], None]]] = {
            "killed": (lambda one: one.swift.kill(), lambda one: one.swift.start()),
            "crawling": (lambda one: one.gate.crawl(), lambda one: one.gate.open()),
            "answering 503": (lambda one: one.gate.busy(), lambda one: one.gate.open()),
            "refusing": (lambda one: one.gate.refuse(), lambda one: one.gate.open()),
            "losing objects": (self._lose, self._find),
            "restarted": (self._restart, lambda one: None),
        }

    def make_one(self) -> None:
        """Make one, end it, and wait until the set is well again. Never two at a time."""
        if not self._left:
            self._left = [(kind, one) for kind in self._kinds for one in self._pair.members]
            self._random.shuffle(self._left)
        kind, member = self._left.pop()
        begin, end = self._kinds[kind]
        self.came[kind] += 1
        what = f"{kind}: {member.name}"
        say(what)
        try:
            begin(member)
            self._offload.run(
                time.monotonic() + self._random.uniform(*STAYS_SECONDS),
                lambda: self._look(kind, member),
            )
            self._look(kind, member)
        finally:
            end(member)
        self.health.wait_until_well(what)
        # So that downloads come from Swift.
        self._offload.empty_disk()

    def _look(self, kind: str, member: Member) -> None:
        self.most_debts = max(self.most_debts, self.health.most_debts())
        if self.health.is_down(member.name):
            self.seen_down[kind] += 1

    def _restart(self, member: Member) -> None:
        member.swift.stop()
        member.swift.start()

    def _lose(self, member: Member) -> None:
        """Only what the other one has."""
        self._lost = []
        stored = self._record.stored()
        self._random.shuffle(stored)
        # Segments are few: begin with the large ones.
        for media in sorted(stored[: 10 * MOST_LOST], key=lambda one: -one.size):
            if len(self._lost) < MOST_LOST and self._both_have(media):
                self._lose_one(member, file_of(media))
        self.lost += len(self._lost)

    def _both_have(self, media: Stored) -> bool:
        for member in self._pair.members:
            try:
                if member.account.content(CONTAINER, file_of(media)) is None:
                    return False
            except requests.RequestException:  # a large object without one of its segments
                return False
        return True

    def _lose_one(self, member: Member, name: str) -> None:
        found = member.account.call("HEAD", CONTAINER, name)
        if found is None:
            return
        if found.headers.get("X-Static-Large-Object") and self._random.random() < 0.5:
            lose_segment(member.account, CONTAINER, name, self._random)
        else:
            member.account.lose(CONTAINER, name)
        self._lost.append(name)

    def _find(self, member: Member) -> None:
        """The other one gives back what this one has lost."""
        self._offload.has_to_work("sync")
        still = {file_of(media): media for media in self._record.stored()}
        for name in self._lost:
            media = still.get(name)
            if media is None:  # deleted meanwhile
                continue
            try:
                content = member.account.content(CONTAINER, name)
            except requests.RequestException as error:
                self._record.must_not_be(f"sync has not mended {name} at {member.name}: {error}")
                continue
            if content is None or not media.same(content):
                self._record.must_not_be(f"sync has not brought {name} back to {member.name}")
