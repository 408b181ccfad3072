"""When the authenticator signs in, renews and drops the token; against a stand-in for Keystone."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from swift_provider.client.identity.token import Authorization
from swift_provider.errors import AuthError, AuthUnavailableError
from tests.client.identity.harness import Harness


def test_one_sign_in_for_all(harness: Harness) -> None:
    """All callers that ask during a sign-in get the token of this sign-in."""
    waiting = [harness.ask()[1] for _ in range(20)]
    harness.thread.run()
    assert {came[0].headers[b"X-Auth-Token"] for came in waiting} == {b"token-1"}
    assert harness.token() == "token-1"
    assert harness.keystone.sign_ins == 1
    assert harness.observer.seen == [None]


def test_cancelling_one_leaves_the_others(harness: Harness) -> None:
    """A cancelled caller ends at once; the other gets the token."""
    first, first_came = harness.ask()
    _, second_came = harness.ask()
    first.cancel()
    assert isinstance(first_came[0], CancelledError)
    harness.thread.run()
    assert second_came[0].headers == {b"X-Auth-Token": b"token-1"}


def test_cancelling_all_wastes_no_sign_in(harness: Harness) -> None:
    """If all callers are cancelled, the next caller gets the token of this sign-in."""
    harness.ask()[0].cancel()
    harness.thread.run()
    assert harness.token() == "token-1"
    assert harness.keystone.sign_ins == 1


def test_a_waiter_that_cancels_another(harness: Harness) -> None:
    """The first caller may cancel the second when it is woken; the third is still woken."""
    first, _ = harness.ask()
    second, second_came = harness.ask()
    _, third_came = harness.ask()
    first.addCallback(lambda _: second.cancel())
    harness.thread.run()
    assert isinstance(second_came[0], CancelledError)
    assert isinstance(third_came[0], Authorization)


@pytest.mark.parametrize(("lifetime", "skew"), [(300.0, 30.0), (3600.0, 60.0)])
def test_renewed_ahead_of_its_end(harness: Harness, lifetime: float, skew: float) -> None:
    """One renewal starts a minute, or a tenth of the lifetime, before the token expires."""
    harness.keystone.lifetime = lifetime
    assert harness.token() == "token-1"
    harness.clock.advance(lifetime - skew - 1)
    assert harness.token() == "token-1"
    assert harness.thread.idle
    harness.clock.advance(2)
    assert [harness.token() for _ in range(5)] == ["token-1"] * 5
    harness.thread.run()
    assert harness.token() == "token-2"
    assert harness.keystone.sign_ins == 2


def test_an_ended_token_is_not_served(harness: Harness) -> None:
    """After the token expires, a caller waits for the next one."""
    assert harness.token() == "token-1"
    harness.clock.advance(3600)
    _, came = harness.ask()
    assert not came
    harness.thread.run()
    assert came[0].headers == {b"X-Auth-Token": b"token-2"}


def test_no_end_is_no_renewal(harness: Harness) -> None:
    """A token that does not expire is not renewed."""
    harness.keystone.lifetime = None
    harness.keystone.url = harness.keystone.url.replace("/v3", "/auth/v1.0")
    options = {"auth_url": harness.keystone.url, "username": "a:u", "password": "k"}
    harness.sign_in_to(auth_type="v1password", auth_options=options)
    assert harness.token() == "v1-1"
    harness.clock.advance(10**9)
    assert harness.token() == "v1-1"


def test_a_token_that_has_ended_when_it_comes(harness: Harness) -> None:
    """A lifetime of 0 does not make every request sign in."""
    harness.keystone.lifetime = 0.0
    assert [harness.token() for _ in range(10)] == ["token-1"] * 10


def test_a_failing_renewal_does_no_harm(harness: Harness) -> None:
    """Callers get the old token while renewals fail, and a pause follows each failure."""
    harness.get()
    harness.clock.advance(3600 - 50)
    harness.keystone.fail(503, Retry_After="20")
    assert harness.token() == "token-1"
    harness.thread.run()
    harness.clock.advance(15)
    assert harness.token() == "token-1"
    assert harness.thread.idle
    harness.clock.advance(6)
    assert harness.token() == "token-1"
    harness.thread.run()
    assert harness.token() == "token-3"


def http_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("40", 40, 40), ("99999", 300, 300), ("in 200 seconds", 100, 200), ("soon", 0.5, 1)],
)
def test_keystone_asks_to_wait(harness: Harness, asked: str, low: float, high: float) -> None:
    """For as long as Keystone asks, at most five minutes, callers fail without a sign-in."""
    # The date is made here: the tests are collected minutes before they run.
    value = http_date(200) if asked == "in 200 seconds" else asked
    harness.keystone.fail(429, Retry_After=value)
    error = harness.get()
    assert isinstance(error, AuthUnavailableError)
    assert error.temporary
    assert low <= error.retry_after <= high
    harness.clock.advance(error.retry_after - 0.25)
    again = harness.get()
    assert isinstance(again, AuthUnavailableError)
    assert again.retry_after == pytest.approx(0.25)
    harness.clock.advance(0.3)
    assert harness.token() == "token-2"


def test_pauses_grow(harness: Harness) -> None:
    """Each failure in a row doubles the pause, up to a minute; a success resets it."""
    waits = []
    for _ in range(9):
        harness.keystone.fail(500)
        error = harness.get()
        waits.append(error.retry_after)
        harness.clock.advance(error.retry_after)
    limits = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))
    assert waits != limits  # the lengths are random
    harness.get()
    harness.clock.advance(3600)
    harness.keystone.fail(500)
    assert harness.get().retry_after <= 1


def test_a_clock_that_is_set_back(harness: Harness) -> None:
    """A clock that is set back ends the pause."""
    harness.clock.advance(10_000)
    harness.keystone.fail(503)
    assert isinstance(harness.get(), AuthUnavailableError)
    harness.clock.rightNow = 0
    assert harness.token() == "token-2"


def test_refused_credentials(harness: Harness) -> None:
    """A refusal is final, names the cloud, and begins a pause of some seconds."""
    harness.keystone.fail(401, '{"error": {"message": "No such user.", "code": 401}}')
    error = harness.get()
    assert type(error) is AuthError
    assert not error.temporary
    assert "refuses the cloud 'c': No such user." in str(error)
    harness.clock.advance(2)
    assert str(harness.get()) == str(error)
    assert harness.keystone.sign_ins == 1
    harness.clock.advance(4)
    assert harness.token() == "token-2"
    assert harness.observer.seen == [AuthError, None]


def test_what_the_log_says(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """The log has each temporary failure, its reason once, and a refusal only if no caller
    waits for the result.
    """

    def said() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    for _ in range(2):
        harness.keystone.fail(503, Retry_After="40")
        harness.get()
        harness.clock.advance(40)
    first, second = said()
    assert first.startswith("Cannot sign in; retrying in 40 s: Keystone at http://")
    assert second == "Still cannot sign in; retrying in 40 s"
    harness.keystone.fail(401)
    assert type(harness.get()) is AuthError
    assert said() == []
    harness.clock.advance(40)
    harness.get()
    harness.clock.advance(3600 - 50)
    harness.keystone.fail(401)
    harness.get()
    harness.thread.run()
    (alone,) = said()
    assert "refuses the cloud 'c'" in alone


def test_rejected_token(harness: Harness) -> None:
    """A rejected token is replaced once, although several requests report it."""
    old = harness.get()
    harness.clock.advance(60)
    assert harness.auth.is_current(old)
    harness.auth.reject(old)
    assert not harness.auth.is_current(old)
    new = harness.get()
    assert new.headers == {b"X-Auth-Token": b"token-2"}
    for _ in range(10):
        harness.auth.reject(old)
    assert harness.auth.is_current(new)
    assert harness.keystone.sign_ins == 2


def test_swift_rejects_a_new_token_once(harness: Harness) -> None:
    """A rejected token is replaced at once, even if it is new."""
    first = harness.get()
    harness.auth.reject(first)
    second = harness.get()
    assert isinstance(second, Authorization)
    assert second is not first
    assert harness.keystone.sign_ins == 2


def test_swift_rejects_everything(harness: Harness) -> None:
    """If Swift rejects every new token, sign-ins become rarer and callers get an error."""
    for _ in range(600):
        came = harness.get()
        if isinstance(came, Authorization):
            harness.auth.reject(came)
        else:
            assert isinstance(came, AuthUnavailableError), "temporary, so that callers retry"
            assert "Swift rejects a token that Keystone has just issued" in str(came)
        harness.clock.advance(0.1)
    assert harness.keystone.sign_ins == 5  # after 0, 0.1, 5, 15 and 35 seconds
    harness.clock.advance(60)
    harness.get()
    harness.clock.advance(120)
    harness.auth.reject(harness.get())
    assert isinstance(harness.get(), Authorization)


def test_a_rejection_after_the_clock_was_set_back(harness: Harness) -> None:
    """It is not the second in quick succession."""
    harness.clock.advance(36_000)
    harness.auth.reject(harness.get())
    second = harness.get()
    harness.clock.rightNow -= 30_000
    harness.auth.reject(second)
    assert isinstance(harness.get(), Authorization)


def test_a_rejection_does_not_shorten_keystones_pause(harness: Harness) -> None:
    """Keystone's request to wait still holds if Swift rejects the old token during it."""
    harness.keystone.lifetime = 5.0
    token = harness.get()
    harness.clock.advance(4.6)
    harness.keystone.fail(429, Retry_After="100")
    harness.get()
    harness.thread.run()
    harness.auth.reject(token)
    harness.clock.advance(50)
    assert isinstance(harness.get(), AuthUnavailableError)
    assert harness.keystone.sign_ins == 2


def test_a_broken_thread_pool(harness: Harness) -> None:
    """If the thread pool is closed, a caller gets an error."""

    def closed(function: Callable[..., Any]) -> Deferred[Any]:
        raise RuntimeError("closed")

    harness.thread = closed  # type: ignore[assignment]
    harness.sign_in_to()
    assert isinstance(harness.ask()[1][0], AuthError)


def test_a_keystone_that_trickles(harness: Harness) -> None:
    """A sign-in that never ends fails after a limit, and the next one does not wait for it."""
    harness.sign_in_to(response_timeout=10.0)
    _, came = harness.ask()
    hanging = harness.thread.leave()
    harness.clock.advance(3 * 15.0)
    (error,) = came
    assert isinstance(error, AuthUnavailableError)
    assert "within 45 s" in str(error)
    harness.clock.advance(60)
    assert isinstance(harness.get(), Authorization)
    hanging.callback(None)  # what comes of the first sign-in does not count any more
    assert isinstance(harness.get(), Authorization)
    assert harness.keystone.sign_ins == 1
    assert harness.clock.getDelayedCalls() == []
