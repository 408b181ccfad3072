"""The account in Swift, asked directly and not through the bad network."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import requests

from tests.servers import process
from tests.servers.keystone import Credentials, Keystone


class Account:
    """Every method blocks.

    :param url: the storage URL.
    """

    def __init__(self, keystone: Keystone, user: Credentials, url: str) -> None:
        self._keystone = keystone
        self._user = user
        self._url = url
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
        # A token ends while the soak runs, and Keystone is near.
        sent = {"X-Auth-Token": self._keystone.token(self._user), **(headers or {})}
        answer = self._http.request(method, url, headers=sent, params=params, data=data, timeout=60)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer

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
