"""An authenticator whose clock and thread a test controls, and a stand-in for Keystone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from swift_provider.client.identity.clouds import Cloud
from swift_provider.client.identity.token import Authenticator, Authorization
from swift_provider.client.observer import Observer
from tests.client.identity.keystone_standin import Standin


class Thread:
    """Keeps the functions that it is given until :meth:`run`."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._jobs.append((done, function, arguments))
        return done

    @property
    def idle(self) -> bool:
        return not self._jobs

    def leave(self) -> Deferred[Any]:
        """Let the one pending job hang; the test fires its Deferred."""
        ((done, _, _),) = self._jobs
        self._jobs = []
        return done

    def run(self) -> None:
        """Run the one pending job."""
        ((done, function, arguments),) = self._jobs
        self._jobs = []
        try:
            result = function(*arguments)
        except Exception:
            result = Failure()
        done.callback(result)


class Recorder(Observer):
    """Records the result of each sign-in: ``None`` or the error's type."""

    def __init__(self) -> None:
        self.seen: list[type | None] = []

    def signed_in(self, error: Exception | None) -> None:
        self.seen.append(None if error is None else type(error))


@dataclass
class Harness:
    """An authenticator whose clock and thread the test controls."""

    keystone: Standin
    clock: Clock = field(default_factory=Clock)
    thread: Thread = field(default_factory=Thread)
    observer: Recorder = field(default_factory=Recorder)
    auth: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        self.sign_in_to()

    def sign_in_to(self, response_timeout: float = 10.0, **cloud: Any) -> None:
        """Make a new authenticator.

        :param cloud: fields of :class:`Cloud` that differ from the default.
        """
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
        """Ask for the authorization; the list receives it, or the error."""
        came: list[Any] = []
        asked = ensureDeferred(self.auth.authorize())
        asked.addCallbacks(came.append, lambda failure: came.append(failure.value))
        return asked, came

    def get(self) -> Any:
        """The authorization or the error; runs the sign-in if there is nothing to return yet."""
        _, came = self.ask()
        if not came:
            self.thread.run()
        (result,) = came
        return result

    def token(self) -> str:
        """The token of the current authorization."""
        return self.get().headers[b"X-Auth-Token"].decode()
