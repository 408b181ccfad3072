"""A real Synapse in a folder of its own, and the few client calls that tests need.

Configuration: https://element-hq.github.io/synapse/latest/usage/configuration/config_documentation.html
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.servers import process

SERVER_NAME = "localhost"

_NO_LIMIT = {"per_second": 100000, "burst_count": 100000}
_RATE_LIMITS = {
    **dict.fromkeys(("rc_message", "rc_registration", "rc_media_create"), _NO_LIMIT),
    "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _NO_LIMIT),
    "rc_joins": dict.fromkeys(("local", "remote"), _NO_LIMIT),
}


class Synapse:
    """One homeserver: write its configuration, then :meth:`start` it, as often as wanted.

    :param folder: configuration, media store (``media_store``), log (``synapse.log``);
        made if absent, kept at the end.
    :param database: psycopg2's arguments; ``None`` means SQLite in the folder.
    :param media_storage_providers: as in ``homeserver.yaml``.
    :param config: further top-level settings, which win over ours.
    :param env: added to Synapse's environment, as ``OS_CLIENT_CONFIG_FILE``.
    :param log_contexts: log Synapse's complaints about lost logging contexts too.
    :param python: an interpreter with another Synapse; ``None`` means ours.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: Mapping[str, Any] | None = None,
        media_storage_providers: Sequence[Mapping[str, Any]] = (),
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        log_contexts: bool = False,
        python: str | None = None,
    ) -> None:
        self.folder = folder
        self.media_store = folder / "media_store"
        self.config_path = folder / "homeserver.yaml"
        self.log = folder / "synapse.log"
        self.port = process.free_port()
        self.url = f"http://{process.LOOPBACK}:{self.port}"
        self._python = python
        self._env = env or {}
        self._secret = secrets.token_hex(16)
        self._process: process.Process | None = None
        self._session = process.local_session()
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            **self._settings(database),
            "media_storage_providers": list(media_storage_providers),
            **(config or {}),
        }
        self.config_path.touch(mode=0o600)
        self.config_path.write_text(yaml.safe_dump(settings, sort_keys=False))
        (folder / "log.yaml").write_text(yaml.safe_dump(_logging(log_contexts)))
        # Synapse's own format; the same key at every start.
        key = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (folder / "signing.key").write_text(f"ed25519 a_test {key}\n")

    def _settings(self, database: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            "server_name": SERVER_NAME,
            "pid_file": str(self.folder / "synapse.pid"),
            "listeners": [
                {
                    "port": self.port,
                    "type": "http",
                    "bind_addresses": [process.LOOPBACK],
                    "resources": [{"names": ["client", "federation"]}],
                }
            ],
            "database": _database(self.folder, database),
            "log_config": str(self.folder / "log.yaml"),
            "media_store_path": str(self.media_store),
            "max_upload_size": "1024M",
            "signing_key_path": str(self.folder / "signing.key"),
            "registration_shared_secret": self._secret,
            "macaroon_secret_key": secrets.token_hex(16),
            "form_secret": secrets.token_hex(16),
            "report_stats": False,
            "trusted_key_servers": [],
            **_RATE_LIMITS,
        }

    def start(self) -> None:
        """Start the homeserver and wait until it answers.

        :raises ServiceError: if it ends instead, with the end of its log.
        """
        if self._python is None:
            process.require_package("synapse")
        self._process = process.Process(
            "synapse",
            [
                self._python or sys.executable,
                "-m",
                "synapse.app.homeserver",
                "--config-path",
                self.config_path,
            ],
            self.folder,
            env={"PYTHONPATH": str(process.ROOT), **self._env},
        )
        self._process.wait_for_url(f"{self.url}/health")

    def stop(self) -> None:
        """Stop the homeserver in order; harmless if it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the homeserver with SIGKILL."""
        assert self._process is not None, "Synapse was not started"
        self._process.stop(first=signal.SIGKILL)
        self._process = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "Synapse was not started"
        return self._process.pid

    def register(self, user: str, password: str = "only-on-loopback", admin: bool = False) -> str:
        """Make a user with the shared secret.

        :returns: an access token.
        """
        url = f"{self.url}/_synapse/admin/v1/register"
        nonce = self._session.get(url, timeout=30).json()["nonce"]
        parts = (nonce, user, password, "admin" if admin else "notadmin")
        mac = hmac.new(self._secret.encode(), "\0".join(parts).encode(), hashlib.sha1)
        body = {"nonce": nonce, "username": user, "password": password, "admin": admin}
        response = self._session.post(url, json={**body, "mac": mac.hexdigest()}, timeout=30)
        return _checked(response).json()["access_token"]

    def client(self, token: str, authority: Path | None = None) -> Client:
        """:param token: from :meth:`register`.
        :param authority: PEM file to trust where Synapse redirects to; ``None`` for the usual.
        """
        return Client(self.url, token, authority)


