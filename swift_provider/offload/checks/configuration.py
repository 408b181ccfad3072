"""Checks Synapse's configuration files, as far as they concern this project."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from swift_provider.config import Settings
from swift_provider.config.mappings import unknown
from swift_provider.config.values import check_bytes
from swift_provider.errors import ConfigError
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.command.homeserver import MODULES, Homeserver
from swift_provider.offload.media_names import shown

#: What Synapse reads in an entry. It ignores other keys.
_KEYS_OF_AN_ENTRY = ("module", "store_local", "store_remote", "store_synchronous", "config")
#: Whose media Synapse stores with each option.
_WHOSE = {
    "store_local": "that its own users upload",
    "store_remote": "that come from other servers",
}
#: Synapse's default.
_MAX_UPLOAD_SIZE = "50M"


def read_homeserver(findings: Findings, paths: Sequence[str] | None) -> Homeserver | None:
    """Read the files.

    :param paths: of the command line; ``None`` for the one in the working directory.
    :returns: ``None`` if they cannot be read.
    """
    if paths is None:
        paths = [name for name in ("homeserver.yaml",) if os.path.exists(name)]
    if not paths:
        findings.wrong(
            "homeserver.yaml",
            "there is none in this folder: give --homeserver-config-path (with Debian's package "
            "/etc/matrix-synapse/homeserver.yaml, and once more with /etc/matrix-synapse/conf.d)",
        )
        return None
    try:
        homeserver = Homeserver.read(paths)
        name = homeserver.options.get("server_name")
        if name:
            homeserver.server_name()
    except (ConfigError, OSError) as error:
        # An error about a file that this user may not read has its remedy.
        remedy = "" if isinstance(error.__cause__, PermissionError) else ": correct it"
        findings.wrong("homeserver.yaml", f"{error}{remedy}")
        return None
    if name:
        findings.ok("homeserver.yaml", f"read {homeserver.where}, server_name {shown(name)}")
    else:
        findings.wrong(
            "homeserver.yaml",
            f"no server_name in {homeserver.where}: give the file that has it too, with "
            "--homeserver-config-path (with Debian's package /etc/matrix-synapse/conf.d)",
        )
    return homeserver


class Entry(NamedTuple):
    """An entry of ``media_storage_providers`` for Swift.

    :ivar where: its options' place in ``homeserver.yaml``.
    :ivar stores: whether Synapse, or ``local_disk``, stores anything there.
    """

    where: str
    settings: Settings
    stores: bool


def read_entries(findings: Findings, homeserver: Homeserver) -> list[Entry]:
    """The entries for Swift; empty if they are wrong."""
    try:
        entries = homeserver.entries()
    except ConfigError as error:
        findings.failed("options", error)
        return []
    if not entries:
        findings.wrong(
            "options",
            f"media_storage_providers in {homeserver.where} has no entry whose module is "
            f"{MODULES[0]}: add one, or give the file that has it with --homeserver-config-path",
        )
        return []
    findings.ok("options", f"{_count(len(entries), 'entry', 'entries')} for Swift")
    for number, entry in _ours(homeserver):
        where = f"media_storage_providers[{number}]"
        for key in entry:
            if key not in _KEYS_OF_AN_ENTRY:
                findings.wrong("options", unknown(key, _KEYS_OF_AN_ENTRY, where))
        _judge_stores(findings, homeserver.options, where, entry)
    _judge_what_synapse_refuses(findings, homeserver.options, entries)
    return [
        Entry(
            f"media_storage_providers[{number}].config",
            settings,
            _stores(entry) or settings.local_disk is not None,
        )
        for (number, entry), settings in zip(_ours(homeserver), entries, strict=True)
    ]


def largest_media(homeserver: Homeserver) -> int | None:
    """The bytes that a media has at most; ``None`` if that cannot be read."""
    value = homeserver.options.get("max_upload_size") or _MAX_UPLOAD_SIZE
    try:
        return check_bytes(value, "max_upload_size")
    except ConfigError:
        return None


def keeps_local_media(homeserver: Homeserver) -> bool:
    """Whether Synapse keeps media on its disk."""
    return homeserver.options.get("enable_local_media_storage") is not False


def _ours(homeserver: Homeserver) -> list[tuple[int, Mapping[str, Any]]]:
    """The number of each entry for Swift, and all of it."""
    providers = homeserver.options.get("media_storage_providers") or []
    return [
        (number, entry)
        for number, entry in enumerate(providers)
        if isinstance(entry, Mapping) and entry.get("module") in MODULES
    ]


def _stores(entry: Mapping[str, Any]) -> bool:
    return any(entry.get(option) for option in _WHOSE)


def _judge_stores(
    findings: Findings, options: Mapping[str, Any], where: str, entry: Mapping[str, Any]
) -> None:
    off = [option for option in _WHOSE if not entry.get(option)]
    if not _stores(entry):
        findings.note(
            "options",
            f"{where}: store_local and store_remote are both false, so Synapse stores nothing "
            "there and only reads: set them to true",
        )
        return
    for option in off:
        findings.note(
            "options",
            f"{where}: {option} is false, so Synapse does not store media {_WHOSE[option]} there: "
            "set it to true unless you mean this",
        )
    if options.get("enable_local_media_storage") is False and not entry.get("store_synchronous"):
        findings.wrong(
            "options",
            f"{where}: enable_local_media_storage is false, so a file whose upload to Swift fails "
            "in the background is lost: set store_synchronous to true",
        )


def _judge_what_synapse_refuses(
    findings: Findings, options: Mapping[str, Any], entries: Sequence[Settings]
) -> None:
    """Synapse, or the module in it, does not start with these."""
    if options.get("backup_media_store_path"):
        findings.wrong(
            "options",
            "Synapse does not start with backup_media_store_path beside media_storage_providers: "
            "remove backup_media_store_path",
        )
    keeping = sum(entry.local_disk is not None for entry in entries)
    if keeping > 1:
        findings.wrong("options", f"local_disk is in {keeping} entries: leave it in one")
    if keeping and options.get("enable_local_media_storage") is False:
        findings.wrong(
            "options",
            "enable_local_media_storage is false, so there is no disk to keep: remove local_disk",
        )


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
