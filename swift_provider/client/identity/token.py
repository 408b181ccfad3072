"""The one token of this process: fetched once for all, renewed in time.

Decides when to sign in and when not to; ``keystone`` does it, in a thread.
Uses no timers: everything is decided when somebody asks, so there is nothing
to stop at the end.

============================  =========================================================
the token in hand             what who asks gets
============================  =========================================================
good                          this token
good, but soon to end         this token; one renewal starts behind the scenes
none, ended, or rejected      waits for one sign-in, shared by all
any, within a pause           the token if it is good, else the error that began the pause
============================  =========================================================

A pause begins when Keystone fails, asks to slow down or refuses, and when
Swift rejects one token after the other. Pauses grow while this goes on.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from swift_provider.client.identity.clouds import Cloud
from swift_provider.client.identity.keystone import Grant, Keystone
from swift_provider.client.observer import Observer
from swift_provider.errors import AuthError, AuthUnavailableError, ConfigError

logger = logging.getLogger(__name__)

#: A token is renewed this long before its end, or a tenth of its life if that is less.
RENEWAL_SECONDS = 60.0
RENEWAL_SHARE = 0.1

FIRST_PAUSE_SECONDS = 1.0
#: After a refusal a person has to act, and Keystone may lock a user who fails often.
FIRST_REFUSAL_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
#: The longest that Keystone's ``Retry-After`` is followed.
LONGEST_RETRY_AFTER_SECONDS = 300.0

#: A token that Swift rejects is replaced at once, but its replacement is not if
#: Swift rejects that within this time.
FIRST_REJECTION_SECONDS = 5.0


@dataclass(frozen=True)
class Authorization:
    """What to send with a request, and where to.

    ``headers`` is empty if no sign-in is needed. ``storage_url`` has no slash at
    its end. ``issued_at`` is the reactor's time, in seconds.
    """

    headers: Mapping[bytes, bytes] = field(repr=False)
    storage_url: str
    issued_at: float


@dataclass(frozen=True)
class _Token:
    """An authorization and, by the reactor's time, when to renew it and when it ends."""

    authorization: Authorization
    renew_at: float
    ends_at: float


@dataclass(frozen=True)
class _Pause:
    began_at: float
    seconds: float
    reason: Exception

    def left(self, now: float) -> float:
        """Seconds to wait; 0 if it is over, or if the clock was set back meanwhile."""
        return max(0.0, self.began_at + self.seconds - now) if now >= self.began_at else 0.0


class _Clock(Protocol):
    """The part of a reactor that is needed here."""

    def seconds(self) -> float:
        """The time, in seconds."""


