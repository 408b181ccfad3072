"""Which media of those on the disk go first, and which have no row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from swift_provider.offload.disk_plan import FILES_IN_MEMORY, DiskPlan, Need, Why
from swift_provider.offload.media_ages import Age
from swift_provider.offload.media_walk import FoundFile

DAY = 86_400_000
NOW = int(time.time() * 1000)


@pytest.fixture(params=[False, True])
def plan(request: pytest.FixtureRequest) -> Iterator[DiskPlan]:
    """An empty plan of either sort."""
    with closing(DiskPlan(in_memory=request.param)) as made:
        yield made


def file(
    name: str, *, taken: int = 10, written: int = NOW - 9 * DAY, content: bool = True
) -> FoundFile:
    return FoundFile("local", "", name, taken, written, content)


def age(name: str, accessed: int, created: int = NOW - 10 * DAY) -> Age:
    return Age("", name, name, accessed, created)


def need(**changes: object) -> Need:
    values: dict[str, object] = {
        "space": 1,
        "older_before_ms": None,
        "written_since_ms": NOW,
        # Ten minutes before NOW, which the module took when the whole suite began.
        "quiet_seconds": time.time() - NOW / 1000 + 600,
        "young_seconds": 86400.0,
    }
    return Need(**{**values, **changes})  # type: ignore[arg-type]


def victims(plan: DiskPlan, size: int = 2, **changes: object) -> list[tuple[str, Why, int]]:
    """All of them, in order."""
    pages = list(plan.victims(need(**changes), size))
    assert all(len(page) <= size for page in pages)
    return [(one.media.media_id, one.why, one.taken) for page in pages for one in page]


def test_order(plan: DiskPlan) -> None:
    """First what came back, then what is old enough, then the rest; by the last access."""
    plan.add(
        [
            *(file(name) for name in ("b", "a", "c", "recent", "gone")),
            file("written", written=NOW - 1000),
            file("a", content=False, taken=5),
            file("back", written=NOW - 1_000_000),
            file("thumbnailed", content=False, written=NOW - 1_000_000),
        ]
    )
    ages = {"a": 4, "b": 5, "c": 3, "back": 1, "thumbnailed": 2}
    plan.match("local", [age(name, NOW - days * DAY) for name, days in ages.items()])
    plan.match(
        "local",
        [age("recent", NOW), age("written", NOW - 9 * DAY), age("elsewhere", NOW - 9 * DAY)],
    )
    since = {"written_since_ms": NOW - 2_000_000}
    order = victims(plan, older_before_ms=NOW - int(4.5 * DAY), **since)
    assert order == [
        ("back", Why.BROUGHT_BACK, 10),
        ("b", Why.AGE, 10),
        ("a", Why.SPACE, 15),
        ("c", Why.SPACE, 10),
        ("thumbnailed", Why.SPACE, 10),
    ]
    without = victims(plan, space=0, older_before_ms=NOW - int(4.5 * DAY), **since)
    assert without == order[:2]
    assert victims(plan, space=0) == []
    assert plan.quiet_bytes(need().quiet_before_ms()) == 20
    assert (plan.files, plan.taken) == (9, 85)
    assert [one.owner for page in plan.orphans(1) for one in page] == [("local", "", "gone")]


def test_new_media_did_not_come_back(plan: DiskPlan) -> None:
    """A file that was written when its media were stored is new."""
    plan.add([file("new", written=NOW - 1_000_000)])
    plan.match("local", [age("new", NOW - DAY, created=NOW - 2_000_000)])
    assert plan.has_content_written_since(NOW - 2_000_000)
    assert victims(plan, space=0, written_since_ms=NOW - 2_000_000) == []


def test_memory_is_bounded() -> None:
    """In memory, a plan counts all files, and holds as many as there is room for."""
    with closing(DiskPlan(in_memory=True)) as plan:
        plan.add(file(f"media{number}") for number in range(FILES_IN_MEMORY + 10))
        assert plan.files == FILES_IN_MEMORY + 10
        plan.match("local", [])
        assert sum(len(page) for page in plan.orphans(1000)) == FILES_IN_MEMORY
