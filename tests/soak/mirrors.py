"""The part of the soak in which one of two Swifts fails: no client may notice.

One Synapse stores in both; no upload and no download may fail while one of them is well. After
each trouble the set has to become well by itself, and ``sync`` gives back what was lost inside
a Swift. At the end each of the two has to have every file.
"""

from __future__ import annotations

import random
import time
from typing import Any

from tests.soak.judge import judge_deleted, judge_files, judge_member, judge_same_names
from tests.soak.load import Load, blob, store
from tests.soak.member_trouble import MemberTrouble
from tests.soak.offload import Offload
from tests.soak.pair import Pair, pair_running
from tests.soak.record import Record, say

CLIENTS = 4
#: There before anything goes wrong.
FIRST_FILES = 60
#: Of the time for the load: it is kept for comparing what the load has made.
COMPARE_SHARE = 0.2


def soak(until: float, random_: random.Random) -> dict[str, Any]:
    """:returns: the report, with ``wrong``."""
    with pair_running(mirrored=True, store_synchronous=True) as pair:
        return _soak(pair, until, random_)


def _soak(pair: Pair, until: float, random_: random.Random) -> dict[str, Any]:
    began = time.monotonic()
    load_until = began + (until - began) * (1 - COMPARE_SHARE)
    token = pair.home.synapse.register("alice", admin=True)
    record = Record()
    offload = Offload(pair.home, record)
    trouble = MemberTrouble(pair, record, offload, random_)
    client = pair.home.synapse.client(token)
    for _ in range(FIRST_FILES):
        store(client, record, blob(random_))
    trouble.health.wait_until_well("the start")
    trouble.health.wait_until_idle()
    offload.has_to_work(*offload.empty)
    load = Load(pair.home.synapse, token, record, float("inf"), CLIENTS, may_fail=False)
    load.start()
    try:
        while time.monotonic() < load_until or not trouble.came:
            trouble.make_one()
    finally:
        load.stop()
    say(f"The load and the trouble are over after {time.monotonic() - began:.0f} s.")
    trouble.health.wait_until_well("everything")
    trouble.health.wait_until_idle()
    offload.has_to_work("sync")
    offload.last()
    came_back = judge_files(pair.home, token, record)
    right = {one.name: judge_member(one, record) for one in pair.members}
    gone = {one.name: judge_deleted(one.account, record, one.name) for one in pair.members}
    judge_same_names(pair.members, record)
    say(
        f"{came_back} of {len(record.stored())} files came back as they were; "
        f"the members have {right}; {gone} of {len(record.deleted())} are deleted."
    )
    return {
        "seconds": round(time.monotonic() - began, 1),
        "wrong": list(record.wrong),
        "homeserver": {**record.as_mapping(), "came_back_right": came_back},
        "right_in": right,
        "deleted_from": gone,
        "trouble": dict(trouble.came),
        "seen_down": dict(trouble.seen_down),
        "objects_lost": trouble.lost,
        "most_debts": trouble.most_debts,
        "longest_until_well": trouble.health.longest,
        "module": pair.home.told_by_module(),
    }
