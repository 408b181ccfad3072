"""When the one token is fetched, renewed and given up; against a stand-in of Keystone."""

from __future__ import annotations

import base64
import email.utils
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from swift_provider.client.identity.clouds import Cloud
from swift_provider.client.identity.token import Authenticator, Authorization
from swift_provider.client.observer import Observer
from swift_provider.errors import AuthError, AuthUnavailableError, ConfigError
from tests.client.identity.keystone_standin import (
    OAUTH2_TOKEN,
    STORAGE_URL,
    Standin,
    endpoint,
    running_standin,
)
from tests.servers import process


class Thread:
    """Runs what it is given when told to; ``idle`` if nothing is under way."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._jobs.append((done, function, arguments))
        return done

    @property
    def idle(self) -> bool:
        return not self._jobs

    def run(self) -> None:
        """Do the one job there is."""
        ((done, function, arguments),) = self._jobs
        self._jobs = []
        try:
            result = function(*arguments)
        except Exception:
            result = Failure()
        done.callback(result)


class Recorder(Observer):
    def __init__(self) -> None:
        self.seen: list[type | None] = []

    def signed_in(self, error: Exception | None) -> None:
        self.seen.append(None if error is None else type(error))


@dataclass
class House:
    """An authenticator with its clock and thread in the test's hands."""

    keystone: Standin
    clock: Clock = field(default_factory=Clock)
    thread: Thread = field(default_factory=Thread)
    observer: Recorder = field(default_factory=Recorder)
    auth: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        self.sign_in_to()

    def sign_in_to(self, response_timeout: float = 10.0, **cloud: Any) -> None:
        """Start anew with another cloud; ``cloud`` are fields of :class:`Cloud`."""
        options = {"auth_url": self.keystone.url, "user_id": "u", "password": "pa55"}
        described: dict[str, Any] = {"auth_type": "v3password", "auth_options": options, **cloud}
        self.auth = Authenticator(
            self.clock,
            Cloud(name="c", **described),
            self.thread,
            observer=self.observer,
            connect_timeout=5.0,
            response_timeout=response_timeout,
        )

    def ask(self) -> tuple[Deferred[Authorization], list[Any]]:
        """Ask for the authorization; what comes, or the error, is put on the list."""
        came: list[Any] = []
        asked = ensureDeferred(self.auth.authorize())
        asked.addCallbacks(came.append, lambda failure: came.append(failure.value))
        return asked, came

    def get(self) -> Any:
        """The authorization or the error, doing the sign-in if one starts."""
        _, came = self.ask()
        if not came:
            self.thread.run()
        (result,) = came
        return result

    def token(self) -> str:
        """The token itself."""
        return self.get().headers[b"X-Auth-Token"].decode()


@pytest.fixture
def house() -> Iterator[House]:
    with running_standin() as keystone:
        yield House(keystone)


def test_one_sign_in_for_all(house: House) -> None:
    """Everyone who asks meanwhile gets the one token that is being fetched."""
    waiting = [house.ask()[1] for _ in range(20)]
    house.thread.run()
    assert {came[0].headers[b"X-Auth-Token"] for came in waiting} == {b"token-1"}
    assert house.token() == "token-1"
    assert house.keystone.sign_ins == 1
    assert house.observer.seen == [None]


def test_the_url_is_the_catalogues(house: House) -> None:
    """The URL is taken as it is, without the slash at its end, and nothing is sent there."""
    assert house.get().storage_url == STORAGE_URL
    assert house.keystone.paths == ["/v3/auth/tokens"]


def test_cancelling_one_leaves_the_others(house: House) -> None:
    """Who gives up hears so at once; the others get the token."""
    first, first_came = house.ask()
    _, second_came = house.ask()
    first.cancel()
    assert isinstance(first_came[0], CancelledError)
    house.thread.run()
    assert second_came[0].headers == {b"X-Auth-Token": b"token-1"}


def test_cancelling_all_wastes_no_sign_in(house: House) -> None:
    """A token that nobody waits for any more serves the next who asks."""
    house.ask()[0].cancel()
    house.thread.run()
    assert house.token() == "token-1"
    assert house.keystone.sign_ins == 1


def test_a_waiter_that_cancels_another(house: House) -> None:
    """One who is woken may cancel the next in line, and the rest are still woken."""
    first, _ = house.ask()
    second, second_came = house.ask()
    _, third_came = house.ask()
    first.addCallback(lambda _: second.cancel())
    house.thread.run()
    assert isinstance(second_came[0], CancelledError)
    assert isinstance(third_came[0], Authorization)


