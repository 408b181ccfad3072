"""What a person reads about Synapse's disk."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from swift_provider.config import GIB, LocalDiskSettings
from swift_provider.keeper import OVER_FOR_NOW, Report, Task, Trouble
from swift_provider.module.keeper_log import KeeperLog

WHERE = "local_disk, container media: "
ALL = frozenset({Task.KEEP, Task.REPAIR})


class Place:
    """A log of a disk with a limit of 50 GiB."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.log = KeeperLog(WHERE.removesuffix(": "), LocalDiskSettings(max_size=50 * GIB))
        self.now = 100.0

    def ended(self, known_over: int = 0, **report: Any) -> list[str]:
        """A run ended: the lines that it added."""
        values = {"done": [] if "troubles" in report else list(ALL), **report}
        self.log.ended(Report(final=True, **values), ALL, known_over, self.now)
        return self.lines()

    def lines(self) -> list[str]:
        """The new lines: level and text."""
        texts = []
        for record in self._caplog.records:
            assert record.getMessage().startswith(WHERE)
            texts.append(f"{record.levelname} {record.getMessage().removeprefix(WHERE)}")
        self._caplog.clear()
        return texts


@pytest.fixture
def place(caplog: pytest.LogCaptureFixture) -> Iterator[Place]:
    with caplog.at_level(logging.INFO, "swift_provider"):
        yield Place(caplog)


def test_a_run_that_did_something(place: Place) -> None:
    """One line tells all figures."""
    figures = {
        "looked_at": 120,
        "uploaded": 3,
        "uploaded_bytes": 2048,
        "removed": 117,
        "freed": GIB,
        "orphans": 7,
        "pruned": 4,
        "failed": {"differs": 2, "changed": 1},
        "seconds": 12.4,
        "on_disk": 45 * GIB,
    }
    assert place.ended(**figures) == [
        "INFO looked at 120 media, uploaded 3 files (2.0 KiB) that Swift lacked, removed 117 "
        "files (1.0 GiB), 7 of them unknown to Synapse, deleted 4 objects from Swift, failed: "
        "1 changed, 2 differs, in 12 s. Media now take 45.0 GiB of 50.0 GiB"
    ]


def test_a_run_that_did_nothing(place: Place) -> None:
    """It is not worth a line."""
    assert place.ended(on_disk=5, seconds=3.0) == []


@pytest.mark.parametrize("trouble", [Trouble.SWIFT, Trouble.DATABASE])
def test_an_outage(place: Place, trouble: Trouble) -> None:
    """One warning with how far over the budget the disk is, and one line at its end."""
    report = {"troubles": {trouble: "it does not answer"}}
    assert place.ended(GIB, **report) == [
        "WARNING it does not answer. The next run tries again. Nothing is removed meanwhile, and "
        "the disk is 1.0 GiB over its budget."
    ]
    assert place.ended(2 * GIB, troubles={trouble: "it answers 503"}) == []
    (end,) = place.ended(answered=[trouble])
    assert end.startswith("INFO ")
    assert end.endswith("works again")
    assert len(place.ended(**report)) == 1, "it is another outage"


def test_the_disk_fills_up_during_an_outage(place: Place) -> None:
    """That the disk is now over its budget is said once; ``status`` says how far."""
    report = {"troubles": {Trouble.SWIFT: "b: HEAD media: connection refused"}}
    assert len(place.ended(**report)) == 1
    assert place.ended(**report) == []
    (line,) = place.ended(GIB, **report)
    assert line.endswith("Nothing is removed meanwhile, and the disk is 1.0 GiB over its budget.")
    assert place.ended(2 * GIB, **report) == place.ended(**report) == []
    place.ended(3 * GIB, **report)
    (problem,) = place.log.problems
    assert problem["text"] == (
        "b: HEAD media: connection refused. Nothing is removed meanwhile, and the disk is 3.0 GiB "
        "over its budget"
    )


def test_an_outage_ends_when_what_it_prevented_is_done(place: Place) -> None:
    """A run that had nothing to do with Swift says nothing about it."""
    place.ended(done=[Task.KEEP], troubles={Trouble.SWIFT: "away"})
    assert place.ended(done=[Task.KEEP]) == []
    assert place.log.problems
    assert place.ended(done=[Task.REPAIR], answered=[Trouble.SWIFT]) == ["INFO Swift works again"]
    assert place.log.problems == []


def test_an_outage_that_prevents_nothing_any_more(place: Place) -> None:
    """It is over only when a run has spoken with Swift."""
    report = {"done": [Task.REPAIR], "troubles": {Trouble.SWIFT: "away"}}
    assert len(place.ended(**report)) == 1
    assert place.ended(done=[Task.KEEP]) == []
    assert place.log.problems == []
    assert place.ended(**report) == []
    assert place.ended(answered=[Trouble.SWIFT]) == ["INFO Swift works again"]


def test_texts_that_differ_in_ids(place: Place) -> None:
    """They are about the same problem: one line."""
    for _ in range(3):
        lines = [
            place.ended(troubles={Trouble.REFUSED: f"{what} (HTTP 403, transaction {uuid4().hex})"})
            for what in ("PUT media/local_content/a/b/c: denied", "HEAD media: denied")
        ]
        place.now += 1
        assert [len(one) for one in lines] == ([1, 1] if place.now == 101 else [0, 0])


