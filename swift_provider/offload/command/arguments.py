"""The command line of ``swift_media_upload``."""

from __future__ import annotations

import argparse

_BASE_PATH = "Synapse's media store; by default media_store_path of homeserver.yaml"
_DURATION = (
    "media not accessed for so long: 30s, 30min, 12h, 5d, 2m (m is 30 days), 1y; "
    "or since a date, 2024-01-31"
)


def parser() -> argparse.ArgumentParser:
    """Made anew for each call; imports nothing that takes time."""
    common = argparse.ArgumentParser(add_help=False)
    _add_common(common, suppressed=True)
    top = argparse.ArgumentParser(
        prog="swift_media_upload",
        description="Move Synapse's old media from its disk to OpenStack Swift.",
        epilog="Exit status: 0 all done; 1 some files failed; 2 usage or configuration; "
        "3 Swift or the database not reachable, or access refused; 130 interrupted.",
    )
    _add_common(top, suppressed=False)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common])

    update_db = command("update-db", "Read from Synapse's database which media are old.")
    update_db.add_argument("duration", metavar="DURATION", help=_DURATION)
    check = command("check-deleted", "Note which of them are gone from the disk, or back on it.")
    _add_base_path(check)
    update = command("update", "Both: update-db, then check-deleted.")
    _add_base_path(update)
    update.add_argument("duration", metavar="DURATION", help=_DURATION)
    write = command("write", "List what the cache says is still on disk.")
    write.add_argument("out", metavar="OUT", nargs="?", default="-", help="a file, - for stdout")
    upload = command("upload", "Upload what Swift lacks.")
    _add_base_path(upload)
    _add_swift(upload)
    _add_upload(upload)
    verify = command("verify", "Look for a whole copy of each media, on disk and in Swift.")
    _add_base_path(verify)
    _add_swift(verify)
    prune = command("prune", "Name the objects of media that Synapse does not know any more.")
    _add_swift(prune)
    prune.add_argument("--delete", action="store_true", help="delete them")
    prune.add_argument(
        "--max-share",
        metavar="SHARE",
        type=_share,
        default=0.2,
        help="delete nothing if it would be more than this part of all objects (default: 0.2)",
    )
    restore = command("restore", "Download what is in Swift and not on disk.")
    _add_base_path(restore)
    _add_swift(restore)
    return top


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _add_common(to: argparse.ArgumentParser, *, suppressed: bool) -> None:
    """Options that may stand before the command or after it."""

    def default(value: object) -> object:
        # A default after the command would undo what stands before it.
        return argparse.SUPPRESS if suppressed else value

    to.add_argument(
        "--no-progress",
        action="store_true",
        default=default(False),
        help="show neither a bar nor lines of progress",
    )
    to.add_argument(
        "--cache-db",
        metavar="PATH",
        default=default("cache.db"),
        help="where the list of old media is kept (default: cache.db)",
    )
    to.add_argument(
        "--log-level",
        metavar="L",
        choices=("debug", "info", "warning", "error"),
        type=str.lower,
        default=default("warning"),
        help="debug, info, warning (default) or error",
    )
    to.add_argument(
        "--homeserver-config-path",
        metavar="PATH",
        action="append",
        default=default(None),
        help="Synapse's configuration, a file or a folder; may be repeated; later files win "
        "(default: homeserver.yaml, if there is one)",
    )


def _add_base_path(to: argparse.ArgumentParser) -> None:
    to.add_argument("base_path", metavar="BASE_PATH", nargs="?", help=_BASE_PATH)


def _add_swift(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "container",
        metavar="CONTAINER",
        nargs="?",
        help="by default, as all options of Swift, from the media_storage_providers entry "
        "of homeserver.yaml",
    )
    to.add_argument("--cloud", help="name in clouds.yaml")
    to.add_argument("--region-name", metavar="NAME", help="region of the cloud")
    to.add_argument("--prefix", help="goes before each object's name")
    to.add_argument("--storage-url", metavar="URL", help="use this instead of the catalogue's")
    to.add_argument(
        "--threadpool-size", metavar="N", type=int, help="files at a time (default: 40)"
    )
    to.add_argument("--json", action="store_true", help="print the summary as JSON")


def _add_upload(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--delete",
        action="store_true",
        help="delete each local file of which Swift has proven to hold the same bytes",
    )
    to.add_argument("--dry-run", action="store_true", help="only say what would be done")
    to.add_argument(
        "--all",
        action="store_true",
        help="look at all media on disk, whatever their age, not only at those in the cache",
    )
