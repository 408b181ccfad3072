"""Options and methods that are refused before any sign-in, and what the messages name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keystoneauth1 import exceptions, loading

from tests.client.identity.finding import AUTH, SECRET, refusal


@pytest.mark.parametrize(
    ("taken_out", "named"),
    [
        ("username", "auth.username or auth.user_id"),
        ("password", "auth.password"),
        ("auth_url", "auth.auth_url"),
        ("user_domain_name", "auth.user_domain_name"),
        ("project_domain_name", "auth.project_domain_name"),
    ],
)
def test_missing_option(place: Path, taken_out: str, named: str) -> None:
    """The message names the option that is missing."""
    auth = {
        "auth_url": "https://k.example",
        "username": "u",
        "password": SECRET,
        "project_name": "p",
        "user_domain_name": "d",
        "project_domain_name": "d",
    }
    del auth[taken_out]
    assert named in refusal(place, auth_type="v3password", auth=auth)


def test_unknown_option(place: Path) -> None:
    """The message names a misspelt option and the right one, but not the value."""
    message = refusal(place, auth={**AUTH, "usr_domain_name": SECRET})
    assert "auth.usr_domain_name" in message
    assert "did you mean auth.user_domain_name?" in message


def test_password_in_auth_url(place: Path) -> None:
    """User and password in auth_url are refused, because logs show the URL."""
    message = refusal(place, auth={**AUTH, "auth_url": f"https://u:{SECRET}@k.example/v3"})
    assert "auth.auth_url must not contain" in message


@pytest.mark.parametrize(
    ("auth_type", "remedy"),
    [
        ("v3passwort", "did you mean 'v3password'?"),
        ("something-else", "v3applicationcredential"),
        ("v3websso", "application credential"),
    ],
)
def test_unusable_method(place: Path, auth_type: str, remedy: str) -> None:
    """An unknown auth_type, or one that needs a browser, is refused with a remedy."""
    message = refusal(place, auth_type=auth_type, auth=AUTH)
    assert f"'{auth_type}'" in message
    assert remedy in message


def test_v1password_not_installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without python-swiftclient the message says what to install."""
    real = loading.get_plugin_loader

    def without_swiftclient(name: str) -> Any:
        if name == "v1password":
            raise exceptions.NoMatchingPlugin(name)
        return real(name)

    monkeypatch.setattr(loading, "get_plugin_loader", without_swiftclient)
    message = refusal(place, auth_type="v1password", auth=AUTH)
    assert "pip install 'synapse-swift-storage-provider[v1password]'" in message
