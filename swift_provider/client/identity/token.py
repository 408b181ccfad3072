"""Holds the one token of this process: signs in once for all callers, renews in time.

Decides when to sign in; ``keystone`` signs in, in a thread. Every decision falls when a
caller asks. The only timer limits a sign-in, so nothing has to be stopped at the end.

=============================  =============================================================
state of the token             what a caller gets
=============================  =============================================================
good                           the token
good, but due for renewal      the token; one renewal starts in the background
none, expired or rejected      the result of one sign-in, for which all callers wait together
any of these, during a pause   the token if it is good; otherwise the error that began the
                               pause, unless a sign-in is in flight
=============================  =============================================================

A pause begins when Keystone is unreachable, answers with an error or refuses the
credentials, and when Swift rejects two tokens in quick succession. During a
pause no sign-in starts. Pauses grow from one failure to the next.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from swift_provider.client.identity.clouds import Cloud
from swift_provider.client.identity.keystone import Grant, Keystone
from swift_provider.client.observer import Observer
from swift_provider.errors import AuthError, AuthUnavailableError, ConfigError

logger = logging.getLogger(__name__)

#: Renew a token this long before it expires, or a tenth of its lifetime if that is less.
RENEWAL_SECONDS = 60.0
RENEWAL_SHARE = 0.1

FIRST_PAUSE_SECONDS = 1.0
#: Longer after a refusal: a person has to act, and Keystone may lock out a user after
#: several failures.
FIRST_REFUSAL_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
#: The longest pause that Keystone can ask for with ``Retry-After``.
LONGEST_RETRY_AFTER_SECONDS = 300.0

#: A pause begins if Swift rejects two tokens within this time. Its length is the same,
#: and both double while the rejections go on.
FIRST_REJECTION_SECONDS = 5.0

#: The least lifetime that a token is taken to have. A lifetime of 0 would mean a sign-in
#: for each request.
SHORTEST_LIFETIME_SECONDS = 5.0


@dataclass(frozen=True)
class Authorization:
    """Where to send a request, and the headers that authorize it.

    :ivar headers: empty if no sign-in is needed.
    :ivar storage_url: has no slash at its end.
    """

    headers: Mapping[bytes, bytes] = field(repr=False)
    storage_url: str


@dataclass(frozen=True)
class _Token:
    """An authorization, and the reactor's times at which to renew it and at which it expires."""

    authorization: Authorization
    renew_at: float
    expires_at: float


@dataclass(frozen=True)
class _Pause:
    began_at: float
    seconds: float
    reason: Exception

    def left(self, now: float) -> float:
        """The seconds that remain; 0 if the clock was set back to before the pause."""
        return max(0.0, self.began_at + self.seconds - now) if now >= self.began_at else 0.0


