"""How a sign-in speaks HTTP: no secret in the log, no foreign host, no end without end.

keystoneauth1 follows redirects to any host and sends the password there. requests limits
each silence but not the whole: an answer of one byte a second holds its thread for days.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from keystoneauth1 import session
from requests.adapters import HTTPAdapter

from swift_provider.errors import AuthError

_MOST_REDIRECTS = 5


class Deadline:
    """Ends the connections of one sign-in when its time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_over = False

    @contextmanager
    def running(self, seconds: float) -> Iterator[None]:
        """Ends the connections that exist after so many seconds, unless left before."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                for duplicate in self._sockets:
                    duplicate.close()
                self._sockets.clear()

    def watch(self, connection: socket.socket) -> None:
        """Add a connection.

        :raises TimeoutError: if the time is over.
        """
        with self._lock:
            if self._is_over:
                raise TimeoutError("the sign-in took too long")
            # TLS takes the descriptor away from this object. A duplicate keeps it.
            self._sockets.append(connection.dup())

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            for duplicate in self._sockets:
                with suppress(OSError):  # closed by the other side
                    # Unlike close(), this wakes the thread that reads.
                    duplicate.shutdown(socket.SHUT_RDWR)


class LimitedAdapter(HTTPAdapter):
    """Opens connections that a deadline ends, with a proxy and without."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if not known:
            self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme.items()
        manager.pool_classes_by_scheme = {
            scheme: _watched_pool(pool, self._deadline) for scheme, pool in pools
        }


def _watched_pool(pool: Any, deadline: Deadline) -> Any:
    """A urllib3 pool class like ``pool``, whose connections ``deadline`` watches."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            connection: socket.socket = super()._new_conn()
            try:
                deadline.watch(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    class Pool(pool):  # type: ignore[misc]
        ConnectionCls = Connection

    return Pool


class KeystoneSession(session.Session):
    """A session that writes no request or answer to the log (some hold a token), and sends
    credentials to no other server than the one that was asked.

    :param time_limits: seconds to wait for a connection, and for the next bytes.
    """

    def __init__(self, *, time_limits: tuple[float, float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._time_limits = time_limits

    def request(self, url: str, method: str, *arguments: Any, **options: Any) -> requests.Response:
        """:raises AuthError: if the server redirects to another one."""
        options["log"] = False
        options.setdefault("timeout", self._time_limits)
        reads_redirects_itself = options.get("redirect") is False
        options["redirect"] = False
        for _ in range(_MOST_REDIRECTS + 1):
            response: requests.Response = super().request(url, method, *arguments, **options)
            if reads_redirects_itself or not response.is_redirect:
                return response
            # keystoneauth1 does the same: the new URL has its own query.
            options.pop("params", None)
            url = _within_origin(response)
        raise AuthError(f"{_shown(urlsplit(url))} redirects in a circle: check auth_url")


def _within_origin(response: requests.Response) -> str:
    """The URL to which a response redirects.

    Also from http to https of one host a redirect is not followed: the password has
    already crossed the network unencrypted, and would again at each sign-in.

    :raises AuthError: if it leads to another scheme, host or port.
    """
    here = urlsplit(response.url)
    try:
        target = urljoin(response.url, response.headers["Location"])
        there = urlsplit(target)
        same = _origin(there) == _origin(here)
    except ValueError:
        raise AuthError(
            f"{_shown(here)} redirects to something that is no URL: check auth_url"
        ) from None
    if not same:
        raise AuthError(
            f"{_shown(here)} redirects to {_shown(there)}. Credentials go only to the server "
            "that auth_url names: if the other one is Keystone, set auth_url to it"
        )
    return target


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.hostname, url.port or default


def _shown(url: SplitResult) -> str:
    """Scheme, host and port: the rest may hold a secret."""
    host = "".join(c for c in url.hostname or "" if "!" <= c <= "~")[:100]
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme}://[{host}]{port}" if ":" in host else f"{url.scheme}://{host}{port}"
