"""Two places that are one, by what Swift says about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from swift_provider.client import Place, SeenPlace, same_place

HERE = "https://a.example/v1/AUTH_1"
CLOUD = "https://b.example/v1/AUTH_1"
CEPH = "https://c.example/swift/v1"


@dataclass
class _At:
    """An address, without a Swift behind it."""

    name: str
    url: str
    container: str = "media"
    prefix: str = ""

    def object_name(self, path: str) -> str:
        return self.prefix + path

    async def storage_url(self) -> str:
        return self.url


async def _objection(made: tuple[str, str], *places: _At) -> str | None:
    pairs = zip(places, made, strict=True)
    return await same_place([SeenPlace(cast(Place, cast(Any, at)), when) for at, when in pairs])


@pytest.mark.parametrize(
    ("urls", "made", "expected"),
    [
        ((HERE, CLOUD), ("1.00001", "1.00001"), "made at the same moment (1.00001)"),
        ((CEPH, CEPH + "/AUTH_1"), ("1.00001", "1.00001"), "made at the same moment"),
        ((HERE, HERE + "/"), ("1.00001", "1.00002"), f"both are the container media at {HERE}"),
        ((HERE, CLOUD), ("", "1.00001"), f"may be the same one ({HERE}, {CLOUD})"),
        ((CEPH, CEPH + "/AUTH_1"), ("", ""), "may be the same one"),
        ((CEPH, CEPH), ("", ""), "may be the same one"),
    ],
)
async def test_the_same_objects(
    urls: tuple[str, str], made: tuple[str, str], expected: str
) -> None:
    """They are named, and the reason. What Swift does not show counts against them."""
    said = await _objection(made, _At("a", urls[0]), _At("b", urls[1]))
    assert said is not None
    assert said.startswith("a and b lead to the same objects: ")
    assert expected in said


@pytest.mark.parametrize(
    ("first", "second", "made"),
    [
        # Two regions, where the account often has the same name.
        (_At("a", HERE), _At("b", CLOUD), ("1.00001", "1.00002")),
        (_At("a", CEPH), _At("b", CEPH), ("1.00001", "1.00002")),
        (_At("a", HERE), _At("b", "https://a.example/v1/AUTH_2"), ("", "")),
        (_At("a", HERE), _At("b", HERE, container="other"), ("1.00001", "1.00001")),
        (_At("a", HERE), _At("b", HERE, prefix="b/"), ("1.00001", "1.00001")),
    ],
)
async def test_other_objects(first: _At, second: _At, made: tuple[str, str]) -> None:
    """Nothing is said against two places that differ."""
    assert await _objection(made, first, second) is None