class Client:
    """What a user's Matrix client does with media. Every call blocks."""

    def __init__(self, url: str, token: str, authority: Path | None = None) -> None:
        self._media = f"{url}/_matrix/media/v3"
        self._authenticated = f"{url}/_matrix/client/v1/media"
        self._admin = f"{url}/_synapse/admin/v1"
        self._session = process.local_session()
        self._session.headers["Authorization"] = f"Bearer {token}"
        if authority is not None:
            self._session.verify = str(authority)

    def upload(self, content: bytes, content_type: str = "application/octet-stream") -> str:
        """:returns: the ``mxc://`` URI."""
        headers = {"Content-Type": content_type}
        response = self._session.post(
            f"{self._media}/upload", data=content, headers=headers, timeout=300
        )
        return _checked(response).json()["content_uri"]

    def request(
        self,
        method: str,
        mxc: str,
        headers: Mapping[str, str] | None = None,
        /,
        *,
        kind: str = "download",
        authenticated: bool = True,
        **query: Any,
    ) -> requests.Response:
        """Any request for media; no status is an error.

        :param kind: ``download`` or ``thumbnail``.
        :param authenticated: ask the newer endpoint.
        """
        base = self._authenticated if authenticated else self._media
        url = f"{base}/{kind}/{mxc.removeprefix('mxc://')}"
        return self._session.request(method, url, headers=headers, params=query, timeout=300)

    def download(self, mxc: str) -> bytes:
        """:raises requests.RequestException: if the answer is no 200, or ends early."""
        url = f"{self._authenticated}/download/{mxc.removeprefix('mxc://')}"
        return _checked(self._session.get(url, timeout=300)).content

    def thumbnail(
        self, mxc: str, width: int, height: int, method: str = "scale", timeout: float = 300
    ) -> bytes:
        """:raises requests.RequestException: as :meth:`download`."""
        url = f"{self._authenticated}/thumbnail/{mxc.removeprefix('mxc://')}"
        query = {"width": width, "height": height, "method": method}
        return _checked(self._session.get(url, params=query, timeout=timeout)).content

    def delete(self, mxc: str) -> None:
        """Delete a local media, as only an administrator may.

        :raises requests.RequestException: if Synapse did not say that it is deleted.
        """
        url = f"{self._admin}/media/{mxc.removeprefix('mxc://')}"
        _checked(self._session.delete(url, timeout=300))

    def protect(self, mxc: str) -> None:
        """Keep Synapse's retention from deleting a local media, as only an administrator may.

        :raises requests.RequestException: as :meth:`delete`.
        """
        url = f"{self._admin}/media/protect/{mxc.rsplit('/', 1)[1]}"
        _checked(self._session.post(url, timeout=300))


@contextlib.contextmanager
def running(homeserver: Synapse) -> Iterator[Synapse]:
    """Start a homeserver, and stop it at the end of the block."""
    try:
        homeserver.start()
        yield homeserver
    finally:
        homeserver.stop()


def _checked(response: requests.Response) -> requests.Response:
    """Like ``raise_for_status``, with Synapse's words."""
    if response.status_code >= 400:
        raise requests.HTTPError(
            f"{response.request.method} {response.url}: HTTP {response.status_code}: "
            f"{response.text[:500]}",
            response=response,
        )
    return response


def _database(folder: Path, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    if arguments is None:
        return {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}}
    return {"name": "psycopg2", "args": {**arguments, "cp_min": 1, "cp_max": 5}}


def _logging(log_contexts: bool) -> dict[str, Any]:
    contexts = {"synapse.logging.context": {"level": "DEBUG"}} if log_contexts else {}
    line = "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": line}},
        "filters": {
            "context": {"()": "synapse.logging.context.LoggingContextFilter", "request": ""}
        },
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["context"],
            }
        },
        "loggers": contexts,
        "root": {"level": "INFO", "handlers": ["console"]},
    }