def test_the_process_dies_again(place: Place) -> None:
    """One warning for the same death, until a run ends in order."""
    for how in ("killed by signal 9", "killed by signal 9", "exit status 1: MemoryError"):
        place.log.died(how, place.now)
        place.log.silent(600, place.now)
        place.log.stuck(650, place.now)
    assert [line.split(":")[0].split("disk ")[1] for line in place.lines()] == [
        "died",
        "has not reported anything for 600 seconds, so it is ended",
        "has got no further for 650 seconds",
        "died",
    ]
    assert place.log.repeats
    place.ended()
    assert not place.log.repeats
    assert place.log.problems == []


def test_over_because_files_fail(place: Place) -> None:
    """The reasons are named: other files are not to blame."""
    (line,) = place.ended(over=GIB, failed={"differs": 3, "Permission denied": 1}, looked_at=0)[1:]
    assert line.endswith("files failed: Permission denied (1), differs (3)")
    assert place.ended(over=GIB, failed={"differs": 4, "Permission denied": 1})[1:] == []


def test_nobody_prunes(place: Place) -> None:
    """One warning with the remedy."""
    for _ in range(2):
        place.log.unpruned("worker9", 200_000, place.now)
    (line,) = place.lines()
    assert line.startswith("WARNING nothing was pruned for 56 hours: is there a process worker9")
    place.log.pruned()
    assert place.log.problems == []


@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.DISK, Trouble.VERSION])
def test_what_a_person_has_to_change(place: Place, trouble: Trouble) -> None:
    """One error, again if the text changes, or if it comes back."""
    report = {"troubles": {trouble: "change it"}}
    assert place.ended(**report) == ["ERROR change it"]
    assert place.ended(**report) == []
    assert place.ended(troubles={trouble: "change that"}) == ["ERROR change that"]
    assert place.ended() == []
    assert place.ended(**report) == ["ERROR change it"]


def test_busy(place: Place) -> None:
    """One line, however long the other run takes."""
    report = {"troubles": {Trouble.BUSY: "another run uses it"}}
    assert place.ended(**report) == ["INFO another run uses it"]
    assert place.ended(**report) == []


def test_busy_while_the_disk_is_over_its_budget(place: Place) -> None:
    """The state names the run that is waited for, and no cause of an earlier run."""
    place.ended(over=GIB, quiet=2 * GIB)
    assert place.ended(2 * GIB, troubles={Trouble.BUSY: "upload uses it"}) == [
        "INFO upload uses it"
    ]
    (problem,) = place.log.problems
    assert problem["reason"] == "busy"
    assert problem["text"] == (
        "upload uses it. Nothing is removed meanwhile, and the disk is 2.0 GiB over its budget"
    )
    assert place.ended(over=GIB, quiet=2 * GIB) == [], "it was said before"
    assert [one["reason"] for one in place.log.problems] == [OVER_FOR_NOW]


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"quiet": GIB}, OVER_FOR_NOW),
        ({"quiet": GIB - 1}, "over"),
        ({"quiet": GIB, "failed": {"differs": 1}}, "over"),
    ],
)
def test_what_ends_by_itself(place: Place, report: dict[str, Any], reason: str) -> None:
    """Only if the media that were accessed recently are all of the excess."""
    place.ended(over=GIB, **report)
    assert [one["reason"] for one in place.log.problems] == [reason]


def test_over_because_all_is_in_use(place: Place) -> None:
    """One warning until the disk is within its limits."""
    report = {"over": GIB, "quiet": 2 * GIB}
    (line,) = place.ended(**report)
    assert line.startswith("WARNING the disk is still 1.0 GiB over its budget: 2.0 GiB of media")
    assert place.ended(**report) == []
    assert place.ended() == []
    assert len(place.ended(**report)) == 1


def test_over_because_of_other_files(place: Place) -> None:
    """Nothing is left that could be removed."""
    (line,) = place.ended(over=GIB)
    assert "no more media can be removed. Other files may fill the disk" in line


def test_problems_for_the_state_file(place: Place) -> None:
    """Each with its text, and since when."""
    place.ended(troubles={Trouble.SWIFT: "one"})
    place.now = 200
    place.ended(troubles={Trouble.SWIFT: "other"})
    assert place.log.problems == [{"reason": "swift", "text": "other", "since": 100.0}]


def test_the_disk(place: Place) -> None:
    """What is wrong with the disk itself is said once."""
    denied = PermissionError(errno.EACCES, "Permission denied", "/srv/media/x")
    for _ in range(2):
        place.log.disk_failed("/srv/media", denied, 1.0)
    (line,) = place.lines()
    assert line.startswith("ERROR cannot use /srv/media: [Errno 13] Permission denied: '/srv/")
    assert line.endswith("Synapse's user must be able to write there")
    place.log.disk_failed("/srv/media", OSError(errno.ENOSPC, "No space left"), 1.0)
    assert place.lines()[0].endswith("Free some space")
    place.log.disk_failed("/srv/media", OSError(errno.EIO, "Input/output error"), 1.0)
    assert place.lines()[0].endswith("Check the disk and its mount")
    place.log.disk_works()
    assert place.log.problems == []


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (LocalDiskSettings(max_size=50 * GIB), " (at most 50.0 GiB of media)"),
        (
            LocalDiskSettings(max_size=GIB, min_free=0.05),
            " (at most 1.0 GiB of media, at least 5.0% free)",
        ),
        (LocalDiskSettings(min_free=10 * GIB), " (at least 10.0 GiB free)"),
        (LocalDiskSettings(older_than=86400), ""),
    ],
)
def test_the_budget_is_told(place: Place, limits: LocalDiskSettings, told: str) -> None:
    """The process that keeps the disk says within which limits."""
    KeeperLog(WHERE.removesuffix(": "), limits).elected("/media")
    assert place.lines() == [f"INFO this process keeps /media within its budget{told}"]