@pytest.mark.parametrize(("lifetime", "skew"), [(300.0, 30.0), (3600.0, 60.0)])
def test_renewed_ahead_of_its_end(house: House, lifetime: float, skew: float) -> None:
    """A minute or a tenth of its life before its end, one renewal runs behind the old token."""
    house.keystone.lifetime = lifetime
    assert house.token() == "token-1"
    house.clock.advance(lifetime - skew - 1)
    assert house.token() == "token-1"
    assert house.thread.idle
    house.clock.advance(2)
    assert [house.token() for _ in range(5)] == ["token-1"] * 5
    house.thread.run()
    assert house.token() == "token-2"
    assert house.keystone.sign_ins == 2


def test_an_ended_token_is_not_served(house: House) -> None:
    """After its end, who asks waits for the next one."""
    assert house.token() == "token-1"
    house.clock.advance(3600)
    _, came = house.ask()
    assert not came
    house.thread.run()
    assert came[0].headers == {b"X-Auth-Token": b"token-2"}


def test_no_end_is_no_renewal(house: House) -> None:
    """A token without an end is kept for good."""
    house.keystone.lifetime = None
    house.keystone.url = house.keystone.url.replace("/v3", "/auth/v1.0")
    options = {"auth_url": house.keystone.url, "username": "a:u", "password": "k"}
    house.sign_in_to(auth_type="v1password", auth_options=options)
    assert house.token() == "v1-1"
    house.clock.advance(10**9)
    assert house.token() == "v1-1"


def test_a_token_that_has_ended_when_it_comes(house: House) -> None:
    """A lifetime of nothing does not turn every request into a sign-in."""
    house.keystone.lifetime = 0.0
    assert [house.token() for _ in range(10)] == ["token-1"] * 10


def test_a_failing_renewal_does_no_harm(house: House) -> None:
    """While the old token is good it is served, with pauses between the tries to renew it."""
    house.get()
    house.clock.advance(3600 - 50)
    house.keystone.fail(503, Retry_After="20")
    assert house.token() == "token-1"
    house.thread.run()
    house.clock.advance(15)
    assert house.token() == "token-1"
    assert house.thread.idle
    house.clock.advance(6)
    assert house.token() == "token-1"
    house.thread.run()
    assert house.token() == "token-3"


def http_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("40", 40, 40), ("99999", 300, 300), (http_date(200), 100, 200), ("soon", 0.5, 1)],
)
def test_keystone_asks_to_wait(house: House, asked: str, low: float, high: float) -> None:
    """For as long as Keystone asks, up to five minutes, all fail at once and nobody asks it."""
    house.keystone.fail(429, Retry_After=asked)
    error = house.get()
    assert isinstance(error, AuthUnavailableError)
    assert error.temporary
    assert low <= error.retry_after <= high
    house.clock.advance(error.retry_after - 0.25)
    again = house.get()
    assert isinstance(again, AuthUnavailableError)
    assert again.retry_after == pytest.approx(0.25)
    house.clock.advance(0.3)
    assert house.token() == "token-2"


def test_pauses_grow(house: House) -> None:
    """Each failure in a row doubles the pause, to a minute at most; a success ends that."""
    waits = []
    for _ in range(9):
        house.keystone.fail(500)
        error = house.get()
        waits.append(error.retry_after)
        house.clock.advance(error.retry_after)
    limits = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))
    assert waits != limits  # there is chance in them
    house.get()
    house.clock.advance(3600)
    house.keystone.fail(500)
    assert house.get().retry_after <= 1


def test_a_clock_that_is_set_back(house: House) -> None:
    """A pause does not last until the clock is where it was."""
    house.clock.advance(10_000)
    house.keystone.fail(503)
    assert isinstance(house.get(), AuthUnavailableError)
    house.clock.rightNow = 0
    assert house.token() == "token-2"


def test_refused_credentials(house: House) -> None:
    """A refusal is final, tells which cloud, and is not asked for again for some seconds."""
    house.keystone.fail(401, '{"error": {"message": "No such user.", "code": 401}}')
    error = house.get()
    assert type(error) is AuthError
    assert not error.temporary
    assert "refuses the cloud 'c': No such user." in str(error)
    house.clock.advance(2)
    assert str(house.get()) == str(error)
    assert house.keystone.sign_ins == 1
    house.clock.advance(4)
    assert house.token() == "token-2"
    assert house.observer.seen == [AuthError, None]


def test_unreachable(house: House) -> None:
    """Nothing listening is temporary; the address, the reason and what to check are said once."""
    url = f"http://127.0.0.1:{process.free_port()}/v3"
    house.sign_in_to(auth_options={"auth_url": url, "user_id": "u", "password": "p"})
    error = house.get()
    assert isinstance(error, AuthUnavailableError)
    assert str(error) == (
        f"Keystone at {url} cannot be reached: Connection refused (check auth_url and the network)"
    )


