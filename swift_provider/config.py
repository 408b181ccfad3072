"""The options that the Synapse module and the upload script share.

Owns their names, types, defaults and checks, and two helpers for every reader
of configuration, :func:`nearest` and :func:`mapping`. Parses without touching
the network and reads no file; wrong credentials show at the first sign-in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from swift_provider.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: Swift's default ``max_file_size`` is 2 bytes more than this, and limits segments
#: as it limits every object.
LARGEST_SEGMENT_BYTES = 5 * GIB

#: Each of Synapse's media workers has this memory of its own. Nobody needs more; one who
#: writes more has probably mistyped it.
LARGEST_MEMORY_BYTES = 4 * GIB

_QUOTED_CHARACTERS = 20

_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}

_DURATION = re.compile(r"(\d+)\s*([smhd]?)")
_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class RedirectSettings:
    """How clients are sent to Swift by a temporary URL.

    :ivar key: one or two keys, a line each; a secret. ``None`` if :attr:`key_path` is set.
    :ivar key_path: the file that has them. Nobody has read it yet.
    :ivar above: bytes; smaller files are streamed.
    :ivar window: seconds; a URL lives between one and two windows.
    :ivar base_url: scheme, host and port for the URLs; ``None`` for the storage URL's.
    """

    key: str | None = field(default=None, repr=False)
    key_path: str | None = None
    above: int = 256 * KIB
    window: int = 6 * 3600
    base_url: str | None = None


@dataclass(frozen=True)
class Settings:
    """Checked options, made by :func:`parse_settings`. Times are in seconds, sizes in bytes.

    ``None`` means that the option is not set: the cloud, the catalogue or the
    cluster decides.
    """

    container: str
    cloud: str | None = None
    region_name: str | None = None
    threadpool_size: int = 40
    prefix: str = ""
    auth_type: str | None = None
    auth: Mapping[str, Any] | None = field(default=None, repr=False)
    interface: str | None = None
    verify: bool | None = None
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    storage_url: str | None = None
    create_container: bool = False
    storage_policy: str | None = None
    segment_size: int = GIB
    segment_container: str = ""
    connect_timeout: float = 10.0
    response_timeout: float = 60.0
    idle_timeout: float = 60.0
    memory_cache: int = 32 * MIB
    redirect: RedirectSettings | None = None


def parse_settings(options: object, where: str = "config") -> Settings:
    """Check the options of a configuration file.

    :param options: the mapping read from YAML; an option that is ``None`` counts as not set.
    :param where: the options' place in the file, put before each key in an error.
    :raises ConfigError: for an unknown key (with the nearest right one), a wrong
        type, a value out of range, or two options that contradict each other.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"{where} must hold options such as 'container: NAME', not {_type_of(options)}"
        )
    values = _checked(options, _CHECKS, where)
    if "container" not in values:
        raise ConfigError(f"{where}.container is required: the Swift container's name")
    values.setdefault("segment_container", values["container"] + "_segments")
    settings = Settings(**values)
    _check_together(settings, where)
    return settings


def _checked(options: Mapping[Any, Any], checks: _Checks, where: str) -> dict[str, Any]:
    """:raises ConfigError: for an unknown key, or what a check raises."""
    for key in options:
        if key not in checks:
            near = nearest(str(key), checks)
            hint = f"did you mean '{near}'?" if near else f"the options are {', '.join(checks)}"
            raise ConfigError(f"{where}.{key} is not an option; {hint}")
    return {
        key: check(options[key], f"{where}.{key}")
        for key, check in checks.items()
        if options.get(key) is not None
    }


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that a misspelt one resembles most; ``None`` if none is similar.

    :param cutoff: the least similarity, from 0 to 1, as :mod:`difflib` measures it.
    """
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), None)


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """A section of a YAML file; one that is empty (``None``) gives an empty mapping.

    :param where: the section's name and place, for the error message.
    :raises ConfigError: if the value is not a mapping. The message names the
        value's type only: the value may be a secret in the wrong place.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must hold 'key: value' lines, not a {type(value).__name__}")
    return value


def _check_together(settings: Settings, where: str) -> None:
    if settings.key is not None and settings.cert is None:
        raise ConfigError(f"{where}.key needs {where}.cert, the certificate it belongs to")
    if settings.storage_policy is not None and not settings.create_container:
        raise ConfigError(
            f"{where}.storage_policy applies only when the container is created: "
            f"set {where}.create_container to true, or remove {where}.storage_policy"
        )
    no_options = settings.auth is None and settings.cloud is None
    # "none" (also called "noauth") is the only plugin that needs no options.
    if no_options and settings.auth_type not in (None, "none", "noauth"):
        raise ConfigError(
            f"{where}.auth_type needs {where}.auth, the options of that sign-in method"
        )


def _type_of(value: object) -> str:
    """The type of a wrong value, for options whose value may be a secret."""
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _quoted(value: object) -> str:
    """A wrong value if it is short, else its type.

    For switches, numbers and sizes. Something longer may be a secret in the wrong place.
    """
    text = repr(value)
    return text if len(text) <= _QUOTED_CHARACTERS else _type_of(value)


