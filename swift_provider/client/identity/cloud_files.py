"""Reads clouds from ``clouds.yaml``, its companion files and the ``OS_*`` variables.

Decides which files to read, in which order, and how to merge them. Follows the
rules of openstacksdk's loader, so that one ``clouds.yaml`` means the same here
and for the ``openstack`` command. Does not look into the directories of snaps.
https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
``cloud_rules`` gives the keys inside a cloud their meaning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from swift_provider.config import mapping
from swift_provider.errors import ConfigError

logger = logging.getLogger(__name__)

#: The values of keys that a cloud does not set.
DEFAULTS: Mapping[str, Any] = {
    "auth_type": "password",
    "interface": "public",
    "verify": True,
    "cacert": None,
    "cert": None,
    "key": None,
}

SITE_DIRECTORY = "/etc/openstack"

#: The end of the note about a file that was read.
_WAS_READ = " was read"

_SUFFIXES = (".yaml", ".yml", ".json")

# These variables choose or locate a cloud. Without others they do not describe one.
_SELECTORS = {
    "OS_CLOUD",
    "OS_CLOUD_NAME",
    "OS_REGION_NAME",
    "OS_CLIENT_CONFIG_FILE",
    "OS_CLIENT_SECURE_FILE",
    "OS_CLIENT_VENDOR_FILE",
}

# OpenStack's test runners set variables with these prefixes. They are not credentials.
_NOT_CREDENTIALS = ("OS_TEST", "OS_STD", "OS_LOG")


@dataclass(frozen=True)
class Sources:
    """The clouds of all files and variables. ``repr`` shows no value: it may be secret.

    :ivar default: the cloud to use if the settings name none; ``None`` if there
        are several to choose from, or no cloud at all.
    :ivar vendors: the profiles of ``clouds-public.yaml``.
    :ivar environment_cloud: the name of the cloud that the variables describe.
    :ivar variables: the names of these variables; empty if they describe no cloud.
    :ivar notes: for error messages: the files that were read, and those that were
        passed over, with the reason.
    :ivar files: those that were read.
    :ivar problems: why others were passed over, with the remedy.
    """

    clouds: Mapping[str, Any]
    default: str | None
    vendors: Mapping[str, Any]
    environment_cloud: str
    variables: tuple[str, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...]
    problems: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Sources clouds={list(self.clouds)} default={self.default!r}>"


def read_sources(environ: Mapping[str, str]) -> Sources:
    """Read all files and variables.

    :raises ConfigError: if a file does not hold a mapping, if a variable names a file that does
        not exist, or if a cloud in a
        file has the name that is reserved for the variables.
    """
    notes: list[str] = []
    content = _read_first("clouds", "OS_CLIENT_CONFIG_FILE", environ, notes)
    secure = _read_first("secure", "OS_CLIENT_SECURE_FILE", environ, notes)
    public = _read_first("clouds-public", "OS_CLIENT_VENDOR_FILE", environ, notes)
    clouds = dict(mapping(merge(content, secure).get("clouds"), "clouds"))
    environment_cloud = environ.get("OS_CLOUD_NAME", "envvars")
    if environment_cloud in clouds:
        raise ConfigError(
            f"the cloud '{environment_cloud}' of clouds.yaml has the name that is reserved for "
            "the OS_* variables: rename it, or set OS_CLOUD_NAME to another name"
        )
    default = environ.get("OS_CLOUD") or None
    variables = _variables(environ)
    if variables:
        clouds[environment_cloud] = _from_variables(variables, environ)
        default = default or environment_cloud
    if default is None and len(clouds) == 1:
        default = next(iter(clouds))
    return Sources(
        clouds=clouds,
        default=default,
        vendors=mapping(public.get("public-clouds"), "public-clouds"),
        environment_cloud=environment_cloud,
        variables=variables,
        notes=tuple(notes),
        files=tuple(note.removesuffix(_WAS_READ) for note in notes if note.endswith(_WAS_READ)),
        problems=tuple(note for note in notes if not note.endswith(_WAS_READ)),
    )


def candidates(stem: str, environ: Mapping[str, str]) -> list[str]:
    """The paths at which ``clouds``, ``secure`` or ``clouds-public`` may be, in reading order."""
    return [
        os.path.join(directory, stem + suffix)
        for directory in _directories(environ)
        for suffix in _SUFFIXES
    ]


def _directories(environ: Mapping[str, str]) -> Iterable[str]:
    directories = []
    with contextlib.suppress(FileNotFoundError):  # the working directory was removed
        directories.append(os.getcwd())
    home = environ.get("HOME") or os.path.expanduser("~")
    config_home = os.path.join(home, ".config")
    # XDG_CONFIG_DIRS counts only if it names one directory. openstacksdk finds nothing
    # in several either.
    for parent in (
        _absolute(environ.get("XDG_CONFIG_HOME"), config_home),
        config_home,
        _absolute(environ.get("XDG_CONFIG_DIRS"), "/etc/xdg"),
    ):
        directories.append(os.path.join(parent, "openstack"))
    directories.append(SITE_DIRECTORY)
    # Without duplicates, so that a broken file is reported once.
    return dict.fromkeys(directories)


def _absolute(directory: str | None, default: str) -> str:
    # The XDG specification ignores relative paths, and openstacksdk ignores them as well.
    return directory if directory and os.path.isabs(directory) else default


def _read_first(
    stem: str, variable: str, environ: Mapping[str, str], notes: list[str]
) -> Mapping[str, Any]:
    """The content of the first file that is valid. Broken files are passed over, as
    openstacksdk does; ``notes`` gets a line about each file.

    :raises ConfigError: if the variable names a file that does not exist. openstacksdk would
        take another file, with other credentials.
    """
    paths = candidates(stem, environ)
    if environ.get(variable):
        paths.insert(0, environ[variable])
    for path in paths:
        if not os.path.exists(path):
            if path == environ.get(variable):
                raise ConfigError(
                    f"{path}, named by {variable}, does not exist: correct or unset {variable}"
                )
            continue
        try:
            content = _parse(path)
        except OSError as error:
            problem = f"{path} cannot be read: {error.strerror}"
            if isinstance(error, PermissionError):
                problem += " (give it to the user that Synapse runs as, by chown; run as that user)"
        # A value such as the date of February 30 makes the parser raise the others.
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
            problem = f"{path} is not valid {_format(path)}{_position(error)}: correct it"
        else:
            notes.append(f"{path}{_WAS_READ}")
            return mapping(content, path)
        notes.append(problem)
        logger.warning("%s; the file is passed over", problem)
    return {}


def _parse(path: str) -> Any:
    with open(path, "rb") as file:
        return json.load(file) if _format(path) == "JSON" else yaml.safe_load(file)


def _format(path: str) -> str:
    return "JSON" if path.endswith("json") else "YAML"


def _position(error: Exception) -> str:
    """The place of a syntax error, without the text there: it may be a password."""
    if isinstance(error, json.JSONDecodeError):
        return f" (line {error.lineno}, column {error.colno})"
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one, at all depths. If both have a value, ``above`` wins."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping):
            under = merged.get(key)
            merged[key] = merge(under if isinstance(under, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the ``OS_*`` variables; none if they describe no cloud."""
    names = [
        name for name in environ if name.startswith("OS_") and not name.startswith(_NOT_CREDENTIALS)
    ]
    return tuple(sorted(names)) if set(names) - _SELECTORS else ()


def _from_variables(names: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, Any]:
    values = {name.removeprefix("OS_").lower(): environ[name] for name in names}
    # openstacksdk adds the defaults here already, so that they win over a profile's values.
    return {**DEFAULTS, **values}
