"""One sign-in, start to end: token, lifetime, and where Swift is.

Blocking, for a thread: keystoneauth1 works with requests. Everything that can
go wrong becomes one of this project's errors here. Nothing is sent to Swift.
The token's form: https://docs.openstack.org/api-ref/identity/v3/
"""

from __future__ import annotations

import datetime
import email.utils
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from keystoneauth1 import exceptions, noauth, session
from keystoneauth1.access.service_catalog import ServiceCatalog
from keystoneauth1.identity.base import BaseIdentityPlugin

from swift_provider._version import __version__
from swift_provider.client.identity import catalogue, plugins
from swift_provider.client.identity.clouds import Cloud
from swift_provider.errors import AuthError, AuthUnavailableError, ConfigError

_SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Grant:
    """What a sign-in gave. ``lifetime`` is in seconds, ``None`` if it does not end."""

    headers: Mapping[bytes, bytes] = field(repr=False)
    storage_url: str
    lifetime: float | None


class Keystone:
    """Signs in to one cloud. Not for two threads at once.

    :param connect_timeout: seconds for each connection.
    :param response_timeout: seconds of silence that are allowed in an answer.
    :raises ConfigError: if the cloud's options do not suit its sign-in method.
    """

    def __init__(self, cloud: Cloud, connect_timeout: float, response_timeout: float) -> None:
        self._cloud = cloud
        self._timeout = (connect_timeout, response_timeout)
        self._plugin = plugins.load_plugin(cloud.auth_type, cloud.auth_options, cloud.title)
        self._secrets = plugins.secrets(cloud.auth_type, cloud.auth_options)
        # When to sign in again is decided by the caller. keystoneauth1 would do
        # so by itself, several times over for a short token or a wrong clock.
        self._plugin.reauthenticate = False
        self.auth_url = str(cloud.auth_options.get("auth_url") or "")

    def sign_in(self) -> Grant:
        """Get a new token, whether or not an older one is still good.

        :raises AuthUnavailableError: if Keystone cannot be reached, has a fault
            of its own, or asks to slow down.
        :raises AuthError: if it refuses, or knows no such endpoint of Swift.
        :raises ConfigError: if a TLS file is missing, or an endpoint is not given.
        """
        _check_files(self._cloud)
        try:
            with requests.Session() as http:
                return self._granted(self._session(http))
        except (AuthError, ConfigError):
            raise
        except Exception as error:
            # Not chained: requests quotes a header that it cannot send, and
            # that may be the password.
            raise self._explained(error) from None

    def _session(self, http: requests.Session) -> session.Session:
        return _QuietSession(
            auth=self._plugin,
            session=http,
            verify=self._cloud.verify,
            cert=self._cloud.cert,
            app_name="synapse-swift-storage-provider",
            app_version=__version__,
            time_limits=self._timeout,
        )

    def _granted(self, keystone: session.Session) -> Grant:
        self._plugin.invalidate()
        # The plugin that signs in with nothing claims to have a token.
        nothing = isinstance(self._plugin, noauth.NoAuth)
        headers = {} if nothing else self._plugin.get_headers(keystone)
        if headers is None:
            raise AuthError(
                f"{self._cloud.title}: auth_type '{self._cloud.auth_type}' gave no token"
            )
        lifetime = None
        if isinstance(self._plugin, BaseIdentityPlugin):
            lifetime = _lifetime(self._plugin.get_access(keystone))
        return Grant(
            headers={
                name.encode("ascii"): value.encode("ascii") for name, value in headers.items()
            },
            storage_url=self._storage_url(keystone),
            lifetime=lifetime,
        )

    def _storage_url(self, keystone: session.Session) -> str:
        cloud = self._cloud
        if cloud.storage_url is not None:
            return cloud.storage_url
        catalog = None
        if isinstance(self._plugin, BaseIdentityPlugin):
            catalog = self._plugin.get_access(keystone).service_catalog
        if isinstance(catalog, ServiceCatalog):
            return catalogue.find_endpoint(catalog, cloud)
        # Swift's own v1 sign-in names one URL and no region; other plugins are told theirs.
        url = self._plugin.get_endpoint(
            keystone, service_type=cloud.service_type, interface=cloud.interface
        )
        if not url:
            raise ConfigError(
                f"{cloud.title}: auth_type '{cloud.auth_type}' has no catalogue; "
                "set storage_url, or auth.endpoint"
            )
        return str(url).rstrip("/")

    def _explained(self, error: Exception) -> Exception:
        # Discovery of Keystone's versions wraps the failure that made it fail.
        cause: BaseException = error
        while isinstance(cause, exceptions.DiscoveryFailure) and cause.__context__ is not None:
            cause = cause.__context__
        place = f"Keystone at {self.auth_url}" if self.auth_url else "the sign-in server"
        if isinstance(cause, exceptions.HttpError):
            return self._explained_status(cause, place)
        if isinstance(cause, exceptions.SSLError):
            return AuthUnavailableError(
                f"no TLS with {place}: {self._told(_causes(cause)[-1])} "
                "(for a private CA, set cacert)"
            )
        if isinstance(cause, exceptions.UnknownConnectionError):
            # Its text may quote a header, in a form that is not that of the secret.
            said = f"{type(cause.original).__name__} at {place}{self._hint()}"
            wrong = isinstance(cause.original, ValueError)
            return AuthError(said) if wrong else AuthUnavailableError(said)
        if isinstance(cause, exceptions.ConnectionError):
            return self._unreachable(cause, place)
        if isinstance(cause, exceptions.EmptyCatalog):
            return AuthError(catalogue.NO_CATALOGUE.format(self._cloud.title))
        if isinstance(cause, exceptions.ClientException):
            return AuthError(f"cannot sign in at {place}: {self._told(cause)}{self._hint()}")
        return AuthError(f"cannot sign in at {place}: {type(cause).__name__}{self._hint()}")

    def _unreachable(self, error: Exception, place: str) -> AuthUnavailableError:
        chain = _causes(error)
        how, check = "", "auth_url and the network"
        if any(isinstance(one, requests.exceptions.ProxyError) for one in chain):
            how, check = " through the proxy", "HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
        return AuthUnavailableError(
            f"{place} cannot be reached{how}: {self._told(chain[-1])} (check {check})"
        )

    def _explained_status(self, error: exceptions.HttpError, place: str) -> AuthError:
        status = error.http_status
        if status in (408, 429) or status >= 500:
            return AuthUnavailableError(
                f"{place} has a problem: {self._told(error)}", retry_after=_retry_after(error)
            )
        if status in (401, 403):
            return AuthError(
                f"{place} refuses {self._cloud.title}: {self._told(error)}{self._hint()}"
            )
        if status == 404:
            return AuthError(f"there is no Keystone at {self.auth_url}: check auth_url")
        return AuthError(
            f"{place} cannot use {self._cloud.title}: {self._told(error)}{self._hint()}"
        )

    def _hint(self) -> str:
        missing = plugins.missing_domains(self._cloud.auth_type, self._cloud.auth_options)
        if not missing:
            return ""
        return f"; {' and '.join(missing)} is not set (often 'Default')"

    def _told(self, error: BaseException) -> str:
        """What the other side said, in one short line and without our secrets."""
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        text = "".join(c for c in " ".join(str(said).split()) if c.isprintable())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if len(text) > _SHOWN_CHARACTERS:
            text = text[:_SHOWN_CHARACTERS] + "…"
        return text


