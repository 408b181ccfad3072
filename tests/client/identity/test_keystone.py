"""One sign-in: its methods, and what its errors say; against a stand-in for Keystone."""

from __future__ import annotations

import base64
import html
import json
import logging
from collections.abc import Callable
from urllib.parse import quote

import pytest

from swift_provider.client.identity.token import Authorization
from swift_provider.errors import AuthError, AuthUnavailableError, ConfigError
from tests.client.identity.harness import Harness
from tests.client.identity.keystone_standin import OAUTH2_TOKEN, STORAGE_URL
from tests.servers import process


def test_unreachable(harness: Harness) -> None:
    """A closed port is temporary; the message has address, reason and remedy once."""
    url = f"http://127.0.0.1:{process.free_port()}/v3"
    harness.sign_in_to(auth_options={"auth_url": url, "user_id": "u", "password": "p"})
    error = harness.get()
    assert isinstance(error, AuthUnavailableError)
    assert str(error) == (
        f"Keystone at {url} cannot be reached: Connection refused (check auth_url and the network)"
    )


def test_unreachable_proxy(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the proxy cannot be reached, the message says to check the proxy."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{process.free_port()}")
    url = "http://keystone.example.org:5000/v3"
    harness.sign_in_to(auth_options={"auth_url": url, "user_id": "u", "password": "p"})
    error = harness.get()
    assert isinstance(error, AuthUnavailableError)
    assert str(error) == (
        f"Keystone at {url} cannot be reached through the proxy: Connection refused "
        "(check HTTP_PROXY, HTTPS_PROXY and NO_PROXY)"
    )


@pytest.mark.parametrize("status", [400, 403, 502])
def test_a_proxy_that_repeats_its_password(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """In an error that looks like Keystone's; it is not shown."""
    secret = base64.b64encode(b"user:pa/ss%w@rd").decode()
    host = harness.keystone.url.split("/")[2]
    monkeypatch.setenv("http_proxy", f"http://user:pa%2Fss%25w%40rd@{host}")
    monkeypatch.delenv("no_proxy", raising=False)
    url = "http://keystone.example:5000/v3"
    harness.sign_in_to(auth_options={"auth_url": url, "user_id": "u", "password": "p4ssw0rd"})
    body = {"error": {"message": f"Proxy-Authorization: Basic {secret}", "code": status}}
    harness.keystone.fail(status, json.dumps(body))
    error = str(harness.get())
    assert "Proxy-Authorization: Basic ***" in error
    assert secret not in error


@pytest.mark.parametrize("auth_type", ["v3password", "password"])
def test_slow(harness: Harness, auth_type: str) -> None:
    """A sign-in without an answer ends after the timeout, with a temporary error."""
    options = {"auth_url": harness.keystone.url, "user_id": "u", "password": "p"}
    harness.sign_in_to(response_timeout=0.2, auth_type=auth_type, auth_options=options)
    harness.keystone.going.clear()
    assert isinstance(harness.get(), AuthUnavailableError)


def test_overloaded_while_discovering(harness: Harness) -> None:
    """A 429 to the discovery of Keystone's versions is temporary too."""
    url = harness.keystone.url.replace("/v3", "/faulty")
    options = {"auth_url": url, "user_id": "u", "password": "p"}
    harness.sign_in_to(auth_type="password", auth_options=options)
    harness.keystone.fail(429, Retry_After="40")
    error = harness.get()
    assert isinstance(error, AuthUnavailableError)
    assert error.retry_after == 40


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, "<html>", AuthUnavailableError),
        (201, "{}", AuthUnavailableError),
        (404, "{}", AuthError),
        (400, '{"error": "?"}', AuthError),
    ],
)
def test_something_else_answers(
    harness: Harness, status: int, body: str, kind: type[AuthError]
) -> None:
    """An answer that is not Keystone's is an error that names the URL. A page with a status of
    success may be a proxy's, for the time of a maintenance.
    """
    harness.keystone.fail(status, body)
    error = harness.get()
    assert type(error) is kind
    assert harness.keystone.url in str(error)


