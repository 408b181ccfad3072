"""Signing in to a real Keystone with each common method; no message shows a secret."""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import threads
from twisted.internet.protocol import Factory, Protocol

from swift_provider.client.identity.clouds import Cloud, find_cloud
from swift_provider.client.identity.keystone import Keystone
from swift_provider.client.identity.token import Authenticator, Authorization
from swift_provider.client.observer import Observer
from swift_provider.config import parse_settings
from swift_provider.errors import (
    AuthError,
    AuthUnavailableError,
    ConfigError,
    SwiftProviderError,
)
from tests.client.identity.keystone_standin import Standin, running_standin
from tests.servers.keystone import Credentials
from tests.servers.keystone import Keystone as Server
from tests.servers.swift import Swift

PASSWORD = 'p/a\\s"ß w%0rd{x}'
REGIONS = ("SignInA", "SignInB")
#: A service type of its own, so that the endpoints of other tests do not match.
SERVICE = "sign-in-object-store"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def user(keystone: Server) -> Credentials:
    for region in REGIONS:
        url = f"http://127.0.0.1:1/{region}/AUTH_%(project_id)s"
        keystone.create_endpoint(SERVICE, url, region=region)
    return keystone.create_account("sign-in", "sign-in", PASSWORD)


async def sign_in(reactor: Any, cloud: Cloud) -> Authorization:
    def run_in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        return threads.deferToThread(function, *arguments)

    authenticator = Authenticator(
        reactor,
        cloud,
        run_in_thread,
        observer=Observer(),
        connect_timeout=5.0,
        response_timeout=30.0,
    )
    return await authenticator.authorize()


def cloud_of(auth_type: str, auth: dict[str, Any], **options: Any) -> Cloud:
    """A cloud from inline options, in region A of the service of these tests."""
    settings = parse_settings(
        {
            "container": "c",
            "auth_type": auth_type,
            "auth": auth,
            "region_name": REGIONS[0],
            **options,
        }
    )
    found = find_cloud(settings, {})
    return Cloud(**{**vars(found), "service_type": SERVICE})


def belongs_to(keystone: Server, authorization: Authorization, project_id: str) -> None:
    """Checks that Keystone knows the token, and that the URL is the project's."""
    token = authorization.headers[b"X-Auth-Token"].decode()
    response = keystone.call("GET", "auth/tokens", headers={"X-Subject-Token": token})
    assert response.json()["token"]["project"]["id"] == project_id
    assert authorization.storage_url == f"http://127.0.0.1:1/{REGIONS[0]}/AUTH_{project_id}"


@pytest.mark.parametrize("auth_type", ["v3password", "password"])
@pytest.mark.parametrize("ending", ["/v3", "/v3/", "", "/"])
async def test_password(keystone: Server, user: Credentials, auth_type: str, ending: str) -> None:
    """A password with awkward characters works, however auth_url ends."""
    from twisted.internet import reactor

    auth = {**user.auth(), "auth_url": keystone.url.removesuffix("/v3") + ending}
    authorization = await sign_in(reactor, cloud_of(auth_type, auth))
    belongs_to(keystone, authorization, user.project_id)


async def test_application_credential(keystone: Server, user: Credentials) -> None:
    """An application credential needs only its id and secret, and no project."""
    from twisted.internet import reactor

    identity, secret = keystone.create_application_credential(user, f"ac{next(_numbers)}")
    auth = {
        "auth_url": keystone.url,
        "application_credential_id": identity,
        "application_credential_secret": secret,
    }
    authorization = await sign_in(reactor, cloud_of("v3applicationcredential", auth))
    belongs_to(keystone, authorization, user.project_id)


@pytest.mark.parametrize("auth_type", ["v3token", "token"])
async def test_token(keystone: Server, user: Credentials, auth_type: str) -> None:
    """A token can be exchanged for another."""
    from twisted.internet import reactor

    auth = {
        "auth_url": keystone.url,
        "token": keystone.token(user),
        "project_id": user.project_id,
    }
    authorization = await sign_in(reactor, cloud_of(auth_type, auth))
    belongs_to(keystone, authorization, user.project_id)