class Authenticator:
    """Holds the token. Use it from the reactor's thread only.

    :param run_in_thread: runs a function in a thread; its Deferred fires with the
        function's result.
    :param connect_timeout: seconds to wait for a connection to Keystone.
    :param response_timeout: seconds to wait for the next bytes of its answer.
    :raises ConfigError: if the cloud's options do not suit its sign-in method.
    """

    def __init__(
        self,
        reactor: IReactorTime,
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
        self._make_keystone = partial(Keystone, cloud, connect_timeout, response_timeout)
        self._keystone = self._make_keystone()
        self._token: _Token | None = None
        self._signing_in = False
        self._waiting: list[Deferred[Authorization]] = []
        self._failures = 0
        self._pause: _Pause | None = None
        self._rejected_at = float("-inf")
        self._rejection_seconds = FIRST_REJECTION_SECONDS

    async def authorize(self) -> Authorization:
        """The current authorization; signs in if there is none.

        Cancelling ends the wait of this caller only; the sign-in goes on.

        :raises AuthUnavailableError: if Keystone is unreachable or overloaded, or if
            Swift keeps rejecting new tokens, as Ceph RGW does while it cannot reach
            Keystone. Its ``retry_after`` is the time until the pause ends.
        :raises AuthError: if Keystone refuses, or has no matching endpoint of Swift.
        :raises ConfigError: if a setting cannot be right.
        """
        now = self._reactor.seconds()
        pause = self._pause if self._pause is not None and self._pause.left(now) else None
        if self._token is not None and now < self._token.expires_at:
            if now >= self._token.renew_at and pause is None:
                self._start()
            return self._token.authorization
        if pause is not None and not self._signing_in:
            raise _copy(pause.reason, pause.left(now))
        waiter: Deferred[Authorization] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        self._start()
        return await waiter

    def is_current(self, authorization: Authorization) -> bool:
        """Whether this is the latest authorization, and was not rejected. It may have expired."""
        return self._token is not None and self._token.authorization is authorization

    def reject(self, authorization: Authorization) -> None:
        """Forget an authorization that Swift answered with 401.

        Does nothing if it was already replaced.
        """
        if not self.is_current(authorization):
            return
        self._token = None
        now = self._reactor.seconds()
        since_last, self._rejected_at = now - self._rejected_at, now
        if not 0 <= since_last < self._rejection_seconds:  # The clock may have been set back.
            self._rejection_seconds = FIRST_REJECTION_SECONDS
            return
        # Swift would probably reject the next token too, and each request would begin
        # with a sign-in.
        self._begin_pause(
            self._rejection_seconds,
            AuthUnavailableError(
                "Swift rejects a token that Keystone has just issued: check storage_url, "
                "or ask the cloud's operator why Swift does not accept Keystone's tokens",
                reached=True,
            ),
        )
        self._rejection_seconds = min(2 * self._rejection_seconds, LONGEST_PAUSE_SECONDS)

    def _start(self) -> None:
        if self._signing_in:
            return
        self._signing_in = True
        started = self._reactor.seconds()
        running = maybeDeferred(self._run_in_thread, self._keystone.sign_in)
        running.addTimeout(self._keystone.seconds, self._reactor, self._sign_in_timed_out)
        running.addCallback(self._granted, started)
        running.addErrback(self._failed)

    def _sign_in_timed_out(self, result: object, seconds: float) -> NoReturn:
        """The thread's own limit is the same. It may end later, such as after a slow search
        for Keystone's address.
        """
        # The thread still uses the old one, and each is for one thread only.
        self._keystone = self._make_keystone()
        raise AuthUnavailableError(f"Keystone did not complete the sign-in within {seconds:g} s")

    def _granted(self, grant: Grant, started: float) -> None:
        lifetime = float("inf") if grant.lifetime is None else grant.lifetime
        lifetime = max(lifetime, SHORTEST_LIFETIME_SECONDS)
        # Keystone issued the token some time after the sign-in started, so counting
        # from the start errs on the safe side.
        expires_at = started + lifetime
        authorization = Authorization(grant.headers, grant.storage_url)
        self._token = _Token(
            authorization,
            renew_at=expires_at - min(RENEWAL_SECONDS, lifetime * RENEWAL_SHARE),
            expires_at=expires_at,
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
        # A refusal is final, so the waiting callers report it themselves.
        if error.temporary or not waiting:
            if self._pause is not None and str(self._pause.reason) == str(error):
                logger.warning("Still cannot sign in; retrying in %.0f s", seconds)
            else:
                logger.warning("Cannot sign in; retrying in %.0f s: %s", seconds, error)
        self._begin_pause(seconds, error)
        self._signing_in = False
        self._observer.signed_in(error)
        for waiter in waiting:
            waiter.errback(_copy(error, seconds))

    def _next_pause(self, error: Exception) -> float:
        unavailable = isinstance(error, AuthUnavailableError)
        first = FIRST_PAUSE_SECONDS if unavailable else FIRST_REFUSAL_PAUSE_SECONDS
        longest = min(first * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        asked = error.retry_after if isinstance(error, AuthUnavailableError) else None
        # Random, so that workers that failed at the same time do not retry at the same time.
        jittered = longest * random.uniform(0.5, 1.0)
        return max(jittered, min(asked or 0.0, LONGEST_RETRY_AFTER_SECONDS))

    def _begin_pause(self, seconds: float, reason: Exception) -> None:
        now = self._reactor.seconds()
        if self._pause is None or self._pause.left(now) < seconds:
            self._pause = _Pause(now, seconds, reason)

    def _take_waiting(self) -> list[Deferred[Authorization]]:
        """Empty the list of waiting callers and return it.

        A caller that asks again when it is woken joins the new list. A waiter that
        is cancelled removes itself from the list returned here, so the loop over
        this list does not reach it.
        """
        waiting, self._waiting = self._waiting, []
        return waiting


def _copy(error: Exception, seconds: float) -> Exception:
    """An error for one caller: a shared instance would collect the tracebacks of all.

    :param seconds: the time until the pause ends.
    """
    if isinstance(error, AuthUnavailableError):
        return AuthUnavailableError(str(error), retry_after=seconds, reached=error.reached)
    return type(error)(str(error))
