"""Reads the script's configuration from ``homeserver.yaml`` and ``database.yaml``.

The script needs three things: how to reach the database, where the media store is, and
the options of the ``media_storage_providers`` entry for Swift. Several files and folders
are merged as Synapse merges them: a top-level key of a later file replaces that of an
earlier one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from swift_provider.config import Settings, mapping, parse_settings
from swift_provider.errors import ConfigError
from swift_provider.offload.database_config import DatabaseConfig, database_config
from swift_provider.offload.media_names import shown

logger = logging.getLogger(__name__)

MODULES = (
    "swift_provider.SwiftStorageProviderBackend",
    "swift_storage_provider.SwiftStorageProviderBackend",
)
DATABASE_YAML = "database.yaml"
#: psycopg2's arguments that say which database is meant; one of them is needed.
_CONNECTING = frozenset(
    ("dsn", "dbname", "database", "host", "hostaddr", "port", "service", "user", "password")
)
#: The options that say where an entry's objects are, as far as there are flags for them.
_CHOOSING = ("container", "prefix", "cloud", "region_name", "storage_url")
#: What of a sign-in may be shown.
_SHOWN_OF_AUTH = ("auth_url", "project_name", "project_id", "username")


@dataclass(frozen=True)
class _Entry:
    """An entry of ``media_storage_providers`` that loads this project's module.

    :ivar number: its index in the list.
    :ivar options: its ``config``; may hold secrets.
    """

    number: int
    options: Mapping[str, Any] = field(repr=False)

    @property
    def where(self) -> str:
        """Its place in the file."""
        return _where(self.number)

    @property
    def place(self) -> tuple[object, ...]:
        """Where its objects are; equal for two entries that lead to the same objects."""
        texts = [_comparable(self.options, key) for key in (*_CHOOSING, "auth_type")]
        return (*texts, self.options.get("auth") or {})

    def __str__(self) -> str:
        """Where its objects are, for messages."""
        named = [f"{key} {shown(str(self.options[key]))}" for key in _CHOOSING if self._has(key)]
        if not self._has("prefix"):
            named.insert(1, "no prefix")
        auth = self.options.get("auth")
        if isinstance(auth, Mapping):
            named += [f"{key} {shown(str(auth[key]))}" for key in _SHOWN_OF_AUTH if auth.get(key)]
        return f"--entry {self.number}: {', '.join(named)}"

    def _has(self, key: str) -> bool:
        return bool(self.options.get(key))


@dataclass(frozen=True)
class Homeserver:
    """The merged configuration; empty if there is no file.

    :ivar where: the files, for messages.
    :ivar paths: as they were given.
    :ivar instead: what a command can be given if there is no file; empty if nothing helps.
    """

    options: Mapping[str, Any]
    where: str
    paths: tuple[str, ...] = ()
    instead: str = ""

    @classmethod
    def read(cls, paths: Sequence[str], instead: str = "") -> Homeserver:
        """Read and merge files; a folder stands for its ``*.yaml`` files.

        :param instead: see :attr:`instead`.
        :raises ConfigError: if a file cannot be read or does not hold a mapping.
        """
        merged: dict[str, Any] = {}
        for path in paths:
            for file in _files(path):
                merged.update(_read_mapping(file))
        return cls(merged, ", ".join(paths), tuple(paths), instead)

    @property
    def absent(self) -> str:
        """What to do without any ``homeserver.yaml``; empty if there is one."""
        if self.where:
            return ""
        return (
            "there is no homeserver.yaml in this folder. Either name it with "
            "--homeserver-config-path (Debian's package has /etc/matrix-synapse/homeserver.yaml "
            "and /etc/matrix-synapse/conf.d: name both); or run this in the folder that has it"
            + (f"; or {self.instead}" if self.instead else "")
        )

    @property
    def shown(self) -> str:
        """The files in full, for messages; empty if there is none."""
        return ", ".join(map(os.path.abspath, self.paths))

    def database(self) -> DatabaseConfig | None:
        """The database with the media tables; ``None`` if none is configured.

        :raises ConfigError: if the configuration of the database is wrong.
        """
        if self.options.get("databases"):
            return self._main_of_several(self.options["databases"])
        if self.options.get("database"):
            return database_config(self.options["database"], f"database in {self.where}")
        if self.options.get("database_path"):
            args = {"database": self.options["database_path"]}
            return DatabaseConfig("sqlite3", args, f"database_path in {self.where}")
        return None

    def _main_of_several(self, databases: object) -> DatabaseConfig:
        where = f"databases in {self.where}"
        for label, entry in mapping(databases, where).items():
            stores = mapping(entry, f"{where}, {label}").get("data_stores")
            if stores is None or "main" in stores:
                return database_config(entry, f"{where}, {label}")
        raise ConfigError(f"{where}: no database has 'main' in its data_stores")

    def media_store_path(self) -> str | None:
        """Synapse's media store; ``None`` if the configuration does not name it."""
        path = self.options.get("media_store_path")
        if path is None or isinstance(path, str):
            return path
        raise ConfigError(f"media_store_path in {self.where} must be text")

    def server_name(self) -> str | None:
        """The homeserver's name; ``None`` if the configuration does not say.

        :raises ConfigError: if it is no text.
        """
        name = self.options.get("server_name")
        if name is None and self.where:
            # Debian's package has it in /etc/matrix-synapse/conf.d/server_name.yaml.
            logger.warning(
                "No server_name in %s: what is uploaded carries no mark of this homeserver, and "
                "prune will leave it alone. Name the file that has it with "
                "--homeserver-config-path too, such as /etc/matrix-synapse/conf.d",
                self.where,
            )
        if name is None or (isinstance(name, str) and name):
            return name
        raise ConfigError(f"server_name in {self.where} must be text")

    def settings(self, flags: Mapping[str, Any], entry: int | None = None) -> Settings:
        """Swift's options: those of the module's entry, overridden by flags.

        Flags that lead elsewhere than the entry itself mean that one place, without the
        entry's mirrors. If that place is one of the mirrors, its own options apply, and none of
        the entry's: they may hold credentials for another cloud.

        :param flags: the options of the command line; ``None`` for those not given.
        :param entry: the number of the entry in ``media_storage_providers``; ``None`` to let
            the flags choose.
        :raises ConfigError: if an option is missing or wrong.
        """
        given = {key: value for key, value in flags.items() if value is not None}
        entries = self._chosen(given) if entry is None else self._numbered(entry)
        if not entries and "container" not in given:
            raise ConfigError(
                self.absent or f"no container: give CONTAINER, or {self._missing_entry()}"
            )
        if not entries and self._modules():
            logger.warning("Synapse will not find these media in Swift: %s", self._missing_entry())
        where, options = (entries[0].where, entries[0].options) if entries else ("option", {})
        mirror = _chosen_mirror(options, given, where)
        if mirror is not None:
            return replace(
                mirror, threadpool_size=given.get("threadpool_size", mirror.threadpool_size)
            )
        if "cloud" in given and _comparable(given, "cloud") != _comparable(options, "cloud"):
            # Never send the credentials in the file to another cloud.
            options = {k: v for k, v in options.items() if k not in ("auth", "auth_type")}
        if options.get("mirrors") and _leads_elsewhere(options, given, where):
            options = {k: v for k, v in options.items() if k not in ("mirrors", "name")}
        settings = parse_settings({**options, **given}, where)
        if "threadpool_size" not in given:
            return settings
        size = settings.threadpool_size
        mirrors = tuple(replace(mirror, threadpool_size=size) for mirror in settings.mirrors)
        return replace(settings, mirrors=mirrors)

    def entries(self) -> list[Settings]:
        """The places where Synapse looks: the options of each entry for Swift.

        :raises ConfigError: if an entry is wrong.
        """
        return [parse_settings(entry.options, entry.where) for entry in self._entries()]

    def _numbered(self, number: int) -> list[_Entry]:
        """The entry with this number.

        :raises ConfigError: if there is none, or it is not for Swift.
        """
        entries = self._entries()
        found = [entry for entry in entries if entry.number == number]
        if not found:
            known = "; ".join(map(str, entries)) or "there is none"
            raise ConfigError(
                f"--entry {number} is no entry for Swift of media_storage_providers in "
                f"{self.where}. The entries for Swift are: {known}"
            )
        return found

    def _chosen(self, given: Mapping[str, Any]) -> list[_Entry]:
        """The entry that the flags choose among several; empty if there is none.

        :raises ConfigError: if the flags leave more than one.
        """
        entries = self._entries()
        left = entries
        for key in _CHOOSING:
            if len(left) > 1 and key in given:
                wanted = _comparable(given, key)
                same = [one for one in left if _comparable(one.options, key) == wanted]
                # Of another container no entry can be right; other flags may be new values.
                left = same or ([] if key == "container" else left)
        if len(entries) > 1 and (not left or any(one.place != left[0].place for one in left)):
            raise ConfigError(
                f"media_storage_providers in {self.where} has several entries for Swift: give "
                "CONTAINER, --prefix, --cloud, --region-name or --storage-url so that one fits, "
                "or --entry: " + "; ".join(map(str, entries))
            )
        return left[:1]

    def _missing_entry(self) -> str:
        """The remedy for a configuration without an entry for Swift."""
        modules = self._modules()
        if not modules:
            return (
                "the homeserver.yaml whose media_storage_providers has an entry for Swift "
                "(--homeserver-config-path)"
            )
        return (
            f"correct media_storage_providers in {self.where}: its modules are "
            f"{', '.join(map(shown, modules))}, and none is {' or '.join(MODULES)}"
        )

    def _modules(self) -> list[str]:
        return [
            str(entry.get("module"))
            for entry in self.options.get("media_storage_providers") or []
            if isinstance(entry, Mapping)
        ]

    def _entries(self) -> list[_Entry]:
        """The entries that load this project's module."""
        providers = self.options.get("media_storage_providers") or []
        if not isinstance(providers, list):
            raise ConfigError(f"media_storage_providers in {self.where} must be a list")
        found = []
        for number, entry in enumerate(providers):
            if isinstance(entry, Mapping) and entry.get("module") in MODULES:
                options = mapping(entry.get("config"), _where(number))
                found.append(_Entry(number, options))
        return found


