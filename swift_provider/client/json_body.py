"""Reads the JSON in a response's body, which may be of any shape.

Something in between may answer in Swift's place, and Ceph RGW writes some rows otherwise,
so each value is checked before it is used.
"""

from __future__ import annotations

import json
from typing import Any


class UnreadableError(Exception):
    """The body is not JSON, or a value is not of the kind that it has to be."""


def parsed(body: bytes) -> Any:
    """The value that the body holds.

    :raises UnreadableError: if it is not JSON, or nested so deeply that Python refuses it.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableError from None


def text(value: Any) -> str:
    """A string that can be a part of a URL.

    :raises UnreadableError: if it is none. JSON can hold halves of characters.
    """
    if not isinstance(value, str) or not _is_unicode(value):
        raise UnreadableError
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def count(value: Any) -> int:
    """A whole number that is not negative, such as a size in bytes.

    :raises UnreadableError: if it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UnreadableError
    return value


def rows(value: Any) -> list[dict[str, Any]]:
    """A list of objects.

    :raises UnreadableError: if it is none.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise UnreadableError
    return value
