"""What is in Swift, read without the provider."""

from __future__ import annotations

import time
from typing import Any

from tests.servers import process
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


class Storage:
    """The account's containers. Every call blocks.

    :param token: a Keystone token of the account.
    """

    def __init__(self, swift: Swift, account: Credentials, token: str) -> None:
        self.url = swift.account_url(account.project_id)
        self._session = process.local_session()
        self._session.headers["X-Auth-Token"] = token

    def names(self, container: str) -> list[str]:
        """All objects' names; none if there is no such container."""
        answer = self._session.get(f"{self.url}/{container}", timeout=30)
        return answer.text.split() if answer.status_code == 200 else []

    def wait_for(self, container: str, ending: str, count: int = 1) -> None:
        """Wait for objects that a provider uploads in the background."""
        deadline = time.monotonic() + 90
        while sum(name.endswith(ending) for name in self.names(container)) < count:
            assert time.monotonic() < deadline, f"no …{ending} in {self.names(container)}"
            time.sleep(0.05)

    def head(self, container: str, name: str = "") -> Any:
        """Headers of an object or a container."""
        answer = self._session.head(f"{self.url}/{container}/{name}".rstrip("/"), timeout=30)
        assert answer.status_code in (200, 204), (answer.status_code, container, name)
        return answer.headers

    def get(self, container: str, name: str) -> bytes:
        answer = self._session.get(f"{self.url}/{container}/{name}", timeout=30)
        assert answer.status_code == 200, (answer.status_code, container, name)
        return answer.content

    def put(self, container: str, name: str, content: bytes, **headers: str) -> None:
        """Upload an object."""
        url = f"{self.url}/{container}/{name}"
        answer = self._session.put(url, data=content, headers=headers, timeout=30)
        assert answer.status_code == 201

    def make(self, container: str) -> None:
        """Make a container."""
        url = f"{self.url}/{container}"
        assert self._session.put(url, timeout=30).status_code in (201, 202)

    def post(self, container: str, name: str = "", **headers: str) -> None:
        """Set metadata: of a container, or (all of it) of an object. ``_`` stands for ``-``."""
        url = f"{self.url}/{container}/{name}".rstrip("/")
        some = {key.replace("_", "-"): value for key, value in headers.items()}
        assert self._session.post(url, headers=some, timeout=30).status_code in (202, 204)

    def delete(self, container: str, name: str) -> None:
        """Delete an object; one that is missing counts as deleted."""
        answer = self._session.delete(f"{self.url}/{container}/{name}", timeout=30)
        assert answer.status_code in (204, 404)
