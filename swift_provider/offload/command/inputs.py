"""From the command line and Synapse's configuration to what the jobs need."""

from __future__ import annotations

import argparse
import os
import sys

from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import DATABASE_YAML, Homeserver, read_database_yaml
from swift_provider.offload.database import Database
from swift_provider.offload.media_names import ROOTS
from swift_provider.offload.progress import Progress, progress

_SWIFT_FLAGS = ("container", "cloud", "region_name", "prefix", "storage_url", "threadpool_size")


class Wiring:
    """What one command line asks for.

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

        :param may_be_empty: a disk that was lost is no mistake.
        :raises ConfigError: if nobody names it, or it is not one.
        """
        path = self.arguments.base_path or self._homeserver.media_store_path()
        if path is None:
            raise ConfigError("give BASE_PATH, Synapse's media store")
        if not os.path.isdir(path):
            raise ConfigError(f"{path} is not a folder: BASE_PATH must be Synapse's media store")
        known = any(os.path.isdir(os.path.join(path, root)) for root in ROOTS)
        if not known and not (may_be_empty and not os.listdir(path)):
            raise ConfigError(
                f"{path} holds none of the folders of a media store, such as local_content: "
                "is this Synapse's media_store_path, and is it mounted?"
            )
        return str(path)

    def database(self) -> Database:
        """The database of ``homeserver.yaml`` if that was named, else of
        ``database.yaml`` if it is there.

        :raises ConfigError: if there is neither.
        :raises DatabaseUnavailableError: if there is no connection to be had.
        """
        config = self._homeserver.database()
        if os.path.exists(DATABASE_YAML) and not (self._named and config is not None):
            config = read_database_yaml(DATABASE_YAML)
        if config is None:
            raise ConfigError(
                "Synapse's database is needed, and not configured: give --homeserver-config-path, "
                f"or put {DATABASE_YAML} with psycopg2's arguments into this folder"
            )
        return Database(config)

    def settings(self) -> Settings:
        """Swift's options, flags before files.

        :raises ConfigError: if they are not complete and right.
        """
        return self._homeserver.settings(
            {name: getattr(self.arguments, name) for name in _SWIFT_FLAGS}
        )

    def progress(self, total: int | None) -> Progress:
        """Where the command shows how far it is; nobody knows the total if ``None``."""
        return progress(total, sys.stderr, wanted=not self.arguments.no_progress)
