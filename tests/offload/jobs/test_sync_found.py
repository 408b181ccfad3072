"""Which rows of listings ``sync`` believes without asking about the objects."""

from __future__ import annotations

import hashlib

import pytest

from swift_provider.client import ListedObject
from swift_provider.offload.jobs.sync_found import look_the_same

NOTHING = hashlib.md5(b"").hexdigest()
SOME = hashlib.md5(b"some").hexdigest()


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        ([(4, SOME), (4, SOME)], True),
        ([(4, SOME), None], True),
        ([(4, SOME), (5, SOME)], False),
        ([(4, SOME), (4, NOTHING)], False),
        # Two large objects in Ceph RGW, with manifests of equal length.
        ([(253, NOTHING), (253, NOTHING)], False),
        # Two dynamic large objects in Swift, or two empty files.
        ([(0, NOTHING), (0, NOTHING)], False),
    ],
)
def test_look_the_same(rows: list[tuple[int, str] | None], same: bool) -> None:
    """Rows that may be those of large objects say nothing about their content."""
    listed = [
        None if row is None else ListedObject("name", row[0], row[1], "2026-01-01T00:00:00")
        for row in rows
    ]
    assert look_the_same(listed) is same
