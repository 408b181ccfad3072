"""The command line of ``swift_media_upload``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from swift_provider.errors import ConfigError

_BASE_PATH = "Synapse's media store (default: media_store_path in homeserver.yaml)"
_DURATION = (
    "media that were not accessed for this long: 30s, 30min, 12h, 5d, 2m (two months of "
    "30 days), 1y; or since a date, such as 2024-01-31"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the usage.

        :raises ConfigError: always, with the message.
        """
        self.print_usage(sys.stderr)
        raise ConfigError(message)


class _CommandParser(_Parser):
    """Allows options between positional arguments, and before them."""

    _intermixed = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        if self._intermixed:  # Older versions of argparse come back here.
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


def parser() -> argparse.ArgumentParser:
    """The parser of all commands and options.

    :raises ConfigError: by its methods, for wrong usage.
    """
    common = _CommandParser(add_help=False)
    _add_common(common, suppressed=True)
    top = _Parser(
        prog="swift_media_upload",
        description="Move Synapse's old media from its disk to OpenStack Swift.",
        epilog="Exit status: 0 all done; 1 some files failed, or verify found media without an "
        "intact copy; 2 wrong usage or configuration; 3 Swift or the database is unreachable or "
        "refuses access, or the disk is full; 130 interrupted; 141 the reader of standard output "
        "went away. COMMAND --help shows the options of a command.",
    )
    _add_common(top, suppressed=False)
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_CommandParser
    )

    def command(name: str, text: str) -> _CommandParser:
        return commands.add_parser(name, help=text, description=text, parents=[common])

    update_db = command(
        "update-db", "Read from Synapse's database which media are old, and list them in the cache."
    )
    update_db.add_argument("duration", metavar="DURATION", help=_DURATION)
    check = command(
        "check-deleted",
        "Record in the cache which of these media are no longer on disk, or on it again.",
    )
    _add_base_path(check)
    update = command("update", "Run update-db, then check-deleted.")
    _add_base_path(update)
    update.add_argument("duration", metavar="DURATION", help=_DURATION)
    write = command(
        "write", "Print the paths of the media that are still on disk according to the cache."
    )
    write.add_argument(
        "out",
        metavar="OUT",
        nargs="?",
        default="-",
        help="file to write to (default: -, which is standard output)",
    )
    upload = command(
        "upload",
        "Upload the media in the cache that Swift does not have yet; with --delete, then delete "
        "them from the disk.",
    )
    _add_base_path(upload)
    _add_swift(upload)
    _add_upload(upload)
    verify = command(
        "verify",
        "Check that each media in Synapse's database has an intact copy on disk or in Swift, and "
        "none that is bad on disk. Without --deep nothing is downloaded: of an object without a "
        "file on disk only the length is compared with the database, not the SHA-256.",
    )
    _add_base_path(verify)
    _add_swift(verify)
    verify.add_argument(
        "--deep",
        action="store_true",
        help="download each object, too, and compare its content with the SHA-256 in Synapse's "
        "database, or with Swift's own checksum if the database has none; nothing is written to "
        "the disk",
    )
    prune = command(
        "prune", "Print the names of objects in Swift whose media Synapse does not know any more."
    )
    _add_swift(prune)
    prune.add_argument(
        "--delete",
        action="store_true",
        help="delete these objects as well; not those younger than a day, and only those that this "
        "homeserver (server_name) stored, by their metadata",
    )
    prune.add_argument(
        "--unmarked",
        action="store_true",
        help="objects too that name no homeserver, such as those of other tools; refused if "
        "another homeserver has objects in the same place",
    )
    prune.add_argument(
        "--max-share",
        metavar="SHARE",
        type=_share,
        help="delete nothing if these are more than this share of all objects of local media, or "
        "of remote media (default: 0.05 of local, 0.2 of remote; 0.5 if fewer than 20)",
    )
    restore = command(
        "restore",
        "Download the media in Synapse's database that are not on disk, or are bad there. A file "
        "has to have the length and the SHA-256 of the database; a bad one is kept as NAME~bad.",
    )
    _add_base_path(restore)
    _add_swift(restore)
    return top


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _add_common(to: argparse.ArgumentParser, *, suppressed: bool) -> None:
    """Add the options that may stand before the command or after it."""

    def default(value: object) -> object:
        # A default of the command's parser would overwrite an option before the command.
        return argparse.SUPPRESS if suppressed else value

    to.add_argument(
        "--no-progress",
        action="store_true",
        default=default(False),
        help="show no progress; failures are still printed",
    )
    to.add_argument(
        "--json",
        action="store_true",
        default=default(False),
        help="print the summary, or the error, as one JSON object",
    )
    to.add_argument(
        "--cache-db",
        metavar="PATH",
        default=default("cache.db"),
        help="file with the list of old media (default: cache.db)",
    )
    to.add_argument(
        "--log-level",
        metavar="L",
        choices=("debug", "info", "warning", "error"),
        type=str.lower,
        default=default("warning"),
        help="debug, info, warning or error (default: warning)",
    )
    to.add_argument(
        "--homeserver-config-path",
        metavar="PATH",
        action="append",
        default=default(None),
        help="Synapse's configuration, a file or a folder; may be given several times, and later "
        "files override earlier ones (default: homeserver.yaml, if it exists)",
    )


def _add_base_path(to: argparse.ArgumentParser) -> None:
    to.add_argument("base_path", metavar="BASE_PATH", nargs="?", help=_BASE_PATH)


def _add_swift(to: argparse.ArgumentParser) -> None:
    swift = to.add_argument_group(
        "Swift",
        "By default these come from the media_storage_providers entry in homeserver.yaml.",
    )
    swift.add_argument("container", metavar="CONTAINER", nargs="?", help="container in Swift")
    swift.add_argument("--cloud", metavar="NAME", help="name of the cloud in clouds.yaml")
    swift.add_argument("--region-name", metavar="NAME", help="region of the cloud")
    swift.add_argument("--prefix", metavar="TEXT", help="text before each object's name")
    swift.add_argument(
        "--storage-url", metavar="URL", help="account URL to use instead of the catalogue's"
    )
    swift.add_argument(
        "--entry",
        metavar="N",
        type=int,
        help="which entry, if there are several: its number in media_storage_providers, from 0",
    )
    swift.add_argument(
        "--threadpool-size",
        metavar="N",
        type=int,
        help="how many files to handle at once (default: 40)",
    )


def _add_upload(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--delete",
        action="store_true",
        help="delete each local file once Swift has proven that it holds the same bytes",
    )
    to.add_argument(
        "--dry-run",
        action="store_true",
        help="upload and delete nothing; only count what would be done",
    )
    to.add_argument(
        "--all",
        action="store_true",
        help="handle all media on disk, of any age, not only those in the cache",
    )
    to.add_argument(
        "--even-so",
        action="store_true",
        help="with --delete: accept a place in Swift that no entry of homeserver.yaml names, so "
        "that Synapse will not find the files; or one that depends on the environment",
    )