class Authenticator:
    """Holds the token. Made and used on the reactor's thread.

    :param run_in_thread: called with a function; its Deferred fires with what
        the function returns.
    :param connect_timeout: seconds for each connection to Keystone.
    :param response_timeout: seconds of silence that are allowed in its answer.
    :raises ConfigError: if the cloud's options do not suit its sign-in method.
    """

    def __init__(
        self,
        reactor: _Clock,
        cloud: Cloud,
        run_in_thread: Callable[..., Deferred[Any]],
        *,
        observer: Observer,
        connect_timeout: float,
        response_timeout: float,
    ) -> None:
        self._reactor = reactor
        self._run_in_thread = run_in_thread
        self._observer = observer
        self._keystone = Keystone(cloud, connect_timeout, response_timeout)
        self._token: _Token | None = None
        self._signing_in = False
        self._waiting: list[Deferred[Authorization]] = []
        self._failures = 0
        self._pause: _Pause | None = None
        self._rejected_at = float("-inf")
        self._rejection_seconds = FIRST_REJECTION_SECONDS

    async def authorize(self) -> Authorization:
        """The current authorization; signs in if there is none.

        Cancelling stops the waiting of this caller only.

        :raises AuthUnavailableError: if Keystone cannot be reached or is
            overloaded, or Swift rejects one token after the other (Ceph RGW does
            while it cannot reach Keystone); its ``retry_after`` says when
            Keystone will be asked again.
        :raises AuthError: if Keystone refuses.
        :raises ConfigError: if a setting cannot be right.
        """
        now = self._reactor.seconds()
        pause = self._pause if self._pause is not None and self._pause.left(now) else None
        if self._token is not None and now < self._token.ends_at:
            if now >= self._token.renew_at and pause is None:
                self._start()
            return self._token.authorization
        if pause is not None and not self._signing_in:
            raise _again(pause.reason, pause.left(now))
        waiter: Deferred[Authorization] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        self._start()
        return await waiter

    def is_current(self, authorization: Authorization) -> bool:
        """Whether :meth:`authorize` would still give this one, its end aside."""
        return self._token is not None and self._token.authorization is authorization

    def reject(self, authorization: Authorization) -> None:
        """Swift answered 401: forget it, unless it was replaced already."""
        if not self.is_current(authorization):
            return
        self._token = None
        now = self._reactor.seconds()
        since_last, self._rejected_at = now - self._rejected_at, now
        if since_last >= self._rejection_seconds:
            self._rejection_seconds = FIRST_REJECTION_SECONDS
            return
        # Another token would fare no better, and asking for one each time would
        # turn every request into a sign-in.
        self._begin_pause(
            self._rejection_seconds,
            AuthUnavailableError(
                "Swift rejects a token that Keystone has just issued: check storage_url, "
                "or ask the cloud's operator whether Swift and Keystone agree"
            ),
        )
        self._rejection_seconds = min(2 * self._rejection_seconds, LONGEST_PAUSE_SECONDS)

    def _start(self) -> None:
        if self._signing_in:
            return
        self._signing_in = True
        started = self._reactor.seconds()
        running = maybeDeferred(self._run_in_thread, self._keystone.sign_in)
        running.addCallback(self._granted, started)
        running.addErrback(self._failed)

    def _granted(self, grant: Grant, started: float) -> None:
        # Counted from the question, not the answer, to be on the safe side; a
        # life of nothing at all would mean a sign-in for each request.
        life = float("inf") if grant.lifetime is None else grant.lifetime
        life = max(life, FIRST_REJECTION_SECONDS)
        authorization = Authorization(grant.headers, grant.storage_url, self._reactor.seconds())
        self._token = _Token(
            authorization,
            renew_at=started + life - min(RENEWAL_SECONDS, life * RENEWAL_SHARE),
            ends_at=started + life,
        )
        self._failures = 0
        self._pause = None
        self._signing_in = False
        logger.debug("Signed in; Swift is at %s", grant.storage_url)
        self._observer.signed_in(None)
        for waiter in self._take_waiting():
            waiter.callback(authorization)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, (AuthError, ConfigError)):
            error = AuthError(f"cannot sign in: {type(error).__name__}")
        seconds = self._next_pause(error)
        waiting = self._take_waiting()
        # A refusal is final for those who wait, and they say so themselves.
        if error.temporary or not waiting:
            known = self._pause is not None and str(self._pause.reason) == str(error)
            reason = "for the same reason" if known else error
            logger.warning("Cannot sign in, no other try for %.0f s: %s", seconds, reason)
        self._begin_pause(seconds, error)
        self._signing_in = False
        self._observer.signed_in(error)
        for waiter in waiting:
            waiter.errback(_again(error, seconds))

    def _next_pause(self, error: Exception) -> float:
        unavailable = isinstance(error, AuthUnavailableError)
        first = FIRST_PAUSE_SECONDS if unavailable else FIRST_REFUSAL_PAUSE_SECONDS
        longest = min(first * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        asked = error.retry_after if isinstance(error, AuthUnavailableError) else None
        # Workers that failed together should not come back together.
        jittered = longest * random.uniform(0.5, 1.0)
        return max(jittered, min(asked or 0.0, LONGEST_RETRY_AFTER_SECONDS))

    def _begin_pause(self, seconds: float, reason: Exception) -> None:
        now = self._reactor.seconds()
        if self._pause is None or self._pause.left(now) < seconds:
            self._pause = _Pause(now, seconds, reason)

    def _take_waiting(self) -> list[Deferred[Authorization]]:
        """Those who wait now; who asks again when woken waits for the next time.

        Cancelling removes a waiter from the list that it was put in: one who is
        cancelled by another's waking is gone before its turn.
        """
        waiting, self._waiting = self._waiting, []
        return waiting


def _again(error: Exception, seconds: float) -> Exception:
    """A new error for each who asks: one instance would gather all their tracebacks."""
    if isinstance(error, AuthUnavailableError):
        return AuthUnavailableError(str(error), retry_after=seconds)
    return type(error)(str(error))