def _text(value: object, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ConfigError(f"{name} must be text, not {_type_of(value)}")
    text = str(value).strip()
    if not text:
        raise ConfigError(f"{name} is empty: give it a value, or remove it")
    return text


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {_quoted(value)}")
    return value


def _container(value: object, name: str) -> str:
    text = _text(value, name)
    if "/" in text:
        raise ConfigError(
            f"{name} must be a container's name, without '/': "
            "put the part after the '/' into the option 'prefix'"
        )
    if len(text.encode()) > 256:
        raise ConfigError(f"{name} is longer than the 256 bytes that Swift allows")
    return text


def _prefix(value: object, name: str) -> str:
    if value == "":
        return ""
    text = _text(value, name)
    if text.startswith("/"):
        raise ConfigError(f"{name} must not begin with '/'")
    return text if text.endswith("/") else text + "/"


def _url(value: object, name: str) -> str:
    text = _text(value, name).rstrip("/")
    if not re.match(r"https?://[^/?#@]+(/[^?#]*)?$", text):
        raise ConfigError(
            f"{name} must look like https://swift.example.org/v1/AUTH_project, "
            "without user, password or '?'"
        )
    return text


def _auth(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must hold options such as 'auth_url:', not {_type_of(value)}")
    # Pasted and templated secrets often end in a line break that is not part of them.
    return {
        str(key): item.rstrip("\r\n") if isinstance(item, str) else item
        for key, item in value.items()
    }


def _bytes(value: object, name: str) -> int:
    match = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, (bool, float)) or match is None:
        raise ConfigError(f"{name} must be a size such as 1073741824 or 512M, not {_quoted(value)}")
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def _segment(value: object, name: str) -> int:
    size = _bytes(value, name)
    if not MIB <= size <= LARGEST_SEGMENT_BYTES:
        raise ConfigError(f"{name} must be between 1M and 5G, not {_quoted(value)}")
    return size


def _memory(value: object, name: str) -> int:
    size = _bytes(value, name)
    if size and not MIB <= size <= LARGEST_MEMORY_BYTES:
        raise ConfigError(f"{name} must be 0, or between 1M and 4G, not {_quoted(value)}")
    return size


def _count(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ConfigError(f"{name} must be a whole number between 1 and 1000, not {_quoted(value)}")
    return value


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise ConfigError(
            f"{name} must be a number of seconds above 0 and at most 3600, not {_quoted(value)}"
        )
    return float(value)


def _window(value: object, name: str) -> int:
    match = _DURATION.fullmatch(str(value).strip())
    seconds = int(match[1]) * _DURATION_UNITS[match[2]] if match else 0
    if isinstance(value, (bool, float)) or not 300 <= seconds <= 7 * 86400:
        raise ConfigError(
            f"{name} must be a time such as 6h, between 5m and 7d, not {_quoted(value)}"
        )
    return seconds


def _front(value: object, name: str) -> str:
    text = _text(value, name).rstrip("/")
    if not re.fullmatch(r"https?://[A-Za-z0-9.:[\]-]+", text):
        raise ConfigError(
            f"{name} must look like https://media.example.org, without a path: it replaces the "
            "scheme, host and port of Swift's URL"
        )
    return text


def _signing_key(value: object, name: str) -> str:
    text = _text(value, name)
    if len(text.split()) > 2:
        raise ConfigError(f"{name} must be one or two keys, a line each, without spaces")
    return text


def _redirect(value: object, name: str) -> RedirectSettings:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name} must hold options such as 'key_path: FILE', not {_type_of(value)}"
        )
    settings = RedirectSettings(**_checked(value, _REDIRECT_CHECKS, name))
    if (settings.key is None) == (settings.key_path is None):
        raise ConfigError(
            f"{name} needs either {name}.key_path, a file with the key that signs temporary "
            f"URLs, or {name}.key, the key itself"
        )
    return settings


_Checks = Mapping[str, Callable[[object, str], Any]]

_REDIRECT_CHECKS: _Checks = {
    "key": _signing_key,
    "key_path": _text,
    "above": _bytes,
    "window": _window,
    "base_url": _front,
}

_CHECKS: _Checks = {
    "container": _container,
    "cloud": _text,
    "region_name": _text,
    "threadpool_size": _count,
    "prefix": _prefix,
    "auth_type": _text,
    "auth": _auth,
    "interface": _text,
    "verify": _flag,
    "cacert": _text,
    "cert": _text,
    "key": _text,
    "storage_url": _url,
    "create_container": _flag,
    "storage_policy": _text,
    "segment_size": _segment,
    "segment_container": _container,
    "connect_timeout": _seconds,
    "response_timeout": _seconds,
    "idle_timeout": _seconds,
    "memory_cache": _memory,
    "redirect": _redirect,
}

assert set(_REDIRECT_CHECKS) == {option.name for option in fields(RedirectSettings)}
assert set(_CHECKS) == {option.name for option in fields(Settings)}
