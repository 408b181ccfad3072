"""``python -m tests.bench.drivers.disk_plan COUNT``: the plan of a run, for so many media.

Prints how many media may go, and how many Swift may lack.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing

from swift_provider.offload.disk_plan import DiskPlan, Need
from swift_provider.offload.media_ages import Age
from swift_provider.offload.media_names import LOCAL, REMOTE
from swift_provider.offload.media_walk import FoundFile

#: As many as a run looks at ahead.
PAGE_MEDIA = 100
BYTES = 100_000
OLD_MS = 1_500_000_000_000
#: The database has the media in another order than the disk; a prime above any count.
_STRIDE = 15_485_863


def _name(number: int) -> str:
    """Scattered, as the random ids of Synapse."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:08x}"


def _origin(number: int) -> str:
    """Two of five are local media."""
    return "" if number % 5 < 2 else f"server{number % 500}.example"


def _files(count: int) -> Iterator[FoundFile]:
    for number in range(count):
        origin = _origin(number)
        kind = REMOTE if origin else LOCAL
        yield FoundFile(kind, origin, _name(number), BYTES, OLD_MS, True)


def _ages(count: int, kind: str) -> Iterator[Age]:
    for place in range(count):
        number = place * _STRIDE % count
        origin, name = _origin(number), _name(number)
        if (kind == REMOTE) == bool(origin):
            yield Age(origin, name, name, OLD_MS + number, OLD_MS)


def main() -> None:
    count = int(sys.argv[1])
    need = Need(count * BYTES, None, OLD_MS * 2, 600.0, 86400.0)
    with closing(DiskPlan()) as plan:
        plan.add(_files(count))
        for kind in (LOCAL, REMOTE):
            plan.match(kind, _ages(count, kind))
        plan.quiet_bytes(need.quiet_before_ms())
        orphans = sum(map(len, plan.orphans(PAGE_MEDIA)))
        victims = sum(map(len, plan.victims(need, PAGE_MEDIA)))
        media = sum(map(len, plan.by_name((LOCAL, REMOTE), PAGE_MEDIA)))
    print(victims, media - orphans)


if __name__ == "__main__":
    main()
