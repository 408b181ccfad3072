"""How much has to go."""

from __future__ import annotations

import pytest

from swift_provider.config import LocalDiskSettings
from swift_provider.keeper import Space, over_limits, space_to_free


@pytest.mark.parametrize(
    ("limits", "on_disk", "free", "over", "needed"),
    [
        ({"max_size": 100}, 100, 0, 0, 0),
        ({"max_size": 100}, 101, 0, 1, 11),
        ({"min_free": 100}, 500, 100, 0, 0),
        ({"min_free": 100}, 500, 90, 10, 20),
        ({"min_free": 0.1}, 500, 90, 10, 20),
        # The larger need counts.
        ({"max_size": 100, "min_free": 100}, 200, 90, 100, 110),
        ({"max_size": 100, "min_free": 500}, 101, 90, 410, 460),
        ({"older_than": 1}, 101, 0, 0, 0),
    ],
)
def test_space(limits: dict[str, float], on_disk: int, free: int, over: int, needed: int) -> None:
    """A tenth more than needed goes, so that the next run is not due at once."""
    settings = LocalDiskSettings(**limits)  # type: ignore[arg-type]
    space = Space(total=1000, used=1000 - free, free=free)
    assert over_limits(settings, on_disk, space) == over
    assert space_to_free(settings, on_disk, space) == needed
