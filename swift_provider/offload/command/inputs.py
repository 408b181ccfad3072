"""Makes what the jobs need out of the command line and Synapse's configuration."""

from __future__ import annotations

import argparse
import os
import sys

from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import DATABASE_YAML, Homeserver, read_database_yaml
from swift_provider.offload.command.place import check_place
from swift_provider.offload.command.same_database import place, same_database
from swift_provider.offload.database import Database, DatabaseConfig
from swift_provider.offload.media_names import ROOTS, shown
from swift_provider.offload.progress import Progress, progress

_SWIFT_FLAGS = ("container", "cloud", "region_name", "prefix", "storage_url", "threadpool_size")


class Inputs:
    """The inputs of one command line.

    :raises ConfigError: if a configuration file cannot be read.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        paths: list[str] | None = arguments.homeserver_config_path
        self._named = paths is not None
        if paths is None:
            paths = [name for name in ("homeserver.yaml",) if os.path.exists(name)]
        self._homeserver = Homeserver.read(paths)

    def base_path(self, *, may_be_empty: bool = False) -> str:
        """Synapse's media store.

        :param may_be_empty: accept an empty folder, for a server that lost its disk.
        :raises ConfigError: if no option names it, or the folder is not a media store.
        """
        path = self.arguments.base_path or self._homeserver.media_store_path()
        if path is None:
            raise ConfigError(
                "give BASE_PATH, Synapse's media store: no media_store_path in homeserver.yaml"
            )
        if not os.path.isdir(path):
            raise ConfigError(f"{path} is not a folder: BASE_PATH must be Synapse's media store")
        known = any(os.path.isdir(os.path.join(path, root)) for root in ROOTS)
        if not known and not (may_be_empty and not os.listdir(path)):
            raise ConfigError(
                f"{path} holds none of the folders of a media store, such as local_content: "
                "is this Synapse's media_store_path, and is it mounted?"
            )
        for root in ROOTS:
            whole = os.path.join(path, root)
            if os.path.islink(whole) and not os.path.isdir(whole):
                raise ConfigError(f"{whole} is a link that leads to no folder: is it mounted?")
        return str(path)

    def database(self) -> Database:
        """Synapse's database.

        ``database.yaml`` names it if that file exists, otherwise ``homeserver.yaml``. But
        a ``homeserver.yaml`` on the command line goes before ``database.yaml``.

        :raises ConfigError: if neither file names a database; or if a ``homeserver.yaml``
            that is not on the command line names another one than ``database.yaml``.
        :raises DatabaseUnavailableError: if the database does not accept the connection.
        """
        config = self._homeserver.database()
        if os.path.exists(DATABASE_YAML) and not (self._named and config is not None):
            config = self._agreed(config, read_database_yaml(DATABASE_YAML))
        if config is None:
            raise ConfigError(
                "Synapse's database is needed, and not configured: give --homeserver-config-path, "
                f"or put a {DATABASE_YAML} with psycopg2's arguments into this folder"
            )
        return Database(config)

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
        return self._homeserver.server_name()

    def settings(self) -> Settings:
        """Swift's options; those of the command line go before those of the files.

        :raises ConfigError: if an option is missing or wrong.
        """
        return self._homeserver.settings(
            {name: getattr(self.arguments, name) for name in _SWIFT_FLAGS}, self.arguments.entry
        )

    def check_place(self) -> None:
        """Before files are deleted: see :func:`.place.check_place`.

        :raises ConfigError: if Synapse does not look at the place in Swift.
        """
        if not self.arguments.even_so:
            check_place(self._homeserver, self.settings())

    def progress(self, total: int | None) -> Progress:
        """Show the command's progress on stderr.

        :param total: how many media there are; ``None`` if unknown.
        """
        return progress(total, sys.stderr, wanted=not self.arguments.no_progress)
