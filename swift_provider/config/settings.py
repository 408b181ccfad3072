"""The options of a ``media_storage_providers`` entry: names, types, defaults, checks.

Parses without touching the network, and reads no file: wrong credentials show at the
first sign-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from swift_provider.config.local_disk import LOCAL_DISK_OPTIONS, LocalDiskSettings, check_local_disk
from swift_provider.config.mappings import Checks, checked
from swift_provider.config.redirect import RedirectSettings, check_redirect
from swift_provider.config.values import (
    GIB,
    MIB,
    check_auth,
    check_container,
    check_count,
    check_flag,
    check_label,
    check_memory,
    check_prefix,
    check_seconds,
    check_segment,
    check_text,
    check_url,
    type_of,
)
from swift_provider.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """Checked options, made by :func:`parse_settings`. Times are in seconds, sizes in bytes.

    ``None`` means that the option is not set: the cloud, the catalogue or the
    cluster decides.
    """

    container: str
    name: str | None = None
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
    local_disk: LocalDiskSettings | None = None
    mirrors: tuple[Settings, ...] = ()

    @property
    def label(self) -> str:
        """What people call the place that these options lead to."""
        auth_url = "" if self.auth is None else str(self.auth.get("auth_url") or "")
        host = urlsplit(self.storage_url or auth_url).hostname
        return self.name or self.cloud or host or self.container

    @property
    def members(self) -> tuple[Settings, ...]:
        """The settings of each place that holds the objects: this one, then the mirrors."""
        return (replace(self, mirrors=()), *self.mirrors)

    @property
    def place(self) -> tuple[object, ...]:
        """Equal for two settings that lead to the same objects, as far as they show it."""
        return tuple(getattr(self, option) for option in _DECIDING)


def parse_settings(options: object, where: str = "config") -> Settings:
    """Check the options of a configuration file.

    :param options: the mapping read from YAML; an option that is ``None`` counts as not set.
    :param where: the options' place in the file, put before each key in an error.
    :raises ConfigError: for an unknown key (with the nearest right one), a wrong
        type, a value out of range, or two options that contradict each other.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"{where} must hold options such as 'container: NAME', not {type_of(options)}"
        )
    for key in options:
        if key in LOCAL_DISK_OPTIONS:
            raise ConfigError(f"{where}.{key} is an option of local_disk: {where}.local_disk.{key}")
    values = checked(options, _CHECKS, where)
    if "container" not in values:
        raise ConfigError(f"{where}.container is required: the Swift container's name")
    values.setdefault("segment_container", values["container"] + "_segments")
    settings = Settings(**values)
    _check_together(settings, where)
    _check_members(settings, where)
    return settings


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


def _check_members(settings: Settings, where: str) -> None:
    labels: dict[str, str] = {}
    places: list[tuple[object, ...]] = []
    for number, member in enumerate(settings.members, -1):
        its = where if number == -1 else f"{where}.mirrors[{number}]"
        if member.place in places:
            raise ConfigError(
                f"{its} leads to the same objects as an entry before it: a mirror needs another "
                "cloud, region, account or container"
            )
        if member.label in labels:
            raise ConfigError(
                f"{labels[member.label]} and {its} would both be called {member.label!r} in logs, "
                f"metrics and commands: give one of them a name ({its}.name)"
            )
        places.append(member.place)
        labels[member.label] = its
    _check_prefixes(settings.members, where)


def _check_prefixes(members: tuple[Settings, ...], where: str) -> None:
    """A place must not take another one's objects for its own media: prune would delete them."""
    for one in members:
        folders = tuple(f"{one.prefix}{folder}/" for folder in MEDIA_FOLDERS)
        for other in members:
            if other.container == one.container and other.prefix.startswith(folders):
                raise ConfigError(
                    f"{where}: {other.label} has the prefix {other.prefix}, which is a folder of "
                    f"Synapse's media in {one.label}, and the container has the same name, "
                    f"{one.container}: {one.label} would take the objects of {other.label} for "
                    "media of its own. Choose another prefix"
                )


def check_mirrors(value: object, name: str) -> tuple[Settings, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be a list of places, not {type_of(value)}")
    return tuple(_check_mirror(item, f"{name}[{number}]") for number, item in enumerate(value))


def _check_mirror(value: object, name: str) -> Settings:
    if isinstance(value, Mapping):
        for key in (*_OF_THE_ENTRY, *LOCAL_DISK_OPTIONS):
            if key in value:
                raise ConfigError(
                    f"{name}.{key} is not an option of a mirror: {key} is an option of the entry "
                    "as a whole"
                )
    return parse_settings(value, name)


#: The media store's folders that hold media; Synapse spells the last one without an "s".
MEDIA_FOLDERS = ("local_content", "local_thumbnails", "remote_content", "remote_thumbnail")

#: Options that no mirror has of its own.
_OF_THE_ENTRY = ("memory_cache", "redirect", "local_disk", "mirrors")

#: The options that decide which objects are meant.
_DECIDING = (*("container", "prefix", "cloud", "region_name", "storage_url", "auth_type", "auth"),)

_CHECKS: Checks = {
    "container": check_container,
    "name": check_label,
    "cloud": check_text,
    "region_name": check_text,
    "threadpool_size": check_count,
    "prefix": check_prefix,
    "auth_type": check_text,
    "auth": check_auth,
    "interface": check_text,
    "verify": check_flag,
    "cacert": check_text,
    "cert": check_text,
    "key": check_text,
    "storage_url": check_url,
    "create_container": check_flag,
    "storage_policy": check_text,
    "segment_size": check_segment,
    "segment_container": check_container,
    "connect_timeout": check_seconds,
    "response_timeout": check_seconds,
    "idle_timeout": check_seconds,
    "memory_cache": check_memory,
    "redirect": check_redirect,
    "local_disk": check_local_disk,
    "mirrors": check_mirrors,
}

assert set(_CHECKS) == {option.name for option in fields(Settings)}
