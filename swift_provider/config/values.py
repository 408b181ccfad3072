"""The checks of single options: type, range, form.

Each takes the value read from YAML and the option's full name, returns the checked value,
and raises :class:`ConfigError` if it is wrong. The message quotes a value only if it cannot
be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

from swift_provider.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

#: Swift's default ``max_file_size`` is 2 bytes more than this, and limits segments
#: as it limits every object.
LARGEST_SEGMENT_BYTES = 5 * GIB

#: Each of Synapse's media workers has this memory of its own. Nobody needs more; one who
#: writes more has probably mistyped it.
LARGEST_MEMORY_BYTES = 4 * GIB

_QUOTED_CHARACTERS = 20

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")

_AGE = re.compile(r"(\d{1,5})\s*([hdwy])")
_AGE_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

_DURATION = re.compile(r"(\d+)\s*([smhd]?)")
_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def type_of(value: object) -> str:
    """The type of a wrong value, for options whose value may be a secret."""
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def quoted(value: object) -> str:
    """A wrong value if it is short, else its type.

    For switches, numbers and sizes. Something longer may be a secret in the wrong place.
    """
    text = repr(value)
    return text if len(text) <= _QUOTED_CHARACTERS else type_of(value)


def check_text(value: object, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{name} must be text, not {type_of(value)}")
    text = str(value).strip()
    if not text:
        raise ConfigError(f"{name} is empty: give it a value, or remove it")
    return text


def check_label(value: object, name: str) -> str:
    text = check_text(value, name)
    if not _LABEL.fullmatch(text):
        raise ConfigError(
            f"{name} must be a short name of letters, digits, '.', '_' and '-', such as gra-1"
        )
    return text


def check_flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {quoted(value)}")
    return value


def check_container(value: object, name: str) -> str:
    text = check_text(value, name)
    if "/" in text:
        raise ConfigError(
            f"{name} must be a container's name, without '/': "
            "put the part after the '/' into the option 'prefix'"
        )
    if len(text.encode()) > 256:
        raise ConfigError(f"{name} is longer than the 256 bytes that Swift allows")
    return text


def check_prefix(value: object, name: str) -> str:
    if value == "":
        return ""
    text = check_text(value, name)
    if text.startswith("/"):
        raise ConfigError(f"{name} must not begin with '/'")
    return text if text.endswith("/") else text + "/"


def check_url(value: object, name: str) -> str:
    text = check_text(value, name).rstrip("/")
    if not re.match(r"https?://[^/?#@]+(/[^?#]*)?$", text) or not _has_host(text):
        raise ConfigError(
            f"{name} must look like https://swift.example.org/v1/AUTH_project, "
            "without user, password or '?'"
        )
    return text


def check_auth(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must hold options such as 'auth_url:', not {type_of(value)}")
    # Pasted and templated secrets often end in a line break that is not part of them.
    return {
        str(key): item.rstrip("\r\n") if isinstance(item, str) else item
        for key, item in value.items()
    }


def check_bytes(value: object, name: str) -> int:
    match = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, (bool, float)) or match is None:
        raise ConfigError(f"{name} must be a size such as 1073741824 or 512M, not {quoted(value)}")
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def check_free_space(value: object, name: str) -> int | float:
    """:returns: bytes, or the share of the file system as a float."""
    match = _PERCENT.fullmatch(str(value).strip())
    if match is None:
        try:
            return check_bytes(value, name)
        except ConfigError:
            raise ConfigError(
                f"{name} must be a size such as 10G, or a share such as 5%, not {quoted(value)}"
            ) from None
    share = float(match[1]) / 100
    if not 0 < share < 1:
        raise ConfigError(f"{name} must be above 0% and below 100%, not {quoted(value)}")
    return share


def check_segment(value: object, name: str) -> int:
    size = check_bytes(value, name)
    if not MIB <= size <= LARGEST_SEGMENT_BYTES:
        raise ConfigError(f"{name} must be between 1M and 5G, not {quoted(value)}")
    return size


def check_memory(value: object, name: str) -> int:
    size = check_bytes(value, name)
    if size and not MIB <= size <= LARGEST_MEMORY_BYTES:
        raise ConfigError(f"{name} must be 0, or between 1M and 4G, not {quoted(value)}")
    return size


def check_count(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ConfigError(f"{name} must be a whole number between 1 and 1000, not {quoted(value)}")
    return value


def check_seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise ConfigError(
            f"{name} must be a number of seconds above 0 and at most 3600, not {quoted(value)}"
        )
    return float(value)


def check_window(value: object, name: str) -> int:
    match = _DURATION.fullmatch(str(value).strip())
    seconds = int(match[1]) * _DURATION_UNITS[match[2]] if match else 0
    if isinstance(value, (bool, float)) or not 300 <= seconds <= 7 * 86400:
        raise ConfigError(
            f"{name} must be a time such as 6h, between 5m and 7d, not {quoted(value)}"
        )
    return seconds


def check_age(value: object, name: str) -> int:
    """:returns: seconds."""
    match = _AGE.fullmatch(str(value).strip())
    # In the script's durations "m" is a month, in "redirect.window" it is a minute.
    if match is None or int(match[1]) == 0:
        raise ConfigError(
            f"{name} must be a time such as 30d (h: hours, d: days, w: weeks, y: years of 365 "
            f"days), not {quoted(value)}"
        )
    return int(match[1]) * _AGE_UNITS[match[2]]


def check_front(value: object, name: str) -> str:
    text = check_text(value, name).rstrip("/")
    if not re.fullmatch(r"https?://[A-Za-z0-9._:[\]-]+", text) or not _has_host(text):
        raise ConfigError(
            f"{name} must look like https://media.example.org, without a path: it replaces the "
            "scheme, host and port of Swift's URL"
        )
    return text


def _has_host(url: str) -> bool:
    """Whether a URL has a host that can exist, and a port that can, if it has one."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.port == 0 or parts.netloc.endswith(":"):
            return False
        if parts.netloc.startswith("["):
            IPv6Address(host)
            return parts.netloc.partition("]")[2][:1] in ("", ":")
        labels = host.removesuffix(".").encode("idna").decode("ascii").split(".")
    except ValueError:  # also of the codec
        return False
    return all(_HOST_LABEL.fullmatch(label) for label in labels)


def check_signing_key(value: object, name: str) -> str:
    text = check_text(value, name)
    keys = re.split(r"[ \t\r\n]+", text)
    if len(keys) > 2:
        raise ConfigError(f"{name} must be one or two keys, a line each, without spaces")
    if not all(key.isprintable() for key in keys):
        raise ConfigError(f"{name} {HAS_INVISIBLE}")
    return text


#: Of a key with such a character, for an error. It is easily there by mistake, and Swift would
#: have the key with or without it, and refuse all URLs.
HAS_INVISIBLE = (
    "has a character that cannot be seen, such as a byte order mark, the zeros of UTF-16 or a "
    "non-breaking space. Make a key with: openssl rand -hex 32"
)
