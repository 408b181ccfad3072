"""An account in Swift, asked directly: past the code under test and past any bad network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import requests

from tests.servers import process


class Account:
    """Every method blocks. Thread-safe.

    :param sign_in: returns a new token.
    :param url: the storage URL.
    """

    def __init__(self, sign_in: Callable[[], str], url: str) -> None:
        self._sign_in = sign_in
        self._url = url
        self._token = ""
        self._http = process.local_session()

    def call(
        self,
        method: str,
        container: str,
        name: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> requests.Response | None:
        """Send a request.

        :returns: ``None`` for 404.
        :raises requests.RequestException: if it fails.
        """
        url = f"{self._url}/{container}/{quote(name)}".rstrip("/")
        for last in (False, True):
            sent = {"X-Auth-Token": self._token, **(headers or {})}
            answer = self._http.request(
                method, url, headers=sent, params=params, data=data, timeout=60
            )
            if answer.status_code != 401 or last:
                break
            # A token ends after a while, and TempAuth forgets all when it restarts.
            self._token = self._sign_in()
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer

    def lose(self, container: str, name: str) -> None:
        """Delete an object, as if Swift had lost it; the segments of a large one stay.

        :raises requests.RequestException: if it was not there.
        """
        if self.call("DELETE", container, name) is None:
            raise requests.HTTPError(f"there is no {container}/{name} to lose")

    def content(self, container: str, name: str) -> bytes | None:
        """The whole object; ``None`` if Swift says that there is none."""
        answer = self.call("GET", container, name)
        return None if answer is None else answer.content

    def names(self, container: str) -> set[str]:
        """The names of all objects of a container."""
        names: list[str] = []
        while True:
            marker = {"marker": names[-1]} if names else {}
            page = self.call("GET", container, params={"format": "json", **marker})
            rows = page.json() if page is not None else []
            if not rows:
                return set(names)
            names += [row["name"] for row in rows]


def tempauth_token(auth_url: str, user: str, key: str) -> str:
    """Sign in by Swift's v1 auth.

    :raises requests.RequestException: if it fails.
    """
    with process.local_session() as http:
        answer = http.get(auth_url, headers={"X-Auth-User": user, "X-Auth-Key": key}, timeout=30)
    answer.raise_for_status()
    return answer.headers["X-Auth-Token"]
