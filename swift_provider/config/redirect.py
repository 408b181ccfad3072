"""The options of ``redirect``: clients are sent to Swift by a temporary URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from swift_provider.config.mappings import Checks, checked
from swift_provider.config.values import (
    KIB,
    check_bytes,
    check_front,
    check_signing_key,
    check_text,
    check_window,
    type_of,
)
from swift_provider.errors import ConfigError


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


def check_redirect(value: object, name: str) -> RedirectSettings:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name} must hold options such as 'key_path: FILE', not {type_of(value)}"
        )
    settings = RedirectSettings(**checked(value, _CHECKS, name))
    if (settings.key is None) == (settings.key_path is None):
        raise ConfigError(
            f"{name} needs either {name}.key_path, a file with the key that signs temporary "
            f"URLs, or {name}.key, the key itself"
        )
    return settings


_CHECKS: Checks = {
    "key": check_signing_key,
    "key_path": check_text,
    "above": check_bytes,
    "window": check_window,
    "base_url": check_front,
}

assert set(_CHECKS) == {option.name for option in fields(RedirectSettings)}
