"""How a sign-in speaks HTTP: where credentials go, and how long it may take."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from swift_provider.client.identity.clouds import Cloud
from swift_provider.client.identity.keystone import Keystone
from swift_provider.client.identity.token import Authorization
from swift_provider.errors import AuthError, AuthUnavailableError
from tests.client.identity.harness import Harness
from tests.client.identity.keystone_standin import STORAGE_URL, Standin, running_standin


@pytest.fixture
def standin() -> Any:
    with running_standin() as running:
        yield running


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_gets_no_password(
    harness: Harness, standin: Standin, status: int
) -> None:
    """The message says where it leads and what to set, without the URL's secrets."""
    other = standin.url.removesuffix("/v3")
    harness.keystone.fail(status, Location=f"{other}/welcome?token=s3cret")
    error = harness.get()
    assert type(error) is AuthError
    here = harness.keystone.url.removesuffix("/v3")
    assert str(error) == (
        f"{here} redirects to {other}. Credentials go only to the server that auth_url names: "
        "if the other one is Keystone, set auth_url to it"
    )
    assert standin.paths == []


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{port}/v3",
        "http://127.0.0.1/v3",
        "//evil.example/v3",
        "http://127.0.0.1:99999/v3",
    ],
)
def test_scheme_host_and_port_must_be_the_same(harness: Harness, location: str) -> None:
    """From http to https as well: the password has crossed the network unencrypted."""
    port = harness.keystone.url.split(":")[2].removesuffix("/v3")
    harness.keystone.fail(302, Location=location.format(port=port))
    error = harness.get()
    assert type(error) is AuthError
    assert "redirects to" in str(error)
    assert "auth_url" in str(error)
    assert harness.keystone.sign_ins == 1


def test_the_discovery_is_not_redirected_either(harness: Harness, standin: Standin) -> None:
    """It tells where the password goes next."""
    options = {
        "auth_url": harness.keystone.url.replace("/v3", "/faulty"),
        "user_id": "u",
        "password": "pa55",
    }
    harness.sign_in_to(auth_type="password", auth_options=options)
    harness.keystone.fail(302, Location=standin.url)
    assert "redirects to" in str(harness.get())
    assert standin.paths == []


def test_a_redirect_within_the_server_is_followed(harness: Harness) -> None:
    """Such as one that adds a slash."""
    harness.keystone.fail(308, Location="/v3/auth/tokens/")
    assert harness.get().storage_url == STORAGE_URL
    assert harness.keystone.paths == ["/v3/auth/tokens", "/v3/auth/tokens/"]


def test_a_circle_of_redirects_ends(harness: Harness) -> None:
    """After a few, with an error about auth_url."""
    for _ in range(20):
        harness.keystone.fail(302, Location="/v3/auth/tokens")
    assert "check auth_url" in str(harness.get())
    assert harness.keystone.sign_ins < 10


# Time


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("auth_type", ["v3password", "password"])
def test_the_thread_of_a_trickling_sign_in_ends(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, auth_type: str, proxied: bool
) -> None:
    """An answer that comes a byte at a time does not hold a thread."""
    standin.trickles = True
    url = standin.url
    if proxied:
        monkeypatch.setenv("http_proxy", url.removesuffix("/v3"))
        monkeypatch.delenv("no_proxy", raising=False)
        url = "http://keystone.example:5000/v3"
    options = {"auth_url": url, "user_id": "u", "password": "pa55"}
    cloud = Cloud(name="c", auth_type=auth_type, auth_options=options)
    keystone = Keystone(cloud, connect_timeout=0.1, response_timeout=0.1)
    with pytest.raises(AuthUnavailableError):
        keystone.sign_in()
    timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    for timer in timers:
        timer.join(20)
        assert not timer.is_alive()


def test_a_sign_in_after_one_that_trickled(harness: Harness) -> None:
    """The deadline of one sign-in does not count for the next."""
    harness.sign_in_to(response_timeout=0.1)
    harness.keystone.trickles = True
    harness.auth._keystone.seconds = 0.2
    assert isinstance(harness.get(), AuthUnavailableError)
    harness.keystone.trickles = False
    harness.clock.advance(100)
    assert isinstance(harness.get(), Authorization)