async def test_user_of_another_domain(keystone: Server, user: Credentials) -> None:
    """User and project may be in different domains."""
    from twisted.internet import reactor

    domain = keystone.create_domain("elsewhere")
    user_id = keystone.create_user("sign-in", "another-password", domain_id=domain)
    keystone.grant("member", user_id, user.project_id)
    auth = {
        "auth_url": keystone.url,
        "username": "sign-in",
        "password": "another-password",
        "user_domain_name": "elsewhere",
        "project_name": user.project_name,
        "project_domain_name": "Default",
    }
    authorization = await sign_in(reactor, cloud_of("v3password", auth))
    belongs_to(keystone, authorization, user.project_id)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password": "wrong"}, "Check username, password, project_name"),
        ({"user_domain_id": "nowhere"}, "refuses"),
        ({"user_domain_id": ""}, "auth.user_domain_name is not set (often 'Default')"),
        ({"project_domain_id": ""}, "auth.project_domain_name is not set"),
        ({"project_name": ""}, "auth.project_name"),
    ],
)
async def test_refused(
    keystone: Server, user: Credentials, changed: dict[str, str], said: str
) -> None:
    """If Keystone refuses, the message names the option to check."""
    from twisted.internet import reactor

    with pytest.raises(AuthError) as caught:
        await sign_in(reactor, cloud_of("password", {**user.auth(), **changed}))
    assert said in str(caught.value)
    assert not caught.value.temporary


async def test_an_application_credential_that_is_gone(keystone: Server) -> None:
    """Keystone answers 404 to that, as to a path that it does not have."""
    from twisted.internet import reactor

    auth = {
        "auth_url": keystone.url,
        "application_credential_id": "0123456789abcdef0123456789abcdef",
        "application_credential_secret": "s3cret-value",
    }
    with pytest.raises(AuthError, match=r"refuses .* has expired or was deleted") as caught:
        await sign_in(reactor, cloud_of("v3applicationcredential", auth))
    assert "no Keystone" not in str(caught.value)
    with pytest.raises(ConfigError, match="needs auth_type: v3applicationcredential"):
        await sign_in(reactor, cloud_of("password", auth))


