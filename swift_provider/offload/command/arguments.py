"""The command line of ``swift_media_upload``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from swift_provider._version import __version__
from swift_provider.config.values import (
    check_bytes,
    check_container,
    check_count,
    check_prefix,
    check_text,
    check_url,
)
from swift_provider.errors import ConfigError

_BASE_PATH = "Synapse's media store (default: media_store_path in homeserver.yaml)"
_DURATION = (
    "media that were not accessed for this long: 30s, 30min, 12h, 5d, 1w, 2m (two months of "
    "30 days), 1y; or since a date, such as 2024-01-31"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the usage.

        :raises ConfigError: always, with the message.
        """
        self.print_usage(sys.stderr)
        raise ConfigError(f"{message} ({self.prog} --help explains the options)")


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
            found, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def parser() -> argparse.ArgumentParser:
    """The parser of all commands and options.

    :raises ConfigError: by its methods, for wrong usage.
    """
    common = _CommandParser(add_help=False)
    _add_common(common, suppressed=True)
    top = _Parser(
        prog="swift_media_upload",
        description="Move Synapse's old media from its disk to OpenStack Swift.",
        epilog="Exit status: 0 all done, or ended by --max-duration; 1 some files failed, verify "
        "found media without an intact copy, sync different objects, or status something wrong; 2 "
        "wrong usage or configuration, or another run; 3 Swift or the database is unreachable or "
        "refuses access, or the disk is full; 130 interrupted; 141 the reader of standard output "
        "closed it. COMMAND --help shows the options of a command.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
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
    upload.add_argument(
        "--all",
        action="store_true",
        help="handle all media on disk, of any age, not only those in the cache",
    )
    offload = command("offload", "Run update, then upload: all that a nightly run needs.")
    _add_base_path(offload)
    offload.add_argument("duration", metavar="DURATION", help=_DURATION)
    _add_swift(offload)
    _add_upload(offload)
    offload.set_defaults(all=False)
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
        "--dry-run",
        action="store_true",
        help="the same as without --delete: print the names, and delete nothing, even if --delete "
        "is given too",
    )
    prune.add_argument(
        "--min-age",
        metavar="DURATION",
        default="1d",
        help="leave younger objects alone, such as 30d (default, and the least: 1d)",
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
    _add_pace(restore)
    restore.add_argument(
        "--media",
        metavar="ID",
        help="restore only this media: mxc://SERVER/ID, SERVER/ID or ID",
    )
    restore.add_argument(
        "--user", metavar="USER", help="restore only what this user of the homeserver uploaded"
    )
    restore.add_argument(
        "--dry-run",
        action="store_true",
        help="restore nothing; only count what is missing on disk, by the length alone",
    )
    sync = command(
        "sync",
        "Copy objects between the places in Swift that mirror each other, where one lacks what "
        "another has. Nothing is deleted, and only an object that cannot be relied on is replaced, "
        "by one with the same content.",
    )
    _add_sync(sync)
    status = command(
        "status",
        "Show what is wrong, which of the places in Swift that homeserver.yaml names can be used "
        "now, what local_disk did last to keep the disk within its budget, and the last run of "
        "each command.",
    )
    _add_base_path(status)
    stats = command(
        "stats",
        "Count the media: by kind, by the time since they were last accessed, by origin; what is "
        "on disk, and what 'update DURATION' and 'upload --delete' would free there. Changes "
        "nothing.",
    )
    _add_base_path(stats)
    stats.add_argument(
        "--swift",
        action="store_true",
        help="list the container, too, and compare; a listing may be some minutes late",
    )
    _add_swift(stats)
    check_all = command(
        "check",
        "Check the configuration before Synapse is restarted: files, sign-in, containers and "
        "rights of each place in Swift, database, media store. Where Synapse stores media, it "
        "stores one small object in each container and removes it; it changes nothing else.",
    )
    _add_base_path(check_all)
    return top


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line.

    :raises ConfigError: if they are wrong.
    """
    arguments = parser().parse_args(argv)
    option = getattr(arguments, "container_option", None)
    if option is not None:
        if arguments.container not in (None, option):
            raise ConfigError(
                f"two containers: {arguments.container} and --container {option}. Give one"
            )
        arguments.container = option
    return arguments


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"SHARE is a number from 0 to 1, such as 0.1, not {text}")
    return share


def _count(text: str) -> int:
    try:
        return check_count(int(text) if text.isdecimal() else text, "N")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(text: str) -> int:
    try:
        rate = check_bytes(text, "RATE")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not rate:
        raise argparse.ArgumentTypeError("RATE must be more than 0")
    return rate


def _option(name: str) -> Callable[[str], str]:
    """Check the value of an option as the one of the configuration that it replaces.

    :param name: the option, for messages.
    """

    def check(text: str) -> str:
        try:
            _CHECKED[name](text, name)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


_CHECKED: dict[str, Callable[[object, str], Any]] = {
    "CONTAINER": check_container,
    "TEXT": check_prefix,
    "URL": check_url,
    "NAME": check_text,
}


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
        "-q",
        "--quiet",
        action="store_true",
        default=default(False),
        help="print only failures, and the summary in one line",
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
        "By default these come from the media_storage_providers entry in homeserver.yaml. If it "
        "has mirrors, the command works with all places; with options that lead elsewhere than "
        "the entry itself, with that one place only.",
    )
    container = _option("CONTAINER")
    swift.add_argument(
        "container", metavar="CONTAINER", nargs="?", type=container, help="container in Swift"
    )
    swift.add_argument(
        "--container",
        metavar="CONTAINER",
        dest="container_option",
        type=container,
        help="the same, where BASE_PATH is left out",
    )
    name = _option("NAME")
    swift.add_argument(
        "--cloud", metavar="NAME", type=name, help="name of the cloud in clouds.yaml"
    )
    swift.add_argument("--region-name", metavar="NAME", type=name, help="region of the cloud")
    swift.add_argument(
        "--prefix", metavar="TEXT", type=_option("TEXT"), help="text before each object's name"
    )
    swift.add_argument(
        "--storage-url",
        metavar="URL",
        type=_option("URL"),
        help="account URL to use instead of the catalogue's",
    )
    _add_entry(swift)


def _add_entry(to: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    to.add_argument(
        "--entry",
        metavar="N",
        type=int,
        help="which entry, if there are several: its number in media_storage_providers, from 0",
    )
    to.add_argument(
        "--threadpool-size",
        metavar="N",
        type=_count,
        help="how many files to handle at once (default: the entry's threadpool_size, or 40)",
    )


def _add_sync(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--from",
        metavar="NAME",
        dest="source",
        help="copy only from this place: the name of the entry or of a mirror, or else its cloud",
    )
    to.add_argument("--to", metavar="NAME", dest="target", help="copy only to this place")
    to.add_argument(
        "--dry-run", action="store_true", help="copy nothing; only count what would be done"
    )
    to.add_argument(
        "--proof",
        action="store_true",
        help="ask each place about each object, also where the listings show equal ones: finds "
        "objects that Swift has lost, or will delete (X-Delete-At)",
    )
    _add_entry(to)
    # The places are those of the entry.
    to.set_defaults(
        container=None,
        container_option=None,
        cloud=None,
        region_name=None,
        prefix=None,
        storage_url=None,
    )


def _add_pace(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--max-duration",
        metavar="DURATION",
        help="begin no other files after so long, such as 4h; the next run continues",
    )
    to.add_argument(
        "--bwlimit",
        metavar="RATE",
        type=_rate,
        help="bytes a second on average, such as 5M: each file goes at full speed, with pauses "
        "between the files",
    )


def _add_upload(to: argparse.ArgumentParser) -> None:
    _add_pace(to)
    to.add_argument(
        "--delete",
        action="store_true",
        help="delete each local file once Swift has proven that it holds the same bytes",
    )
    to.add_argument(
        "--delete-when",
        choices=("all", "any"),
        default="all",
        help="with --delete and mirrors: whether all places have to prove that, or one is enough "
        "(default: all)",
    )
    to.add_argument(
        "--dry-run",
        action="store_true",
        help="upload and delete nothing; only count what would be done",
    )
    to.add_argument(
        "--even-so",
        action="store_true",
        help="with --delete: delete although no entry of homeserver.yaml names the place in Swift, "
        "so that Synapse will not find the files; or although it is one of several mirrors, or the "
        "environment chooses the cloud",
    )
