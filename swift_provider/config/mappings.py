"""Helpers for every reader of a configuration file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from swift_provider.errors import ConfigError

#: A check of one option: called with the value and the option's full name, returns the
#: checked value, raises :class:`ConfigError`.
Checks = Mapping[str, Callable[[object, str], Any]]


def checked(options: Mapping[Any, Any], checks: Checks, where: str) -> dict[str, Any]:
    """The options that are set, each checked.

    :param where: the options' place in the file.
    :raises ConfigError: for an unknown key (with the nearest right one), or what a check raises.
    """
    for key in options:
        if key not in checks:
            raise ConfigError(unknown(key, checks, where))
    return {
        key: check(options[key], f"{where}.{key}")
        for key, check in checks.items()
        if options.get(key) is not None
    }


def unknown(key: object, known: Iterable[str], where: str) -> str:
    """What is wrong with a key that is not among the known ones."""
    known = tuple(known)
    near = nearest(str(key), known)
    hint = f"did you mean '{near}'?" if near else f"the options are {', '.join(known)}"
    return f"{where}.{key} is not an option; {hint}"


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