class _HangsUp(Protocol):
    """What a port for https does with a request that is not encrypted."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


async def test_the_wrong_scheme(keystone: Server, user: Credentials) -> None:
    """https for a server that speaks http, and the other way round."""
    from twisted.internet import reactor

    url = keystone.url.replace("http://", "https://")
    with pytest.raises(AuthUnavailableError, match="plain http there: check auth_url"):
        await sign_in(reactor, cloud_of("v3password", {**user.auth(), "auth_url": url}))
    port = reactor.listenTCP(0, Factory.forProtocol(_HangsUp), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/v3"
    with pytest.raises(AuthUnavailableError, match=r"check auth_url \(http:// or https:"):
        await sign_in(reactor, cloud_of("v3password", {**user.auth(), "auth_url": url}))
    await port.stopListening()


async def test_a_server_that_is_not_keystone(swift: Swift, user: Credentials) -> None:
    """Swift itself answers 400 or 412 to a path that it does not understand."""
    from twisted.internet import reactor

    auth = {**user.auth(), "auth_url": f"{swift.url}/v3"}
    with pytest.raises(AuthError, match="heck auth_url"):
        await sign_in(reactor, cloud_of("v3password", auth))


@pytest.mark.parametrize("region", [None, "SignInC"])
async def test_regions(keystone: Server, user: Credentials, region: str | None) -> None:
    """Without a region, or with one that has no Swift, the message lists the regions."""
    from twisted.internet import reactor

    with pytest.raises(AuthError, match="set region_name to one of SignInA, SignInB"):
        await sign_in(reactor, cloud_of("v3password", user.auth(), region_name=region))


async def test_not_keystone(keystone: Server, user: Credentials) -> None:
    """If the path of auth_url is wrong, the message says to check auth_url."""
    from twisted.internet import reactor

    auth = {**user.auth(), "auth_url": f"{keystone.url}/nothing/here"}
    with pytest.raises(AuthError, match="check auth_url"):
        await sign_in(reactor, cloud_of("v3password", auth))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """A function that returns the whole log and all texts of the given things."""
    caplog.set_level(logging.DEBUG)

    def gather(*things: object) -> str:
        texts = [record.getMessage() for record in caplog.records]
        for thing in things:
            texts += [repr(thing), str(thing)]
            if isinstance(thing, BaseException):
                texts += traceback.format_exception(thing)
        return "\n".join(texts)

    return gather


async def test_nothing_secret_is_told_of_success(
    keystone: Server, user: Credentials, told: Callable[..., str]
) -> None:
    """Neither the log nor a repr shows the password or the token."""
    from twisted.internet import reactor

    cloud = cloud_of("password", user.auth())
    authorization = await sign_in(reactor, cloud)
    text = told(cloud, authorization)
    assert "auth/tokens" in text  # the log was on
    # Without the characters that a repr and JSON escape.
    assert PASSWORD.rpartition(" ")[2] not in text
    assert authorization.headers[b"X-Auth-Token"].decode() not in text


def echo_password(standin: Standin) -> None:
    standin.fail(401, '{"error": {"message": "bad password s3cret-value"}}')


def no_fault(standin: Standin) -> None:
    """Change nothing: the credentials themselves are at fault."""


@pytest.mark.parametrize(
    ("auth_type", "auth", "fault"),
    [
        ("v3password", {"user_id": "u", "password": "s3cret-value"}, echo_password),
        (
            "v3applicationcredential",
            {"application_credential_id": "i", "application_credential_secret": "s3cret-value"},
            echo_password,
        ),
        ("v3token", {"token": "s3cret-value"}, echo_password),
        # These are invalid in a header, and the error of requests quotes them.
        ("v1password", {"username": "u", "password": " s3cret-value\n x"}, no_fault),
        ("v1password", {"username": "u", "password": "s3cret-value€"}, no_fault),
        ("v1password", {"username": "u", "pasword": "s3cret-value"}, no_fault),
    ],
)
async def test_nothing_secret_is_told_of_failure(
    auth_type: str,
    auth: dict[str, str],
    fault: Callable[[Standin], None],
    told: Callable[..., str],
) -> None:
    """An error shows no secret, even if Keystone or a library quotes it."""
    from twisted.internet import reactor

    with running_standin() as standin:
        fault(standin)
        url = standin.url.replace("/v3", "/auth/v1.0") if auth_type == "v1password" else standin.url
        settings = {"container": "c", "auth_type": auth_type, "auth": {"auth_url": url, **auth}}
        with pytest.raises((AuthError, ConfigError)) as caught:
            await sign_in(reactor, find_cloud(parse_settings(settings), {}))
    assert isinstance(caught.value, SwiftProviderError)
    assert "s3cret-value" not in told(caught.value)


def test_the_cause_is_not_shown_either(told: Callable[..., str]) -> None:
    """The traceback of a failed sign-in does not include the library error that quotes it."""
    auth = {"auth_url": "http://127.0.0.1:1/", "username": "u", "password": " s3cret-value"}
    cloud = Cloud(name=None, auth_type="v1password", auth_options=auth)
    with pytest.raises(AuthError) as caught:
        Keystone(cloud, connect_timeout=5.0, response_timeout=5.0).sign_in()
    assert "InvalidHeader" in str(caught.value)
    assert "s3cret-value" not in told(caught.value)


async def test_environment(keystone: Server, user: Credentials) -> None:
    """OS_* variables alone are enough to sign in."""
    from twisted.internet import reactor

    environ = {
        **user.environment(region=REGIONS[0]),
        "OS_OBJECT_STORE_SERVICE_TYPE": SERVICE,
        "HOME": "/nonexistent",
    }
    cloud = find_cloud(parse_settings({"container": "c"}), environ)
    belongs_to(keystone, await sign_in(reactor, cloud), user.project_id)