def _leads_elsewhere(options: Mapping[str, Any], given: Mapping[str, Any], where: str) -> bool:
    """Whether flags lead to other objects than an entry itself, without its mirrors."""
    alone = {key: value for key, value in options.items() if key != "mirrors"}
    return parse_settings(alone, where).place != parse_settings({**alone, **given}, where).place


def _chosen_mirror(
    options: Mapping[str, Any], given: Mapping[str, Any], where: str
) -> Settings | None:
    """The mirror of an entry that flags lead to; ``None`` if they lead to none.

    :raises ConfigError: if they fit several.
    """
    if not options.get("mirrors") or not _leads_elsewhere(options, given, where):
        return None
    chosen = {key: given[key] for key in _CHOOSING if key in given}
    found = [
        mirror
        for mirror, its in zip(
            parse_settings(options, where).mirrors, options["mirrors"], strict=True
        )
        if not _leads_elsewhere(its, chosen, where)
    ]
    if len(found) > 1:
        raise ConfigError(
            f"{where}: the flags fit several of its mirrors, "
            f"{' and '.join(mirror.label for mirror in found)}: add CONTAINER, --prefix, --cloud, "
            "--region-name or --storage-url so that one fits"
        )
    return found[0] if found else None


def read_database_yaml(path: str) -> DatabaseConfig:
    """Read the file that names the database where there is no ``homeserver.yaml``.

    It holds psycopg2's arguments, either bare or under ``postgres:``; or sqlite3's under
    ``sqlite:``; or Synapse's ``database:`` section, with that line or without.

    :raises ConfigError: if the file cannot be read or holds none of these.
    """
    options = _read_mapping(path)
    # As an argument of psycopg2, "database" is text.
    if isinstance(options.get("database"), Mapping):
        return database_config(options["database"], f"database in {path}")
    if "sqlite" in options:
        return database_config({"name": "sqlite3", "args": options["sqlite"]}, path)
    args = options.get("postgres", options)
    if "args" in options and "name" in options:
        return database_config(options, path)
    if not (isinstance(args, Mapping) and _CONNECTING.intersection(map(str, args))):
        raise ConfigError(
            f"{path} names no database: it has none of the arguments "
            f"{', '.join(sorted(_CONNECTING))}. It holds psycopg2's arguments, bare or under "
            "'postgres:', or 'sqlite: {database: PATH}', or the 'database:' block of "
            "homeserver.yaml"
        )
    return database_config({"name": "psycopg2", "args": args}, path)


def _comparable(options: Mapping[str, Any], key: str) -> str:
    """An option as text; the optional slash at the end does not count."""
    value = options.get(key)
    return "" if value is None else str(value).rstrip("/")


def _where(number: int) -> str:
    return f"media_storage_providers[{number}].config"


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise ConfigError(_unreadable(path, error)) from error
    files = [os.path.join(path, name) for name in names]
    # Synapse ignores the others.
    return [file for file in files if file.endswith(".yaml") and os.path.isfile(file)]


def _unreadable(path: str, error: OSError) -> str:
    remedy = ". Run as Synapse's user" if isinstance(error, PermissionError) else ""
    return f"cannot read {path}: {error.strerror}{remedy}"


def _read_mapping(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(_unreadable(path, error)) from error
    # A value such as the date of February 30 makes the parser raise the others.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # The parser's message may quote a word of the line, perhaps a password.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path} is not valid YAML{line}") from None
    return dict(mapping(content, path))
