"""Where clouds are written down: ``clouds.yaml`` and its companions, and ``OS_*`` variables.

Owns which files are looked at and in which order, and how they are merged.
The rules are those of openstacksdk's loader, so that one ``clouds.yaml`` means
the same here as for the ``openstack`` command:
https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
What the keys mean is ``cloud_rules``' subject.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from swift_provider.errors import ConfigError

logger = logging.getLogger(__name__)

#: What a cloud has unless it says otherwise.
DEFAULTS: Mapping[str, Any] = {
    "auth_type": "password",
    "interface": "public",
    "verify": True,
    "cacert": None,
    "cert": None,
    "key": None,
}

SITE_DIRECTORY = "/etc/openstack"

_SUFFIXES = (".yaml", ".yml", ".json")

# These choose or find a cloud; alone they do not describe one.
_SELECTORS = {
    "OS_CLOUD",
    "OS_CLOUD_NAME",
    "OS_REGION_NAME",
    "OS_CLIENT_CONFIG_FILE",
    "OS_CLIENT_SECURE_FILE",
    "OS_CLIENT_VENDOR_FILE",
}

# Left by OpenStack's test runners; never meant as credentials.
_NOT_OURS = ("OS_TEST", "OS_STD", "OS_LOG")


@dataclass(frozen=True)
class Sources:
    """Everything that was found; values may be secret, so none is shown.

    ``default`` is the cloud's name if none is asked for, ``None`` if that would
    be a guess. ``vendors`` are the profiles of ``clouds-public.yaml``. ``notes``
    say for error messages which files were used, or passed over and why.
    ``variables`` are the names behind the cloud of the environment.
    """

    clouds: Mapping[str, Any]
    default: str | None
    vendors: Mapping[str, Any]
    environment_cloud: str
    variables: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Sources clouds={list(self.clouds)} default={self.default!r}>"


def read_sources(environ: Mapping[str, str]) -> Sources:
    """Read all files and variables.

    :raises ConfigError: if a file is not a mapping, or a cloud's name is used
        by a file and by the environment.
    """
    notes: list[str] = []
    content = _read_first("clouds", "OS_CLIENT_CONFIG_FILE", environ, notes)
    secure = _read_first("secure", "OS_CLIENT_SECURE_FILE", environ, notes)
    public = _read_first("clouds-public", "OS_CLIENT_VENDOR_FILE", environ, notes)
    clouds = dict(_mapping(merge(content, secure).get("clouds"), "clouds"))
    environment_cloud = environ.get("OS_CLOUD_NAME", "envvars")
    if environment_cloud in clouds:
        raise ConfigError(
            f"the cloud '{environment_cloud}' of clouds.yaml has the name that stands for the "
            "OS_* variables: rename it, or set OS_CLOUD_NAME to another name"
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
        vendors=_mapping(public.get("public-clouds"), "public-clouds"),
        environment_cloud=environment_cloud,
        variables=variables,
        notes=tuple(notes),
    )


def candidates(stem: str, environ: Mapping[str, str]) -> list[str]:
    """The paths at which ``clouds``, ``secure`` or ``clouds-public`` may be, best first."""
    return [
        os.path.join(directory, stem + suffix)
        for directory in _directories(environ)
        for suffix in _SUFFIXES
    ]


def _directories(environ: Mapping[str, str]) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):  # it may have been removed
        yield os.getcwd()
    home = environ.get("HOME") or os.path.expanduser("~")
    user = environ.get("XDG_CONFIG_HOME", "")
    yield os.path.join(user if os.path.isabs(user) else f"{home}/.config", "openstack")
    yield os.path.join(environ.get("SNAP_REAL_HOME") or home, ".config", "openstack")
    listed = environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)
    site = [directory for directory in listed if os.path.isabs(directory)] or ["/etc/xdg"]
    # With several, openstacksdk looks into one directory of this joined name,
    # so in effect into none; looking into each would find what it does not.
    yield os.pathsep.join(os.path.join(directory, "openstack") for directory in site)
    yield SITE_DIRECTORY


def _read_first(
    stem: str, variable: str, environ: Mapping[str, str], notes: list[str]
) -> Mapping[str, Any]:
    """The first file that can be read; a broken one is passed over, as openstacksdk does."""
    paths = candidates(stem, environ)
    if environ.get(variable):
        paths.insert(0, environ[variable])
    for path in paths:
        if not os.path.exists(path):
            if path == environ.get(variable):
                notes.append(f"{path}, named by {variable}, does not exist")
            continue
        try:
            content = _parse(path)
        except OSError as error:
            problem = f"{path} cannot be read: {error.strerror}"
        except (ValueError, yaml.YAMLError) as error:
            problem = f"{path} is not valid {_format(path)}{_position(error)}"
        else:
            notes.append(f"{path} was read")
            return _mapping(content, path)
        notes.append(problem)
        logger.warning("%s; the file is passed over", problem)
    return {}


def _parse(path: str) -> Any:
    with open(path, "rb") as file:
        return json.load(file) if _format(path) == "JSON" else yaml.safe_load(file)


def _format(path: str) -> str:
    return "JSON" if path.endswith("json") else "YAML"


def _position(error: Exception) -> str:
    """Where a file is broken. What stands there is kept back: it may be a password."""
    if isinstance(error, json.JSONDecodeError):
        return f" (line {error.lineno}, column {error.colno})"
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must hold 'key: value' lines, not a {type(value).__name__}")
    return value


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, at all depths; where they differ, ``above`` wins."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping):
            under = merged.get(key)
            merged[key] = merge(under if isinstance(under, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the ``OS_*`` variables, if they describe a cloud."""
    names = [name for name in environ if name.startswith("OS_") and not name.startswith(_NOT_OURS)]
    return tuple(sorted(names)) if set(names) - _SELECTORS else ()


def _from_variables(names: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, Any]:
    values = {name.removeprefix("OS_").lower(): environ[name] for name in names}
    # Defaults count as written here, and so win over a profile's values.
    return {**DEFAULTS, **values}