def test_unreachable_proxy(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that is to be checked if nothing listens there."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{process.free_port()}")
    url = "http://keystone.example.org:5000/v3"
    house.sign_in_to(auth_options={"auth_url": url, "user_id": "u", "password": "p"})
    error = house.get()
    assert isinstance(error, AuthUnavailableError)
    assert str(error) == (
        f"Keystone at {url} cannot be reached through the proxy: Connection refused "
        "(check HTTP_PROXY, HTTPS_PROXY and NO_PROXY)"
    )


def test_what_the_log_says(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The log has each failure that another try may mend, its reason once, and no refusal
    that somebody is told of anyway.
    """

    def said() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    for _ in range(2):
        house.keystone.fail(503, Retry_After="40")
        house.get()
        house.clock.advance(40)
    first, second = said()
    assert first.startswith("Cannot sign in, no other try for 40 s: Keystone at http://")
    assert second == "Cannot sign in, no other try for 40 s: for the same reason"
    house.keystone.fail(401)
    assert type(house.get()) is AuthError
    assert said() == []
    house.clock.advance(40)
    house.get()
    house.clock.advance(3600 - 50)
    house.keystone.fail(401)
    house.get()
    house.thread.run()
    (alone,) = said()
    assert "refuses the cloud 'c'" in alone


@pytest.mark.parametrize("auth_type", ["v3password", "password"])
def test_slow(house: House, auth_type: str) -> None:
    """Silence ends after the time limit, and is temporary."""
    options = {"auth_url": house.keystone.url, "user_id": "u", "password": "p"}
    house.sign_in_to(response_timeout=0.2, auth_type=auth_type, auth_options=options)
    house.keystone.going.clear()
    assert isinstance(house.get(), AuthUnavailableError)


def test_overloaded_while_discovering(house: House) -> None:
    """A fault during the discovery of Keystone's versions is as temporary as any other."""
    url = house.keystone.url.replace("/v3", "/faulty")
    options = {"auth_url": url, "user_id": "u", "password": "p"}
    house.sign_in_to(auth_type="password", auth_options=options)
    house.keystone.fail(429, Retry_After="40")
    error = house.get()
    assert isinstance(error, AuthUnavailableError)
    assert error.retry_after == 40


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (201, "{}"), (404, "{}"), (400, '{"error": "?"}')]
)
def test_something_else_answers(house: House, status: int, body: str) -> None:
    """Answers that are not Keystone's are an error that names the URL."""
    house.keystone.fail(status, body)
    error = house.get()
    assert type(error) is AuthError
    assert house.keystone.url in str(error)


def test_rejected_token(house: House) -> None:
    """A token that Swift rejects is replaced, once, however many come with it."""
    old = house.get()
    house.clock.advance(60)
    assert house.auth.is_current(old)
    house.auth.reject(old)
    assert not house.auth.is_current(old)
    new = house.get()
    assert new.headers == {b"X-Auth-Token": b"token-2"}
    assert (old.issued_at, new.issued_at) == (0, 60)
    for _ in range(10):
        house.auth.reject(old)
    assert house.auth.is_current(new)
    assert house.keystone.sign_ins == 2


def test_swift_rejects_a_new_token_once(house: House) -> None:
    """A token that Swift rejects is replaced at once, however new it is."""
    first = house.get()
    house.auth.reject(first)
    second = house.get()
    assert isinstance(second, Authorization)
    assert second is not first
    assert house.keystone.sign_ins == 2


def test_swift_rejects_everything(house: House) -> None:
    """New tokens that are rejected at once lead to few sign-ins, ever fewer, and an error."""
    for _ in range(600):
        came = house.get()
        if isinstance(came, Authorization):
            house.auth.reject(came)
        else:
            assert isinstance(came, AuthUnavailableError), "it may pass, so others may wait"
            assert "Swift rejects a token that Keystone has just issued" in str(came)
        house.clock.advance(0.1)
    assert house.keystone.sign_ins == 5  # after 0, 0.1, 5, 15 and 35 seconds
    house.clock.advance(60)
    house.get()
    house.clock.advance(120)
    house.auth.reject(house.get())
    assert isinstance(house.get(), Authorization)


def test_a_rejection_does_not_shorten_keystones_pause(house: House) -> None:
    """Keystone's request to wait holds, also when Swift rejects the old token meanwhile."""
    house.keystone.lifetime = 5.0
    token = house.get()
    house.clock.advance(4.6)
    house.keystone.fail(429, Retry_After="100")
    house.get()
    house.thread.run()
    house.auth.reject(token)
    house.clock.advance(50)
    assert isinstance(house.get(), AuthUnavailableError)
    assert house.keystone.sign_ins == 2


