"""When prune refuses."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from swift_provider.offload.jobs.prunable import Options
from swift_provider.offload.jobs.prune_rules import Found, objection

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


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


@pytest.mark.parametrize(
    ("known", "unknown", "since"),
    [
        ({"2026-01-01": 20, "2025-12-01": 1000}, {"2026-01-01": 20}, None),
        ({"2026-01-01": 19, "2025-12-01": 1000}, {"2026-01-01": 20}, "2026-01-01"),
        ({"2025-12-01": 1000}, {"2026-01-01": 19}, None),
        ({"2025-12-01": 1000}, {"2026-01-01": 15, "2025-12-31": 5}, "2025-12-31"),
        ({"2025-12-01": 1000}, {"2025-12-01": 20, "2025-11-30": 10}, None),
    ],
)
def test_a_copy_that_lives_on(
    known: dict[str, int], unknown: dict[str, int], since: str | None
) -> None:
    """A database that knows the old objects and few of the newest is that of a copy."""
    found = Found(
        Counter(local=1000),
        Counter(local=10),
        known_by_day=Counter(known),
        unknown_by_day=Counter(unknown),
    )
    told = objection(found, NOW, Options(True, False, None))
    assert (told is None) == (since is None), told
    if since is not None and told is not None:
        assert f"stored since {since}" in told
        assert objection(found, NOW, Options(True, False, 0.05)) is None