class _QuietSession(session.Session):
    """Keeps requests and answers out of the log: some plugins' carry a token.

    :param time_limits: seconds to connect, and seconds of silence.
    """

    def __init__(self, *, time_limits: tuple[float, float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._time_limits = time_limits

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        options["log"] = False
        options.setdefault("timeout", self._time_limits)
        return super().request(*arguments, **options)


def _lifetime(access: Any) -> float | None:
    """Seconds that the token lives, by Keystone's clock alone: ours may be wrong."""
    if access.expires is None:
        return None
    issued = access.issued or datetime.datetime.now(datetime.timezone.utc)
    return float((access.expires - issued).total_seconds())


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the first cause last: each wraps the text of the next."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain


def _retry_after(error: exceptions.HttpError) -> float | None:
    """Seconds that the server asks to wait; it may give a number or a date (RFC 9110, 10.2.3)."""
    value = error.response.headers.get("Retry-After") if error.response is not None else None
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _check_files(cloud: Cloud) -> None:
    """requests' own words for a missing file do not say which setting is meant."""
    if isinstance(cloud.verify, str) and not os.path.exists(cloud.verify):
        raise ConfigError(
            f"{cloud.title}: there is no CA file '{cloud.verify}' (cacert); to switch the check "
            "off, write 'verify: false' without quotes, or set OS_INSECURE=true"
        )
    paths = (cloud.cert,) if isinstance(cloud.cert, str) else cloud.cert or ()
    for path in paths:
        if not os.path.exists(path):
            raise ConfigError(f"{cloud.title}: there is no file '{path}' (cert, key)")
