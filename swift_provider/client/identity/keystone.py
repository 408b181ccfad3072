"""Signs in once: gets a token, its lifetime and Swift's URL.

Blocks, and so runs in a thread: keystoneauth1 uses requests. Turns every
failure into one of this project's errors, without secrets. Sends nothing to
Swift. Keystone's API: https://docs.openstack.org/api-ref/identity/v3/
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import BadStatusLine
from typing import Any

import requests
from keystoneauth1 import exceptions, noauth, session
from keystoneauth1.access.service_catalog import ServiceCatalog
from keystoneauth1.identity.base import BaseIdentityPlugin

from swift_provider._version import __version__
from swift_provider.client.http.proxies import proxy_for
from swift_provider.client.identity import catalogue, sign_in_methods
from swift_provider.client.identity.clouds import Cloud
from swift_provider.client.identity.keystone_session import (
    Deadline,
    KeystoneSession,
    LimitedAdapter,
)
from swift_provider.client.identity.storage_url import filled, usable_url
from swift_provider.client.retry import retry_after_seconds
from swift_provider.client.secrets_hidden import Secrets, clean, header_secrets
from swift_provider.errors import AuthError, AuthUnavailableError, ConfigError

_SHOWN_CHARACTERS = 400

#: A sign-in is this many requests to Keystone at most: its versions, the token, and one
#: for methods that sign in twice.
SIGN_IN_REQUESTS = 3


@dataclass(frozen=True)
class Grant:
    """The result of a sign-in.

    :ivar headers: to send with each request to Swift; empty if Swift needs none.
    :ivar lifetime: seconds; ``None`` if the token does not expire.
    """

    headers: Mapping[bytes, bytes] = field(repr=False)
    storage_url: str
    lifetime: float | None


#: What OpenSSL says of an answer that is not encrypted: before version 3.2, and since.
_NO_TLS = ("wrong_version_number", "record layer failure")


class Keystone:
    """Signs in to one cloud. Two threads must not use one instance at the same time.

    :param connect_timeout: seconds to wait for a connection.
    :param response_timeout: seconds to wait for the next bytes of an answer.
    :ivar seconds: the longest that a sign-in takes; only the search for the host's address
        is not counted.
    :raises ConfigError: if the cloud's options do not suit its sign-in method.
    """

    def __init__(self, cloud: Cloud, connect_timeout: float, response_timeout: float) -> None:
        self._cloud = cloud
        self._timeout = (connect_timeout, response_timeout)
        self.seconds = SIGN_IN_REQUESTS * (connect_timeout + response_timeout)
        self._plugin = sign_in_methods.load_plugin(cloud.auth_type, cloud.auth_options, cloud.title)
        self._secrets = Secrets(sign_in_methods.secrets(cloud.auth_type, cloud.auth_options))
        # The caller decides when to sign in again. keystoneauth1 would do so by itself,
        # and repeatedly if tokens are short-lived or the local clock is wrong.
        self._plugin.reauthenticate = False
        self.auth_url = str(cloud.auth_options.get("auth_url") or "")

    def sign_in(self) -> Grant:
        """Get a new token, even if an older one is still good.

        :raises AuthUnavailableError: if Keystone cannot be reached, answers 5xx,
            or asks to slow down.
        :raises AuthError: if Keystone refuses, or if its catalogue has no matching
            endpoint.
        :raises ConfigError: if a TLS file is missing, or if the sign-in method needs
            Swift's URL and no option gives it.
        """
        _check_files(self._cloud)
        try:
            deadline = Deadline()
            with requests.Session() as http, deadline.running(self.seconds):
                for scheme in ("http://", "https://"):
                    http.mount(scheme, LimitedAdapter(deadline))
                return self._grant(self._session(http))
        except (AuthError, ConfigError):
            raise
        except Exception as error:
            # Not chained: requests quotes a header that it cannot send, and the header
            # may hold the password.
            raise self._translate(error) from None

    def _session(self, http: requests.Session) -> session.Session:
        return KeystoneSession(
            auth=self._plugin,
            session=http,
            verify=self._cloud.verify,
            cert=self._cloud.cert,
            app_name="synapse-swift-storage-provider",
            app_version=__version__,
            time_limits=self._timeout,
        )

    def _grant(self, keystone: session.Session) -> Grant:
        self._plugin.invalidate()
        # The plugin "none" returns a header with an invented token.
        unsigned = isinstance(self._plugin, noauth.NoAuth)
        headers = {} if unsigned else self._plugin.get_headers(keystone)
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
            storage_url=usable_url(self._storage_url(keystone)),
            lifetime=lifetime,
        )

    def _storage_url(self, keystone: session.Session) -> str:
        cloud = self._cloud
        if cloud.storage_url is not None:
            return filled(cloud.storage_url, lambda: self._plugin.get_project_id(keystone))
        catalog = None
        if isinstance(self._plugin, BaseIdentityPlugin):
            catalog = self._plugin.get_access(keystone).service_catalog
        if isinstance(catalog, ServiceCatalog):
            return catalogue.find_endpoint(catalog, cloud)
        # Swift's own v1 sign-in returns one URL and no region. The other plugins without
        # a catalogue have the URL among their options.
        url = self._plugin.get_endpoint(
            keystone, service_type=cloud.service_type, interface=cloud.interface
        )
        if not url:
            raise ConfigError(
                f"{cloud.title}: auth_type '{cloud.auth_type}' has no catalogue; "
                "set storage_url, or auth.endpoint"
            )
        return str(url).rstrip("/")

    def _translate(self, error: Exception) -> Exception:
        # The discovery of Keystone's versions wraps the error that stopped it.
        cause: BaseException = error
        while isinstance(cause, exceptions.DiscoveryFailure) and cause.__context__ is not None:
            cause = cause.__context__
        place = f"Keystone at {self.auth_url}" if self.auth_url else "the sign-in server"
        if isinstance(cause, exceptions.HttpError):
            return self._translate_status(cause, place)
        if isinstance(cause, exceptions.SSLError):
            reason = self._safe_text(_causes(cause)[-1])
            remedy = "for a private CA, set cacert"
            if any(sign in reason.lower() for sign in _NO_TLS):
                remedy = "it may speak plain http there: check auth_url"
            return AuthUnavailableError(f"TLS with {place} failed: {reason} ({remedy})")
        if isinstance(cause, exceptions.UnknownConnectionError):
            # Its text may quote a header in an escaped form, where _safe_text would not
            # recognise the secret.
            message = f"{type(cause.original).__name__} at {place}{self._hint()}"
            if not isinstance(cause.original, ValueError):
                return AuthUnavailableError(message)
            try:
                proxy_for(self.auth_url)
            except ConfigError as malformed:
                return malformed
            return AuthError(message)
        if isinstance(cause, exceptions.ConnectionError):
            return self._unreachable(cause, place)
        if _is_not_keystones(cause):
            return AuthUnavailableError(
                f"what answers at {self.auth_url} is not Keystone: a proxy's maintenance page, "
                "or else auth_url is wrong"
            )
        if isinstance(cause, exceptions.EmptyCatalog):
            return AuthError(catalogue.NO_CATALOGUE.format(self._cloud.title))
        if isinstance(cause, exceptions.ClientException):
            return AuthError(f"cannot sign in at {place}: {self._safe_text(cause)}{self._hint()}")
        return AuthError(f"cannot sign in at {place}: {type(cause).__name__}{self._hint()}")

    def _unreachable(self, error: Exception, place: str) -> AuthUnavailableError:
        chain = _causes(error)
        how, check = "", "auth_url and the network"
        if any(isinstance(one, requests.exceptions.ProxyError) for one in chain):
            how, check = " through the proxy", "HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
        elif any(isinstance(one, (BadStatusLine, ConnectionResetError)) for one in chain):
            check = "auth_url (http:// or https://?) and the network"
        return AuthUnavailableError(
            f"{place} cannot be reached{how}: {self._safe_text(chain[-1])} (check {check})"
        )

    def _translate_status(self, error: exceptions.HttpError, place: str) -> AuthError:
        status = error.http_status
        if status in (408, 429) or status >= 500:
            headers = {} if error.response is None else error.response.headers
            return AuthUnavailableError(
                f"{place} has a problem: {self._safe_text(error)}",
                retry_after=retry_after_seconds(headers.get("Retry-After", "")),
                reached=True,
            )
        # Keystone knows no such id; a path that is not Keystone's has no such text.
        is_gone = status == 404 and "application credential" in str(error).lower()
        if status in (401, 403) or is_gone:
            check = sign_in_methods.what_to_check(self._cloud.auth_type)
            return AuthError(
                f"{place} refuses {self._cloud.title_and_source}: {self._safe_text(error)}. "
                f"Check {check}{self._hint()}"
            )
        if status == 404:
            return AuthError(f"there is no Keystone at {self.auth_url}: check auth_url")
        remedy = self._hint() or ". Check auth_url: is it Keystone's?"
        if status == 407:
            remedy = ". Check HTTP_PROXY: the proxy wants a user and a password"
        return AuthError(
            f"{place} rejects the sign-in with {self._cloud.title}: "
            f"{self._safe_text(error)}{remedy}"
        )

    def _hint(self) -> str:
        missing = sign_in_methods.missing_domains(self._cloud.auth_type, self._cloud.auth_options)
        if not missing:
            return ""
        verb = "is" if len(missing) == 1 else "are"
        return f"; {' and '.join(missing)} {verb} not set (often 'Default')"

    def _safe_text(self, error: BaseException) -> str:
        """The error's text as one short line, with the secrets replaced by stars."""
        text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
        text = clean(self._hidden(text))
        if len(text) > _SHOWN_CHARACTERS:
            text = text[:_SHOWN_CHARACTERS] + "…"
        return text

    def _hidden(self, text: str) -> str:
        text = self._secrets.hidden(text)
        proxy = None
        with suppress(ConfigError):  # then no request was sent
            proxy = proxy_for(self.auth_url) if self.auth_url else None
        if proxy is not None and proxy.authorization is not None:
            text = header_secrets([proxy.authorization]).hidden(text)
        return text