def test_none(house: House) -> None:
    """The plugin that signs in with nothing sends nothing, and wants a URL."""
    house.sign_in_to(auth_type="none", auth_options={}, storage_url=STORAGE_URL)
    assert house.get() == Authorization({}, STORAGE_URL, 0)
    house.sign_in_to(auth_type="none", auth_options={})
    error = house.get()
    assert isinstance(error, ConfigError)
    assert "storage_url" in str(error)


def test_http_basic(house: House) -> None:
    """User and password go into a Basic header."""
    options = {"username": "u", "password": "pä", "endpoint": STORAGE_URL + "/"}
    house.sign_in_to(auth_type="http_basic", auth_options=options)
    expected = b"Basic " + base64.b64encode("u:pä".encode())
    assert house.get() == Authorization({b"Authorization": expected}, STORAGE_URL, 0)


def test_v1password(house: House) -> None:
    """Swift's own sign-in gives token, URL and lifetime by headers."""
    url = house.keystone.url.replace("/v3", "/auth/v1.0")
    house.keystone.lifetime = 300
    options = {"auth_url": url, "username": "a:u", "password": "k"}
    house.sign_in_to(auth_type="v1password", auth_options=options, region_name="any")
    assert house.get() == Authorization({b"X-Auth-Token": b"v1-1"}, STORAGE_URL, 0)
    house.clock.advance(299.5)
    house.get()
    house.thread.run()
    assert house.token() == "v1-2"


def test_oauth2(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin's own headers are sent too, and the token in their answer is not logged."""
    caplog.set_level(logging.DEBUG)
    options = {
        "auth_url": house.keystone.url,
        "oauth2_endpoint": house.keystone.url.replace("/v3", "/oauth2"),
        "oauth2_client_id": "i",
        "oauth2_client_secret": "client-secret",
    }
    house.sign_in_to(auth_type="v3oauth2clientcredential", auth_options=options)
    assert house.get().headers == {
        b"X-Auth-Token": b"token-1",
        b"Authorization": b"Bearer " + OAUTH2_TOKEN.encode(),
    }
    assert "auth/tokens" in caplog.text
    assert OAUTH2_TOKEN not in caplog.text
    assert "client-secret" not in caplog.text


def test_discovery(house: House) -> None:
    """The plain method finds the v3 API by itself, and signs in."""
    options = {"auth_url": house.keystone.url, "user_id": "u", "password": "p"}
    house.sign_in_to(auth_type="password", auth_options=options)
    assert house.token() == "token-1"


TWO_REGIONS = [
    endpoint("https://gra.example/v1", "GRA"),
    endpoint("https://gra.internal/v1", "GRA", "internal"),
    endpoint("https://bhs.example/v1", "BHS"),
]


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
def test_endpoint(house: House, cloud: dict[str, Any], url: str) -> None:
    """Region and interface choose the URL; a URL that is given needs no catalogue."""
    house.keystone.endpoints = TWO_REGIONS
    house.sign_in_to(**cloud)
    assert house.get().storage_url == url


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
def test_no_endpoint(house: House, cloud: dict[str, Any], said: str) -> None:
    """What the catalogue does have is listed; nothing is guessed."""
    house.keystone.endpoints = TWO_REGIONS
    house.sign_in_to(**cloud)
    error = house.get()
    assert type(error) is AuthError
    assert said in str(error)


def test_one_url_in_two_regions(house: House) -> None:
    """Several regions with the same URL leave nothing to choose."""
    house.keystone.endpoints = [endpoint(STORAGE_URL, "a"), endpoint(STORAGE_URL, "b")]
    assert house.get().storage_url == STORAGE_URL


def test_no_catalogue(house: House) -> None:
    """A token without a project has no catalogue; the message says what to set."""
    house.keystone.endpoints = []
    assert "auth.project_name" in str(house.get())


@pytest.mark.parametrize("field", ["verify", "cert"])
def test_missing_tls_file(house: House, field: str) -> None:
    """A CA or certificate file that is not there is named, and nothing is sent."""
    house.sign_in_to(**{field: "/nowhere.pem"})
    error = house.get()
    assert isinstance(error, ConfigError)
    assert "/nowhere.pem" in str(error)
    assert house.keystone.paths == []


def test_a_broken_thread_pool(house: House) -> None:
    """If no thread can be had, who asks gets an error and not silence."""

    def closed(function: Callable[..., Any]) -> Deferred[Any]:
        raise RuntimeError("closed")

    house.thread = closed  # type: ignore[assignment]
    house.sign_in_to()
    assert isinstance(house.ask()[1][0], AuthError)
