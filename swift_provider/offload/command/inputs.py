"""Makes what the jobs need out of the command line and Synapse's configuration."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import DATABASE_YAML, Homeserver, read_database_yaml
from swift_provider.offload.command.place import check_place
from swift_provider.offload.command.same_database import place, same_database
from swift_provider.offload.command.slow import told_if_slow
from swift_provider.offload.database import Database
from swift_provider.offload.database_config import DatabaseConfig
from swift_provider.offload.disk_access import check_reachable, check_readable, is_absent, is_empty
from swift_provider.offload.lock import StoreLock, lock_between_passes
from swift_provider.offload.lock_holder import LOCAL_DISK
from swift_provider.offload.media_names import ROOTS, shown
from swift_provider.offload.print_line import print_line
from swift_provider.offload.progress import Progress, progress
from swift_provider.offload.tally import tells

if TYPE_CHECKING:
    from swift_provider.client import Observer
    from swift_provider.offload.bandwidth import Bandwidth
    from swift_provider.offload.command.swift_waits import SwiftWaits

_SWIFT_FLAGS = ("container", "cloud", "region_name", "prefix", "storage_url", "threadpool_size")


#: What each command needs that may be given without a ``homeserver.yaml``. ``sync`` needs an
#: entry that has ``mirrors``.
_NEEDED = {
    "update-db": (),
    "check-deleted": ("BASE_PATH",),
    "update": ("BASE_PATH",),
    "upload": ("BASE_PATH", "CONTAINER"),
    "offload": ("BASE_PATH", "CONTAINER"),
    "verify": ("BASE_PATH", "CONTAINER"),
    "restore": ("BASE_PATH", "CONTAINER"),
    "prune": ("CONTAINER",),
    "stats": ("BASE_PATH",),
    "status": ("BASE_PATH",),
}
_NEED_NO_DATABASE = ("check-deleted", "status")

#: A line of a summary that tells how long it took; of a place, after its name.
_TIME = re.compile("(^|: )Time: ")


class Inputs:
    """The inputs of one command line.

    :ivar said: the lines of the summary so far.
    :ivar bandwidth: the run's limit, if it has one.
    :ivar summary: what the run did, in one line; empty until it is over.
    :raises ConfigError: if a configuration file cannot be read.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.said: list[str] = []
        self.summary = ""
        paths: list[str] | None = arguments.homeserver_config_path
        self._named = paths is not None
        if paths is None:
            paths = [name for name in ("homeserver.yaml",) if os.path.exists(name)]
        self._homeserver = Homeserver.read(paths, _instead(arguments))
        self._settings: Settings | None = None
        self._server_name: list[str | None] = []  # empty until it was asked for
        self._database: Database | None = None
        self._shown: Progress | None = None
        self.bandwidth: Bandwidth | None = None
        self._waits: list[SwiftWaits] = []

    @property
    def files(self) -> str:
        """The files of ``homeserver.yaml`` that were read; empty if there is none."""
        return self._homeserver.shown

    def base_path(self, *, may_be_empty: bool = False) -> str:
        """Synapse's media store.

        :param may_be_empty: accept an empty folder, for a server that lost its disk.
        :raises ConfigError: if no option names it, or the folder is not a media store.
        """
        path = self.arguments.base_path or self._homeserver.media_store_path()
        if path is None:
            raise ConfigError(
                self._homeserver.absent
                or "give BASE_PATH, Synapse's media store: no media_store_path in "
                f"{self._homeserver.where}"
            )
        check_reachable(path)
        if not os.path.isdir(path):
            raise ConfigError(f"{path} is not a folder: BASE_PATH must be Synapse's media store")
        check_readable(path)
        known = any(os.path.isdir(os.path.join(path, root)) for root in ROOTS)
        if not known and not (may_be_empty and is_empty(path)):
            raise ConfigError(
                f"{path} holds none of the folders of a media store, such as local_content: "
                "is this Synapse's media_store_path, and is it mounted?"
            )
        for root in ROOTS:
            whole = os.path.join(path, root)
            if os.path.islink(whole) and not os.path.isdir(whole):
                raise ConfigError(f"{whole} is a link that leads to no folder: is it mounted?")
        return str(path)

    def media_store(self) -> str | None:
        """As :meth:`base_path`; ``None`` if there is no media store on this machine.

        :raises ConfigError: if the command line names one, or the folder is not a media store.
        """
        path = self._homeserver.media_store_path()
        if self.arguments.base_path is None and (path is None or is_absent(path)):
            return None
        return self.base_path(may_be_empty=True)

    def lock(self, base_path: str) -> StoreLock:
        """Lock a media store, as :func:`.lock_between_passes`; says if it has to wait."""
        with told_if_slow(f"Waiting for {LOCAL_DISK} to leave {base_path}", self.note):
            return lock_between_passes(base_path)

    @property
    def note(self) -> Callable[[str], None] | None:
        """Prints a line on standard error; ``None`` if no progress is wanted."""
        if self.arguments.no_progress or self.arguments.quiet:
            return None
        return partial(print_line, stream=sys.stderr)

    def database(self) -> Database:
        """Synapse's database.

        ``database.yaml`` names it if that file exists, otherwise ``homeserver.yaml``. But
        a ``homeserver.yaml`` on the command line goes before ``database.yaml``.

        :raises ConfigError: if neither file names a database; or if a ``homeserver.yaml``
            that is not on the command line names another one than ``database.yaml``.
        :raises DatabaseUnavailableError: if the database does not accept the connection.
        """
        self._database = Database(self._database_config())
        return self._database

    def _database_config(self) -> DatabaseConfig:
        config = self._homeserver.database()
        if os.path.exists(DATABASE_YAML) and not (self._named and config is not None):
            config = self._agreed(config, read_database_yaml(DATABASE_YAML))
        if config is None:
            raise ConfigError(
                self._homeserver.absent
                or f"Synapse's database is needed, and {self._homeserver.where} names none: give "
                "--homeserver-config-path also for the file that does, or put a "
                f"{DATABASE_YAML} with psycopg2's arguments into this folder"
            )
        return config

    def announce(self, *, database: bool = True, clouds: Sequence[str] = ()) -> None:
        """Say on standard error which files and which database this run uses.

        :param database: whether the run reads the database.
        :param clouds: the clouds, and the files that they come from.
        :raises ConfigError: if no database is configured, or its configuration is wrong.
        """
        if self.arguments.json or self.arguments.quiet:
            return
        using = [self._homeserver.shown or "no homeserver.yaml"]
        if database:
            config = self._database_config()
            source = f" (from {config.where})" if config.where == DATABASE_YAML else ""
            using.append(f"database {shown(place(config))}{source}")
        using += dict.fromkeys(clouds)
        print_line(f"Using {'; '.join(using)}", sys.stderr)

    @staticmethod
    def _agreed(ours: DatabaseConfig | None, other: DatabaseConfig) -> DatabaseConfig:
        """The database of ``database.yaml``, perhaps a forgotten one.

        :raises ConfigError: if ``homeserver.yaml`` names another one.
        """
        if ours is not None and not same_database(ours, other):
            raise ConfigError(
                f"{other.where} and homeserver.yaml in this folder name two databases "
                f"({shown(place(other))}; {shown(place(ours))}): remove {DATABASE_YAML}, or give "
                "--homeserver-config-path, which goes before it"
            )
        return other

    def server_name(self) -> str | None:
        """The homeserver's name, the mark of what it stores; ``None`` if not configured.

        :raises ConfigError: if it is no text.
        """
        if not self._server_name:
            self._server_name = [self._homeserver.server_name()]
        return self._server_name[0]

    def settings(self) -> Settings:
        """Swift's options; those of the command line go before those of the files.

        :raises ConfigError: if an option is missing or wrong.
        """
        if self._settings is None:
            flags = {name: getattr(self.arguments, name) for name in _SWIFT_FLAGS}
            self._settings = self._homeserver.settings(flags, self.arguments.entry)
        return self._settings

    def entries(self) -> list[Settings]:
        """Swift's options of each entry of ``homeserver.yaml``; flags do not count.

        :raises ConfigError: if an entry is wrong.
        """
        return self._homeserver.entries()

    def settings_if(self, wanted: bool) -> Settings | None:
        """:meth:`settings` if the command shall speak with Swift; otherwise ``None``.

        :raises ConfigError: if it shall not, and an option is for Swift.
        """
        if wanted:
            return self.settings()
        for name in (*_SWIFT_FLAGS, "entry"):
            if getattr(self.arguments, name) is not None:
                option = "CONTAINER" if name == "container" else f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} is of no use without --swift")
        return None

    def check_place(self) -> None:
        """Before files are deleted: see :func:`.place.check_place`.

        :raises ConfigError: if Synapse does not look at the place in Swift.
        """
        if not self.arguments.even_so:
            check_place(self._homeserver, self.settings())

    def summarize(self, lines: Sequence[str]) -> str:
        """Keep the summary, as one line without what did not happen.

        :param lines: those that follow on :attr:`said`.
        """
        told = [line for line in (*self.said, *lines) if tells(line)]
        if all(_TIME.search(line) for line in told):
            told.insert(0, "Nothing to do")
        self.summary = "; ".join(told)
        return self.summary

    def progress(self, total: int | None, unit: str = "media") -> Progress:
        """Show the command's progress on stderr.

        :param total: how many there are; ``None`` if unknown.
        :param unit: what is counted.
        """
        quiet = self.arguments.no_progress or self.arguments.quiet
        shown = progress(total, sys.stderr, wanted=not quiet, unit=unit)
        for waits in self._waits:
            waits.note, waits.moved = shown.note, shown.moved
        self._shown = shown
        return shown

    def watch(self, settings: Settings) -> Observer:
        """What tells the user that a run waits for this place in Swift."""
        # Swift's client is not imported by the commands that need no Swift.
        from swift_provider.offload.command.swift_waits import SwiftWaits

        several = len(self.settings().members) > 1
        waits = SwiftWaits(settings.label if several else "")
        self._waits.append(waits)
        if self._shown is not None:
            waits.note, waits.moved = self._shown.note, self._shown.moved
        return waits

    def waits_for(self) -> str:
        """What a run waits for that makes no progress."""
        if self._database is not None and self._database.busy:
            return "the database"
        if self.bandwidth is not None and self.bandwidth.busy:
            return "its turn (--bwlimit)"
        busy = [waits.name for waits in self._waits if waits.busy]
        return f"Swift {' and '.join(busy)}".strip() if busy else "the disk"

    def remedy(self) -> str:
        """What to check if Swift has not answered once; empty otherwise."""
        return next((waits.remedy for waits in self._waits if waits.remedy), "")


def _instead(arguments: argparse.Namespace) -> str:
    """What a command can be given in place of ``homeserver.yaml``; empty if nothing helps."""
    command = arguments.command
    if command not in _NEEDED:
        return ""
    told = []
    lacking = [name for name in _NEEDED[command] if not getattr(arguments, name.lower(), None)]
    if lacking:
        told.append(f"give {' and '.join(lacking)}")
    if command not in _NEED_NO_DATABASE:
        told.append(f"put a {DATABASE_YAML} with psycopg2's arguments into this folder")
    return ", and ".join(told)
