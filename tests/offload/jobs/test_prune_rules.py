"""When prune refuses."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from swift_provider.client import ListedObject, ObjectInfo
from swift_provider.offload.jobs.prunable import Options
from swift_provider.offload.jobs.prune_rules import Found, objection

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


def _objection(
    known: dict[str, int],
    doomed: dict[str, int],
    unmarked: dict[str, int] | None = None,
    *,
    activity: datetime | None = NOW,
    max_share: float | None = None,
    **options: Any,
) -> str | None:
    found = Found(
        Counter(known), Counter(doomed), Counter(unmarked or {}), newest=NOW - timedelta(days=2)
    )
    return objection(found, activity, Options(True, bool(unmarked), max_share))


@pytest.mark.parametrize(
    ("known", "doomed", "share"),
    [
        ({"local": 950, "remote": 800}, {"local": 50, "remote": 200}, None),
        ({"local": 900, "remote": 800}, {"local": 50}, "0.06"),
        ({"local": 950, "remote": 700}, {"remote": 200}, "0.23"),
        # All remote media may hide that most local media would go.
        ({"local": 10, "remote": 10_000}, {"local": 90}, "0.91"),
        ({"local": 19, "remote": 1}, {"local": 19, "remote": 1}, None),
        ({"local": 18}, {"local": 19}, "0.52"),
        ({"local": 20}, {"local": 20}, "0.51"),
        ({"remote": 1000}, {"local": 1}, "1.00"),
    ],
)
def test_the_share(known: dict[str, int], doomed: dict[str, int], share: str | None) -> None:
    """Local media have a stricter limit; of fewer than 20 objects half may go, never all."""
    told = _objection(known, doomed)
    assert (told is None) == (share is None), told
    if share is not None and told is not None:
        assert f"--max-share {share}" in told
        assert _objection(known, doomed, max_share=float(share)) is None


def test_few_unmarked() -> None:
    """Without a mark a few objects are no reason to be generous."""
    assert _objection({"local": 9}, {"local": 1}) is None
    assert _objection({"local": 9}, {"local": 1}, {"local": 1}) is not None


def test_nothing_to_delete() -> None:
    """A database that nobody uses is no reason to complain then."""
    assert _objection({"local": 9}, {}, activity=None) is None
    assert _objection({"local": 9}, {"local": 1}, activity=None) is not None


#: Days of media, from the newest back: when the copy was made, and so on.
TODAY, DAY_2, DAY_5, DAY_9 = "2026-01-01", "2025-12-31", "2025-12-28", "2025-12-24"
YEARS = {"2020-01-01": 1000, "2023-01-01": 1000}


@pytest.mark.parametrize(
    ("known", "unknown", "since"),
    [
        # A copy of a quiet homeserver, made on day 9: it knows nothing newer.
        (YEARS, {DAY_5: 15}, DAY_5),
        (YEARS, {DAY_5: 1, DAY_2: 1, TODAY: 1}, DAY_5),
        ({**YEARS, DAY_9: 100}, {DAY_5: 3}, DAY_5),
        # The copy has a few new media of its own.
        ({**YEARS, DAY_2: 4}, {DAY_5: 15}, DAY_5),
        # A copy of a busy homeserver, made on day 5; many media of that day are older than it.
        ({**YEARS, DAY_9: 200, DAY_5: 200}, {DAY_5: 5, DAY_2: 190}, DAY_2),
        ({**YEARS, DAY_2: 19}, {DAY_2: 20}, DAY_2),
        # An admin deleted new media, and others are newer.
        (YEARS, {DAY_5: 2}, None),
        ({**YEARS, TODAY: 1}, {DAY_5: 3}, None),
        ({**YEARS, DAY_5: 1}, {DAY_5: 3}, None),
        ({**YEARS, DAY_2: 4}, {DAY_5: 12}, None),
        ({**YEARS, DAY_2: 20}, {DAY_2: 20}, None),
        # A user with old media was deleted, on a homeserver in use.
        ({**YEARS, DAY_2: 10}, {"2020-01-01": 300, "2023-01-01": 300}, None),
        # A small homeserver.
        ({DAY_9: 1, DAY_5: 1, DAY_2: 1}, {DAY_9: 2, DAY_5: 2}, None),
        ({"2020-01-01": 2}, {DAY_9: 2}, None),
        # The same, but old media were uploaded on day 5, so all objects are of that day.
        (YEARS, {DAY_5: 30}, DAY_5),
        ({**YEARS, DAY_2: 30}, {DAY_5: 30}, None),
    ],
)
def test_the_newest_local_media(
    known: dict[str, int], unknown: dict[str, int], since: str | None
) -> None:
    """A database that knows the old media and few of the newest is that of a copy."""
    _check_newest("local", known, unknown, since)


@pytest.mark.parametrize(
    ("known", "unknown", "since"),
    [
        # A copy of a homeserver whose users upload nothing.
        (YEARS, {TODAY: 12, DAY_5: 12}, DAY_5),
        ({**YEARS, DAY_5: 19}, {DAY_5: 20}, DAY_5),
        # What nobody looked at for long was purged, few media or many, a day after the upload.
        ({"2020-01-01": 20}, {DAY_5: 19}, None),
        ({**YEARS, DAY_5: 800}, {DAY_5: 200}, None),
    ],
)
def test_the_newest_remote_media(
    known: dict[str, int], unknown: dict[str, int], since: str | None
) -> None:
    """Remote media are purged in bulk, and come back."""
    _check_newest("remote", known, unknown, since)


def _check_newest(
    kind: str, known: dict[str, int], unknown: dict[str, int], since: str | None
) -> None:
    found = Found(
        Counter(local=10, remote=1000),
        Counter(local=5, remote=10),
        known_by_day=defaultdict(Counter, {kind: Counter(known)}),
        unknown_by_day=defaultdict(Counter, {kind: Counter(unknown)}),
    )
    told = objection(found, NOW, Options(True, False, None))
    assert (told is None) == (since is None), told
    if since is not None and told is not None:
        assert f"{kind} media that were stored since {since}" in told
        assert told.endswith("--max-share 0.34")
        assert objection(found, NOW, Options(True, False, 0.34)) is None


def test_media_and_not_objects_are_counted() -> None:
    """A media and its thumbnails are one; of known local media only the database has the day."""
    found = Found()
    for number in range(9):
        for path in (f"local_content/{number}", f"local_thumbnails/{number}/x"):
            found.add_unknown("local", path, ObjectInfo(path, 1, "", "", _DATE))
        for root in ("local_content", "local_thumbnails"):
            found.add_known("local", ListedObject(f"{root}/{number}", 1, "", "2026-01-01T00:00:00"))
        for root in ("remote_content", "remote_thumbnail"):
            found.add_known("remote", ListedObject(f"{root}/{number}", 1, "", "2026-01-01T00:00"))
    assert found.unknown_by_day == {"local": {TODAY: 9}}
    assert found.known_by_day == {"remote": {TODAY: 9}}
    assert found.known == {"local": 18, "remote": 18}