def test_a_page_in_place_of_the_versions(harness: Harness) -> None:
    """So is a page that answers the discovery of Keystone's versions."""
    url = harness.keystone.url.replace("/v3", "/faulty")
    options = {"auth_url": url, "user_id": "u", "password": "p"}
    harness.sign_in_to(auth_type="password", auth_options=options)
    harness.keystone.fail(200, "<html>")
    assert isinstance(harness.get(), AuthUnavailableError)


def test_none(harness: Harness) -> None:
    """The plugin "none" sends no header, and needs storage_url."""
    harness.sign_in_to(auth_type="none", auth_options={}, storage_url=STORAGE_URL)
    assert harness.get() == Authorization({}, STORAGE_URL)
    harness.sign_in_to(auth_type="none", auth_options={})
    error = harness.get()
    assert isinstance(error, ConfigError)
    assert "storage_url" in str(error)


def test_http_basic(harness: Harness) -> None:
    """The plugin http_basic sends user and password in a Basic header."""
    options = {"username": "u", "password": "pä", "endpoint": STORAGE_URL + "/"}
    harness.sign_in_to(auth_type="http_basic", auth_options=options)
    expected = b"Basic " + base64.b64encode("u:pä".encode())
    assert harness.get() == Authorization({b"Authorization": expected}, STORAGE_URL)


def test_v1password(harness: Harness) -> None:
    """Swift's own sign-in returns token, URL and lifetime in headers."""
    url = harness.keystone.url.replace("/v3", "/auth/v1.0")
    harness.keystone.lifetime = 300
    options = {"auth_url": url, "username": "a:u", "password": "k"}
    harness.sign_in_to(auth_type="v1password", auth_options=options, region_name="any")
    assert harness.get() == Authorization({b"X-Auth-Token": b"v1-1"}, STORAGE_URL)
    harness.clock.advance(299.5)
    harness.get()
    harness.thread.run()
    assert harness.token() == "v1-2"


def test_oauth2(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Headers that a plugin adds are sent too, and the log shows none of its secrets."""
    caplog.set_level(logging.DEBUG)
    options = {
        "auth_url": harness.keystone.url,
        "oauth2_endpoint": harness.keystone.url.replace("/v3", "/oauth2"),
        "oauth2_client_id": "i",
        "oauth2_client_secret": "client-secret",
    }
    harness.sign_in_to(auth_type="v3oauth2clientcredential", auth_options=options)
    assert harness.get().headers == {
        b"X-Auth-Token": b"token-1",
        b"Authorization": b"Bearer " + OAUTH2_TOKEN.encode(),
    }
    assert "auth/tokens" in caplog.text
    assert OAUTH2_TOKEN not in caplog.text
    assert "client-secret" not in caplog.text


def test_discovery(harness: Harness) -> None:
    """The plugin "password" finds the v3 API by itself and signs in."""
    options = {"auth_url": harness.keystone.url, "user_id": "u", "password": "p"}
    harness.sign_in_to(auth_type="password", auth_options=options)
    assert harness.token() == "token-1"


@pytest.mark.parametrize("form", [str, repr, json.dumps, quote, html.escape])
@pytest.mark.parametrize("password", ["pa  s3\\cret", "pa's3\"cret", "pä\u200bs3<cret> "])
def test_no_form_of_the_password_is_shown(
    harness: Harness, password: str, form: Callable[[str], str]
) -> None:
    """Keystone may repeat a password that it refuses, encoded in some way."""
    options = {"auth_url": harness.keystone.url, "user_id": "u", "password": password}
    harness.sign_in_to(auth_options=options)
    message = f"Invalid input: {form(password)} is not good"
    harness.keystone.fail(400, json.dumps({"error": {"message": message}}))
    error = harness.get()
    assert "Invalid input: " in str(error)
    assert "***" in str(error)
    assert "s3" not in str(error)
    assert "cret" not in str(error)


@pytest.mark.parametrize("field", ["verify", "cert"])
def test_missing_tls_file(harness: Harness, field: str) -> None:
    """The message names a missing CA or certificate file, and no request is sent."""
    harness.sign_in_to(**{field: "/nowhere.pem"})
    error = harness.get()
    assert isinstance(error, ConfigError)
    assert "/nowhere.pem" in str(error)
    assert harness.keystone.paths == []
