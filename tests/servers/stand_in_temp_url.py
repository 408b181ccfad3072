"""Temporary URLs as Ceph RGW takes them: SHA-1 and the account's keys only.

https://docs.ceph.com/en/pacific/radosgw/swift/tempurl/
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote

from tests.servers.stand_in_model import Asked


def may_read(asked: Asked, path: str, keys: list[str], now: float) -> bool:
    """Whether a request has a right signature that has not expired.

    :param path: decoded. RGW takes a signature for it with and without ``/swift``.
    :param now: seconds since 1970.
    """
    expires, signature = asked.query.get("temp_url_expires", ""), asked.query["temp_url_sig"]
    if not expires.isdecimal() or int(expires) <= now:
        return False
    # A signature for GET serves HEAD too.
    methods = {"GET", asked.method} if asked.method == "HEAD" else {asked.method}
    right = {
        hmac.new(key.encode(), f"{method}\n{expires}\n{some}".encode(), hashlib.sha1).hexdigest()
        for key in keys
        for method in methods
        for some in (path, path.removeprefix("/swift"))
    }
    return signature in right


def disposition(asked: Asked) -> str:
    """``Content-Disposition``; RGW leaves ``filename`` percent-encoded."""
    name = quote(asked.query.get("filename", ""), safe="") or (asked.name or "").rpartition("/")[2]
    return f'attachment; filename="{name}"'
