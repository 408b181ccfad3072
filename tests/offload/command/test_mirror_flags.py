"""Flags that choose one mirror of an entry."""

from __future__ import annotations

from typing import Any

import pytest

from swift_provider.errors import ConfigError
from tests.offload.command.test_homeserver import _entry, _homeserver


@pytest.mark.parametrize(
    "flags", [{"cloud": "ik", "container": "n"}, {"cloud": "ik", "container": "n", "prefix": ""}]
)
def test_flags_that_choose_a_mirror(flags: dict[str, Any]) -> None:
    """The mirror's own options apply, not those of the entry."""
    mirror = {"cloud": "ik", "container": "n", "cacert": "/ik.pem", "segment_container": "n-parts"}
    entry = _entry(
        cloud="ovh",
        container="m",
        segment_container="m-parts",
        cacert="/ovh.pem",
        mirrors=[mirror],
    )
    settings = _homeserver(entry).settings(flags)
    assert (settings.cloud, settings.container, settings.mirrors) == ("ik", "n", ())
    assert (settings.segment_container, settings.cacert) == ("n-parts", "/ik.pem")


def test_a_storage_url_that_is_the_mirrors() -> None:
    """The sign-in of the entry is for another cloud: its token must not go to the mirror's."""
    mirror = {"storage_url": "https://b.example/v1/AUTH_b", "container": "m", "cloud": "ik"}
    entry = _entry(auth={"auth_url": "https://a.example", "password": "a"}, container="m")
    entry["config"]["mirrors"] = [mirror]
    settings = _homeserver(entry).settings({"storage_url": mirror["storage_url"]})
    assert (settings.auth, settings.cloud) == (None, "ik")


def test_flags_that_fit_two_mirrors() -> None:
    """They are named; one more flag chooses one. Other flags than for a place apply, too."""
    mirrors = [
        {"name": "b", "cloud": "ik", "container": "n"},
        {"name": "c", "cloud": "ik", "container": "n", "region_name": "dc4-a"},
    ]
    homeserver = _homeserver(_entry(cloud="ovh", container="m", mirrors=mirrors))
    with pytest.raises(ConfigError, match="several of its mirrors, b and c: "):
        homeserver.settings({"cloud": "ik"})
    settings = homeserver.settings({"region_name": "dc4-a", "threadpool_size": 3})
    assert (settings.label, settings.threadpool_size) == ("c", 3)