def _lifetime(access: Any) -> float | None:
    """The token's lifetime in seconds; ``None`` if it does not expire.

    Both times are from Keystone's clock, because the local clock may be wrong.
    """
    if access.expires is None:
        return None
    issued = access.issued or datetime.datetime.now(datetime.timezone.utc)
    return float((access.expires - issued).total_seconds())


def _is_not_keystones(error: BaseException) -> bool:
    """Whether an answer without an error's status had none of the content of Keystone's."""
    if isinstance(error, exceptions.InvalidResponse):
        return True
    # The discovery of Keystone's versions says it in its text only.
    return isinstance(error, exceptions.DiscoveryFailure) and "Bad version data" in str(error)


def _causes(error: BaseException) -> list[BaseException]:
    """The error, its cause, that error's cause, and so on. Each text contains the next one."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return chain


def _check_files(cloud: Cloud) -> None:
    """Name the setting of a missing file; requests' own message does not."""
    if isinstance(cloud.verify, str) and not os.path.exists(cloud.verify):
        raise ConfigError(
            f"{cloud.title}: there is no CA file '{cloud.verify}' (cacert); to switch off the "
            "check of certificates, write 'verify: false' without quotes or set OS_INSECURE=true"
        )
    paths = (cloud.cert,) if isinstance(cloud.cert, str) else cloud.cert or ()
    for path in paths:
        if not os.path.exists(path):
            raise ConfigError(f"{cloud.title}: there is no file '{path}' (cert, key)")
