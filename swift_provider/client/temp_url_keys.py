"""Reads the keys that sign temporary URLs, from a setting or from a file."""

from __future__ import annotations

import logging
import os
import stat

from swift_provider.config import RedirectSettings
from swift_provider.config.values import HAS_INVISIBLE
from swift_provider.errors import ConfigError

logger = logging.getLogger(__name__)

#: More than two keys need; a larger file is the wrong one.
_LARGEST_FILE = 4096


def _is_visible(line: bytes) -> bool:
    try:
        return line.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def read_keys(settings: RedirectSettings, where: str) -> tuple[bytes, ...]:
    """The keys, one or two; the first is to sign. Reads a file, so call it at start.

    Warns if others than the file's owner and group can read it.

    :param where: the options' place in the file, for the error message.
    :raises ConfigError: if the file cannot be read, or does not hold one or two keys. The
        message has no part of its content.
    """
    if settings.key is not None:
        return tuple(settings.key.encode("utf-8").split())
    assert settings.key_path is not None
    name = f"{where}.key_path"
    try:
        with open(settings.key_path, "rb") as file:
            readable_by_all = os.fstat(file.fileno()).st_mode & stat.S_IROTH
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(
            f"{name}: cannot read {settings.key_path}: {error.strerror}. Write the key into it, "
            "and let Synapse's user read it"
        ) from None
    lines = [line.strip(b" \t\r") for line in content.split(b"\n")]
    keys = [line for line in lines if line]
    if not keys:
        raise ConfigError(f"{name}: {settings.key_path} is empty: write the key into it")
    if not lines[0]:
        raise ConfigError(
            f"{name}: the first line of {settings.key_path} is empty: write the key into it. "
            "Swift gets the first line"
        )
    if not all(map(_is_visible, keys)):
        raise ConfigError(f"{name}: {settings.key_path} {HAS_INVISIBLE}")
    if len(keys) > 2 or len(content) > _LARGEST_FILE or any(len(key.split()) > 1 for key in keys):
        raise ConfigError(
            f"{name}: {settings.key_path} must hold one or two keys, a line each, without spaces"
        )
    if readable_by_all:
        logger.warning(
            "%s: every user of this machine can read %s, and with it all media: chmod o= %s",
            name,
            settings.key_path,
            settings.key_path,
        )
    return tuple(keys)
