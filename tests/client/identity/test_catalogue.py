"""Finding Swift in the catalogue of a stand-in for Keystone."""

from __future__ import annotations

from typing import Any

import pytest

from swift_provider.errors import AuthError
from tests.client.identity.harness import Harness
from tests.client.identity.keystone_standin import STORAGE_URL, endpoint

TWO_REGIONS = [
    endpoint("https://gra.example/v1", "GRA"),
    endpoint("https://gra.internal/v1", "GRA", "internal"),
    endpoint("https://bhs.example/v1", "BHS"),
]


def test_the_url_is_the_catalogues(harness: Harness) -> None:
    """The catalogue's URL loses the slash at its end, and no request goes there."""
    assert harness.get().storage_url == STORAGE_URL
    assert harness.keystone.paths == ["/v3/auth/tokens"]


@pytest.mark.parametrize(
    ("cloud", "url"),
    [
        ({"region_name": "BHS"}, "https://bhs.example/v1"),
        ({"region_name": "GRA"}, "https://gra.example/v1"),
        ({"region_name": "GRA", "interface": "internalURL"}, "https://gra.internal/v1"),
        ({"interface": "internal"}, "https://gra.internal/v1"),
        ({"region_name": "BHS", "interface": ("internal", "public")}, "https://bhs.example/v1"),
        ({"storage_url": "https://mine.example/v1"}, "https://mine.example/v1"),
    ],
)
def test_endpoint(harness: Harness, cloud: dict[str, Any], url: str) -> None:
    """Region and interface choose the URL; storage_url replaces it."""
    harness.keystone.endpoints = TWO_REGIONS
    harness.sign_in_to(**cloud)
    assert harness.get().storage_url == url


@pytest.mark.parametrize(
    ("cloud", "said"),
    [
        ({}, "set region_name to one of BHS, GRA"),
        (
            {"region_name": "GRA7"},
            "no Swift in the region 'GRA7' (interface public): set region_name to one of BHS, GRA",
        ),
        ({"region_name": "BHS", "interface": "internal"}, "set region_name to one of GRA"),
        ({"interface": "admin"}, "set interface to one of internal, public"),
        ({"service_type": "archive"}, "no service of type archive"),
    ],
)
def test_no_endpoint(harness: Harness, cloud: dict[str, Any], said: str) -> None:
    """If no endpoint is chosen, the message lists those of the catalogue."""
    harness.keystone.endpoints = TWO_REGIONS
    harness.sign_in_to(**cloud)
    error = harness.get()
    assert type(error) is AuthError
    assert said in str(error)


def test_one_url_in_two_regions(harness: Harness) -> None:
    """If several regions have the same URL, no region has to be chosen."""
    harness.keystone.endpoints = [endpoint(STORAGE_URL, "a"), endpoint(STORAGE_URL, "b")]
    assert harness.get().storage_url == STORAGE_URL


@pytest.mark.parametrize("region_name", [None, "RegionOne"])
def test_several_urls_in_one_region(harness: Harness, region_name: str | None) -> None:
    """Swift and Ceph RGW side by side: the order of the catalogue does not choose."""
    swift, ceph = "https://swift.example/v1/AUTH_p", "https://ceph.example/swift/v1"
    harness.keystone.endpoints = [endpoint(swift), endpoint(ceph)]
    harness.sign_in_to(region_name=region_name)
    error = harness.get()
    assert type(error) is AuthError
    assert "in the region 'RegionOne'" in str(error)
    assert f"set storage_url to the one to use ({ceph}, {swift})" in str(error)
    harness.sign_in_to(region_name=region_name, storage_url=swift)
    assert harness.get().storage_url == swift


def test_one_url_twice_in_one_region(harness: Harness) -> None:
    """The same URL, with and without a slash at its end, is one."""
    harness.keystone.endpoints = [endpoint(STORAGE_URL), endpoint(STORAGE_URL + "/")]
    assert harness.get().storage_url == STORAGE_URL


def test_no_catalogue(harness: Harness) -> None:
    """Without a catalogue, the message says what to set."""
    harness.keystone.endpoints = []
    assert "auth.project_name" in str(harness.get())
