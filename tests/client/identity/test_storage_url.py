"""Swift's URL, as settings and catalogues have it, and as requests need it."""

from __future__ import annotations

import pytest

from swift_provider.client.identity.storage_url import filled, usable_url
from swift_provider.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://swift.test/v1/AUTH_x", "https://swift.test/v1/AUTH_x"),
        ("https://swift.test:8080/v1/AUTH_x/", "https://swift.test:8080/v1/AUTH_x"),
        ("http://[::1]:8080/swift/v1", "http://[::1]:8080/swift/v1"),
        ("http://127.0.0.1/v1/a:b", "http://127.0.0.1/v1/a:b"),
        ("https://swift.test/v1/my account", "https://swift.test/v1/my%20account"),
        ("https://swift.test/v1/konto-ä", "https://swift.test/v1/konto-%C3%A4"),
        ("https://swift.test/v1/a%20b", "https://swift.test/v1/a%20b"),
        ("https://käse.test/v1", "https://xn--kse-qla.test/v1"),
    ],
)
def test_usable(url: str, usable: str) -> None:
    """What is not ASCII, or a space, is encoded; what is encoded already stays."""
    assert usable_url(url) == usable


@pytest.mark.parametrize(
    "url",
    [
        "https://swift_proxy.test/v1",
        "https://a b.test/v1",
        "https:///v1",
        "https://swift.test:port/v1",
        "ftp://swift.test/v1",
        "https://" + "a" * 64 + ".test/v1",
        "swift.test/v1",
    ],
)
def test_not_usable(url: str) -> None:
    """The error shows the URL and says what to do."""
    with pytest.raises(ConfigError, match="cannot be used") as raised:
        usable_url(url)
    assert repr(url) in str(raised.value)
    assert "storage_url" in str(raised.value)


@pytest.mark.parametrize("place", ["%(project_id)s", "$(project_id)s", "%(tenant_id)s"])
def test_the_projects_id_is_filled_in(place: str) -> None:
    """As keystoneauth1 fills it into an endpoint override."""
    url = f"https://swift.test/v1/AUTH_{place}"
    assert filled(url, lambda: "abc") == "https://swift.test/v1/AUTH_abc"
    with pytest.raises(ConfigError, match="project's id"):
        filled(url, lambda: None)


def test_the_projects_id_is_not_asked_for_in_vain() -> None:
    """To find it may take a request."""

    def fail() -> None:
        raise AssertionError

    assert filled("https://swift.test/v1/AUTH_a%20b", fail) == "https://swift.test/v1/AUTH_a%20b"
