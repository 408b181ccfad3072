"""Makes Swift's URL, wherever it comes from, one that requests can be sent to."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from swift_provider.errors import ConfigError

#: What may stand in a path as it is; "%" because it may be encoded already.
_SAFE_IN_PATH = "/%:~!$&'()*+,;=@-._"

#: As in RFC 1123, section 2.1; or an IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9a-fA-F:.]+")


def usable_url(url: str) -> str:
    """Percent-encode a storage URL where needed, and drop a slash at its end.

    :raises ConfigError: if it has no host, or one that is not allowed.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port
        ascii_host = host.encode("idna").decode("ascii")
    except ValueError:  # also of the encoding: a label that is too long, or empty
        host = ascii_host = ""
        port = None
    if not _HOST.fullmatch(ascii_host) or parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"Swift's URL {url!r} cannot be used: a host name has letters, digits, '-' and '.' "
            "only. Set storage_url to another name of that host, or have the catalogue corrected"
        )
    netloc = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    if port is not None:
        netloc += f":{port}"
    return f"{parts.scheme}://{netloc}{quote(parts.path, safe=_SAFE_IN_PATH)}".rstrip("/")


def filled(url: str, find_project_id: Callable[[], str | None]) -> str:
    """Put the project's id into an endpoint override, as keystoneauth1 does for
    ``%(project_id)s``, ``$(project_id)s`` and the older ``tenant_id``.

    :param find_project_id: called if the id is needed; ``None`` if there is none.
    :raises ConfigError: if it is needed and not known.
    """
    if not re.search(r"[%$]\((project|tenant)_id\)s", url):
        return url
    project_id = find_project_id()
    if project_id is None:
        raise ConfigError(
            f"Swift's URL {url!r} has a place for the project's id, which this auth_type does "
            "not know: write the id into the URL"
        )
    return re.sub(r"[%$]\((project|tenant)_id\)s", project_id, url)
